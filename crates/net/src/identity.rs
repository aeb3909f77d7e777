//! Who this node is: an Ed25519 key pair, kept in a file or made from a seed.
//!
//! Decides how the key is stored and how libp2p's name of a peer and Banyan's translate into each
//! other. What a name entitles to is left to `banyan-core`.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use banyan_wire::PeerId;
use libp2p::identity::Keypair;
use thiserror::Error;

/// The transport identity of a node.
#[derive(Clone)]
pub struct Identity {
    keypair: Keypair,
    peer: PeerId,
}

/// Why an identity could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file exists but cannot be read, or cannot be made.
    #[error("cannot use the identity file {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file holds something else.
    #[error(
        "the identity file {} holds no key: it must be 32 bytes or 64 hexadecimal digits",
        .0.display()
    )]
    Content(PathBuf),
}

impl Identity {
    /// Makes the identity of a 32-byte Ed25519 seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let keypair = Keypair::ed25519_from_bytes(seed).expect("any 32 bytes are an Ed25519 seed");
        Self::from_keypair(keypair)
    }

    /// Makes a new one from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_seed(random_seed())
    }

    /// Reads the seed in the file at `path`, raw or as hexadecimal digits; makes a new one, readable
    /// by its owner alone, where there is no such file.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and what is wrong with it.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        load_or_create_seed(path).map(Self::from_seed)
    }

    /// The node's name.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    pub(crate) fn keypair(&self) -> Keypair {
        self.keypair.clone()
    }

    fn from_keypair(keypair: Keypair) -> Self {
        let peer = from_libp2p(&keypair.public().to_peer_id()).expect("the key is Ed25519");
        Self { keypair, peer }
    }
}

impl fmt::Debug for Identity {
    /// Shows whose key it is, never the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:.8})", self.peer)
    }
}

/// Reads the seed in the file at `path`, raw or as hexadecimal digits; makes a new one, readable by
/// its owner alone, where there is no such file.
///
/// # Errors
/// [`IdentityError`] names the file and what is wrong with it.
pub fn load_or_create_seed(path: &Path) -> Result<[u8; 32], IdentityError> {
    let file = |error| IdentityError::File { path: path.to_owned(), error };
    match fs::read(path) {
        Ok(content) => read_seed(&content).ok_or_else(|| IdentityError::Content(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let seed = random_seed();
            write_private(path, &seed).map_err(file)?;
            Ok(seed)
        }
        Err(error) => Err(file(error)),
    }
}

/// 32 bytes of the system's randomness, by way of the one generator libp2p already brings.
pub fn random_seed() -> [u8; 32] {
    let keypair = Keypair::generate_ed25519().try_into_ed25519().expect("it was just made one");
    keypair.secret().as_ref().try_into().expect("a seed has 32 bytes")
}

/// Banyan's name of a libp2p peer; `None` unless its key is Ed25519.
pub(crate) fn from_libp2p(peer: &libp2p::PeerId) -> Option<PeerId> {
    PeerId::from_libp2p_bytes(&peer.to_bytes()).ok()
}

/// libp2p's name of a peer; `None` only if libp2p does not take the bytes.
pub(crate) fn to_libp2p(peer: &PeerId) -> Option<libp2p::PeerId> {
    libp2p::PeerId::from_bytes(&peer.to_libp2p_bytes()).ok()
}

fn read_seed(content: &[u8]) -> Option<[u8; 32]> {
    if let Ok(seed) = content.try_into() {
        return Some(seed);
    }
    let text = std::str::from_utf8(content).ok()?.trim();
    Some(text.parse::<banyan_wire::Key>().ok()?.0)
}

fn write_private(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{}", banyan_wire::Key(*seed))?;
    file.sync_all()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_created_identity_is_the_one_that_is_loaded_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let created = Identity::load_or_create(&path).unwrap();
        let loaded = Identity::load_or_create(&path).unwrap();
        assert_eq!(created.peer(), loaded.peer());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_raw_seed_and_its_digits_are_the_same_identity() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("raw");
        fs::write(&path, [7; 32]).unwrap();
        let raw = Identity::load_or_create(&path).unwrap();
        assert_eq!(raw.peer(), Identity::from_seed([7; 32]).peer());
    }

    #[test]
    fn a_file_that_holds_no_key_is_refused_by_name_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes.txt");
        fs::write(&path, "not a key").unwrap();
        let error = Identity::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("notes.txt"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"not a key");
    }

    #[test]
    fn both_names_of_a_peer_translate_into_each_other() {
        let peer = Identity::from_seed([3; 32]).peer();
        assert_eq!(from_libp2p(&to_libp2p(&peer).unwrap()), Some(peer));
    }
}
