//! A snapshot as bytes: a head that says what it is, then blocks under a running checksum, the last of which counts.
//!
//! A block is its length (`u32`), a record, and the checksum (CRC-32) of everything from the start of the file but the
//! checksums before; numbers have their lowest byte first. So a block that is changed, left out, repeated or in another's place is noticed at once,
//! and a file that is cut between two blocks lacks the last one.

use std::io::{self, Read, Write};

use super::error::{Damage, What};
use super::{Contents, Record};

/// What every snapshot begins with.
const MAGIC: &[u8; 16] = b"throughline snap";

/// The version of the format. Another build may write another one, which this one refuses.
pub(super) const VERSION: u32 = 2;

/// Writes records.
pub(in crate::engine) struct Writer<W> {
    inner: W,
    checksum: crc32fast::Hasher,
    /// One record's bytes, kept for the next one.
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(inner: W) -> io::Result<Self> {
        let mut writer = Self {
            inner,
            checksum: crc32fast::Hasher::new(),
            block: Vec::new(),
        };
        writer.put(MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        Ok(writer)
    }

    pub(in crate::engine) fn record(&mut self, record: &Record<'_>) -> io::Result<()> {
        let mut block = std::mem::take(&mut self.block);
        block.clear();
        block = postcard::to_extend(record, block).map_err(io::Error::other)?;
        let len = u32::try_from(block.len()).map_err(io::Error::other)?;
        self.put(&len.to_le_bytes())?;
        self.put(&block)?;
        self.block = block;
        // Not under the checksum itself: a CRC that runs on over its own value forgets all that was before.
        let checksum = self.checksum.clone().finalize();
        self.inner.write_all(&checksum.to_le_bytes())
    }

    /// Writes the last block, and gives back what was written to.
    pub(super) fn finish(mut self, contents: Contents) -> io::Result<W> {
        self.record(&Record::End {
            channels: contents.channels,
            publications: contents.publications,
            keys: contents.keys,
        })?;
        Ok(self.inner)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.update(bytes);
        self.inner.write_all(bytes)
    }
}

/// Reads records, and believes none that its checksum does not cover.
pub(in crate::engine) struct Reader<R> {
    inner: R,
    checksum: crc32fast::Hasher,
    block: Vec<u8>,
    /// Where the block begins that is being read, and where the next one does.
    at: u64,
    next: u64,
    len: u64,
}

impl<R: Read> Reader<R> {
    /// Begins to read a file that has `len` bytes.
    pub(super) fn new(inner: R, len: u64) -> Result<Self, What> {
        let mut reader = Self {
            inner,
            checksum: crc32fast::Hasher::new(),
            block: Vec::new(),
            at: 0,
            next: 0,
            len,
        };
        if len < MAGIC.len() as u64 || reader.take::<16>()? != *MAGIC {
            return Err(Damage::Foreign.into());
        }
        match u32::from_le_bytes(reader.take()?) {
            VERSION => Ok(reader),
            version => Err(Damage::Version(version).into()),
        }
    }

    /// The next record.
    pub(in crate::engine) fn record(&mut self) -> Result<Record<'_>, What> {
        self.at = self.next;
        let len = u32::from_le_bytes(self.take()?);
        // Never more than the file has, whatever it says.
        if u64::from(len) > self.len - self.next {
            return Err(Damage::CutShort(self.at).into());
        }
        self.block.resize(len as usize, 0);
        let mut block = std::mem::take(&mut self.block);
        self.fill(&mut block)?;
        self.block = block;
        let expected = self.checksum.clone();
        let checksum = self.take()?;
        self.checksum = expected.clone();
        if u32::from_le_bytes(checksum) != expected.finalize() {
            return Err(Damage::Changed(self.at).into());
        }
        match postcard::take_from_bytes(&self.block) {
            Ok((record, [])) => Ok(record),
            Ok(_) | Err(_) => Err(Damage::Nonsense(self.at).into()),
        }
    }

    /// What a record is that has its checksum but cannot stand where it stands.
    pub(in crate::engine) fn nonsense(&self) -> What {
        Damage::Nonsense(self.at).into()
    }

    /// To be called after the last record.
    pub(in crate::engine) fn ends(&self) -> Result<(), What> {
        if self.next == self.len {
            Ok(())
        } else {
            Err(Damage::Longer(self.next).into())
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], What> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), What> {
        if let Err(error) = self.inner.read_exact(bytes) {
            return Err(if error.kind() == io::ErrorKind::UnexpectedEof {
                Damage::CutShort(self.at).into()
            } else {
                What::Read(error)
            });
        }
        self.checksum.update(bytes);
        self.next += bytes.len() as u64;
        Ok(())
    }
}
