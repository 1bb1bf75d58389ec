//! The slots of a Cluster (cluster specification, "key distribution model"): which one a channel's keys are in.

use super::keys::escaped;
use crate::delivery::ChannelName;

/// How many there are.
pub(super) const SLOTS: usize = 16_384;

/// The slot of all keys of a channel: that of their hash tag.
pub(super) fn slot_of(channel: &ChannelName) -> usize {
    slot_of_name(channel.as_str())
}

/// The same, of a name that need not be a channel's.
pub(super) fn slot_of_name(name: &str) -> usize {
    let crc = escaped(name).fold(0, |crc, part| crc16(crc, part.as_bytes()));
    usize::from(crc) % SLOTS
}

/// CRC-16/XMODEM, as Redis computes it, going on from `crc`.
fn crc16(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str) -> usize {
        slot_of(&ChannelName::parse(name).unwrap())
    }

    /// What `redis-cli cluster keyslot` says.
    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(crc16(0, b"123456789"), 0x31C3, "the specification's example");
        assert_eq!((slot("foo"), slot("bar"), slot("user1000")), (12_182, 5_061, 3_443));
    }

    #[test]
    fn a_name_with_braces_has_the_slot_of_its_hash_tag() {
        assert_eq!(slot("a}b"), usize::from(crc16(0, b"a%7Db")) % SLOTS);
    }
}
