//! Which configured key, and which audience, has let somebody in: by it those are found whose key was withdrawn.

use std::fmt;
use std::num::NonZeroU64;

use ring::digest::{Context, SHA256};

/// A fingerprint of an API key, or of an issuer, the key that it signs with, and the audience that was accepted. Nothing can be learned from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Voucher(NonZeroU64);

impl Voucher {
    /// Of all parts together.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&context.finish().as_ref()[..8]);
        Self(NonZeroU64::new(u64::from_be_bytes(fingerprint)).unwrap_or(NonZeroU64::MAX))
    }

    /// The same, for a token that was accepted because it is meant for this audience.
    pub(super) fn meant_for(self, audience: Option<&str>) -> Self {
        audience.map_or(self, |audience| {
            Self::of(&[&self.0.get().to_be_bytes(), audience.as_bytes()])
        })
    }
}

/// Not what it says.
impl fmt::Debug for Voucher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Voucher(…)")
    }
}
