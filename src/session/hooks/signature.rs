//! What proves to the app that a question comes from this edge, and when it was asked.

use std::fmt;

use ring::hmac;

/// The header that has it.
pub(super) const HEADER: &str = "throughline-signature";

/// A secret that the app knows too.
pub(super) struct Signing(hmac::Key);

impl Signing {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// `t=SECONDS,v1=HEX`: the HMAC-SHA256 of the time, a dot and the body.
    pub(super) fn sign(&self, time_s: u64, body: &str) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{time_s}.").as_bytes());
        context.update(body.as_bytes());
        let tag = context.sign();
        let digits = tag.as_ref().iter().map(|byte| format!("{byte:02x}"));
        format!("t={time_s},v1={}", digits.collect::<String>())
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signing(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_openssl_says() {
        // printf '1700000000.{"type":"connect"}' | openssl dgst -sha256 -hmac secret
        let expected = "7a6cb88a433f4f4136d2025303f0b98ab4d28d0a3925cf089d542f3a1383d286";
        let signed = Signing::new(b"secret").sign(1_700_000_000, r#"{"type":"connect"}"#);
        assert_eq!(signed, format!("t=1700000000,v1={expected}"));
    }
}
