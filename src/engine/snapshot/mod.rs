//! The file in which the memory engine's logs outlive a restart.
//!
//! **A snapshot is good for one life.** It says "these offsets of these epochs are given out, and no others".
//! That is true from the moment at which the engine is sealed until the next publication. A process that loads it goes
//! on from there; were the file still there after that, and the process killed, the next one would load it again and
//! give out the same offsets of the same epochs for other publications. A reader that has the first ones would be told
//! `complete`, and so be lied to in silence. Therefore:
//!
//! 1. one process at a time holds a snapshot's place, by a lock on a file beside it, from before it loads until it ends;
//! 2. a snapshot is read as a whole before anything of it counts, and its file is gone, and the folder synced, before
//!    [`Snapshot::load`] returns; what cannot be removed is not loaded;
//! 3. the engine is sealed before the first byte of the next one is written: what is published later is refused, never
//!    stored and then forgotten.
//!
//! So after a `kill -9` there is no snapshot: the logs begin new epochs, and readers are told `gap`, which is the truth.

mod blocks;
mod error;
mod record;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::memory::MemoryEngine;
use crate::delivery::Outside;
pub(super) use blocks::{Reader, Writer};
use error::Damage;
pub use error::SnapshotError;
pub(super) use error::What;
pub(super) use record::Record;

/// What a snapshot holds may be anybody's secret.
const MODE: u32 = 0o600;

/// How much was loaded or written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Channels, those of which only the position is left included.
    pub channels: u64,
    /// Publications in their windows.
    pub publications: u64,
    /// Idempotency keys.
    pub keys: u64,
}

/// The place of a snapshot, which is this process's alone until this is dropped.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    /// The lock ends when the file is closed, by whatever end of the process.
    _lock: File,
}

impl Snapshot {
    /// Takes the place, so that no other process loads or writes there.
    ///
    /// # Errors
    /// If another process has it, or if nothing can be written there.
    pub fn hold(path: impl Into<PathBuf>) -> Result<Self, SnapshotError> {
        let path = path.into();
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(MODE)
            .open(beside(&path, "lock"));
        let lock = lock.map_err(|error| SnapshotError::new(&path, What::Place(error)))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(SnapshotError::new(&path, What::InUse)),
            Err(TryLockError::Error(error)) => Err(SnapshotError::new(&path, What::Place(error))),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An engine that goes on where the snapshot ends, and is without channels if there is none. Either way there is
    /// none any more when this returns.
    ///
    /// # Errors
    /// If the file is not a whole snapshot: then it is left as it is, and nothing of it was loaded. If it cannot be
    /// read or removed.
    pub fn load(&self, outside: Arc<dyn Outside>) -> Result<(MemoryEngine, Contents), SnapshotError> {
        let wrong = |what| SnapshotError::new(&self.path, what);
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((MemoryEngine::new(outside), Contents::default()));
            }
            Err(error) => return Err(wrong(What::Read(error))),
        };
        let len = match file.metadata() {
            Ok(found) if found.is_file() => found.len(),
            Ok(_) => return Err(wrong(What::Damaged(Damage::Foreign))),
            Err(error) => return Err(wrong(What::Read(error))),
        };
        let read = Reader::new(BufReader::new(file), len).and_then(|reader| MemoryEngine::restore(reader, outside));
        let (engine, contents) = read.map_err(wrong)?;
        // Before anything is served from it: see above.
        fs::remove_file(&self.path)
            .and_then(|()| self.sync_folder())
            .map_err(|error| wrong(What::Consume(error)))?;
        Ok((engine, contents))
    }

    /// Seals the engine and writes all that it has: to a file beside, which takes the snapshot's place when it is whole
    /// and on the disk. Blocks until then; takes little memory besides what the engine has.
    ///
    /// # Errors
    /// What the system says. The engine stays sealed, so this may be called again.
    pub fn save(&self, engine: &MemoryEngine) -> Result<Contents, SnapshotError> {
        engine.seal();
        let part = beside(&self.path, "part");
        let saved = self.write(engine, &part);
        if saved.is_err() {
            // What is left of it would be written over, too.
            let _ = fs::remove_file(&part);
        }
        saved.map_err(|error| SnapshotError::new(&self.path, What::Write(error)))
    }

    fn write(&self, engine: &MemoryEngine, part: &Path) -> io::Result<Contents> {
        if let Err(error) = fs::remove_file(part)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        // A new file always: neither a link that lies there is followed, nor another mode kept.
        let file = OpenOptions::new().create_new(true).write(true).mode(MODE).open(part)?;
        let mut writer = Writer::new(BufWriter::new(file))?;
        let contents = engine.dump(&mut writer)?;
        let mut buffered = writer.finish(contents)?;
        buffered.flush()?;
        buffered.get_ref().sync_all()?;
        fs::rename(part, &self.path)?;
        self.sync_folder()?;
        Ok(contents)
    }

    /// Makes a name's change outlive a power cut.
    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}
