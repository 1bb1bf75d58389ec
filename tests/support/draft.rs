//! A publication as the tests of engines give it to one.

use throughline::delivery::{Ack, ChannelName, Draft, LogPolicy};

/// Something that is stored, and kept for longer than a test takes.
pub(crate) fn draft(channel: &str, data: &'static str) -> Draft {
    Draft {
        channel: ChannelName::parse(channel).unwrap(),
        data: data.into(),
        event: None,
        sender: None,
        key: None,
        policy: LogPolicy {
            count_max: 1_000,
            bytes_max: 1 << 20,
            age_ms_max: 600_000,
            position_ttl_ms: 600_000,
        },
        ack: Ack::Stored,
    }
}
