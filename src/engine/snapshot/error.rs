//! Why a snapshot was not loaded or not written: which file, what is wrong with it, and what to do.

use std::path::{Path, PathBuf};
use std::{error, fmt, io};

/// A snapshot that was not loaded, or not written.
#[derive(Debug)]
pub struct SnapshotError {
    path: PathBuf,
    what: What,
}

#[derive(Debug)]
pub(in crate::engine) enum What {
    /// Nothing can be written beside it.
    Place(io::Error),
    /// Another process has its place.
    InUse,
    Read(io::Error),
    Damaged(Damage),
    /// It was read but cannot be removed.
    Consume(io::Error),
    Write(io::Error),
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Damage {
    /// It never was a snapshot.
    Foreign,
    Version(u32),
    /// It ends before its end; the byte at which the block begins that is cut.
    CutShort(u64),
    /// A checksum does not fit; the byte at which its block begins.
    Changed(u64),
    /// The checksums fit, but what they cover does not.
    Nonsense(u64),
    /// More follows after its end.
    Longer(u64),
}

impl SnapshotError {
    pub(super) fn new(path: &Path, what: What) -> Self {
        Self {
            path: path.to_owned(),
            what,
        }
    }

    /// Whether the file is there but is no whole snapshot.
    pub fn is_damage(&self) -> bool {
        matches!(self.what, What::Damaged(_))
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.what {
            What::Place(error) => write!(
                f,
                "no snapshot can be kept at {path}: {error}; its folder must be there, and this user must be allowed \
                 to write to it"
            ),
            What::InUse => write!(
                f,
                "another process keeps its snapshot at {path}; stop it first, or name another file"
            ),
            What::Read(error) => write!(f, "the snapshot {path} cannot be read: {error}"),
            What::Damaged(damage) => write!(
                f,
                "the snapshot {path} {damage}; nothing of it was loaded. Remove the file to start without: readers \
                 are then told a gap"
            ),
            What::Consume(error) => write!(
                f,
                "the snapshot {path} cannot be removed: {error}; loading it twice would give out the same positions \
                 twice, so it is not loaded. This user must be allowed to write to its folder"
            ),
            What::Write(error) => write!(
                f,
                "the snapshot {path} was not written: {error}; after the next start readers are told a gap"
            ),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("is not a snapshot of Throughline"),
            Self::Version(version) => write!(
                f,
                "has format version {version}, and this build reads version {}",
                super::blocks::VERSION
            ),
            Self::CutShort(at) => write!(f, "is damaged: it is cut short in the block at byte {at}"),
            Self::Changed(at) => write!(f, "is damaged: the checksum of the block at byte {at} does not fit"),
            Self::Nonsense(at) => write!(f, "is damaged: the block at byte {at} makes no sense"),
            Self::Longer(at) => write!(f, "is damaged: more follows after its end at byte {at}"),
        }
    }
}

impl error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.what {
            What::Place(error) | What::Read(error) | What::Consume(error) | What::Write(error) => Some(error),
            What::InUse | What::Damaged(_) => None,
        }
    }
}

impl From<Damage> for What {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}
