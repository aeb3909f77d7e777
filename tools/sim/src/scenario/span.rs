//! Durations as people write them: `"40ms"`, `"2.5s"`, `"3m"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time in a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Nothing.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// Whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Whole milliseconds.
    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// In microseconds, the world's unit.
    #[must_use]
    pub fn micros(self) -> u64 {
        u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(unit);
        let scale = match unit.trim() {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => {
                return Err(format!("`{text}` is no duration: write \"40ms\", \"2.5s\", \"3m\""));
            }
        };
        let number: f64 = number.parse().map_err(|_| format!("`{text}` has no number"))?;
        Duration::try_from_secs_f64(number * scale)
            .map(Self)
            .map_err(|_| format!("`{text}` is out of range"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0.as_secs_f64())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_durations_with_a_unit() {
        assert_eq!("40ms".parse(), Ok(Span::millis(40)));
        assert_eq!("2.5s".parse(), Ok(Span::millis(2_500)));
        assert_eq!("3m".parse(), Ok(Span::seconds(180)));
        assert!("3".parse::<Span>().is_err());
        assert!("s".parse::<Span>().is_err());
        assert!("1 day".parse::<Span>().is_err());
    }
}
