//! How a command ends when it does not end well: one line, and an exit code.

use std::fmt;

/// What a command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a command ended early. Its text is one line that says what is wrong and, where it helps,
/// what to do.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something that cannot be; exit code 2.
    Usage(String),
    /// It could have worked and did not; exit code 1.
    Failed(anyhow::Error),
}

impl Failure {
    /// A bad command line.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// A failure in so many words.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::Failed(anyhow::Error::msg(text.into()))
    }

    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl<E> From<E> for Failure
where
    E: std::error::Error + Send + Sync + 'static,
{
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
