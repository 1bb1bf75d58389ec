//! The channels of a world: what is published to them, if anything.

use fastrand::Rng;

/// A channel's name and the size of what is published to it.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) load: Load,
}

/// What a channel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Nothing at all.
    Idle,
    /// Short publications.
    Light,
    /// Publications so large that a reader that does not read soon blocks the server.
    Heavy,
}

impl Channel {
    pub(crate) fn random(rng: &mut Rng, number: usize) -> Self {
        const NAMES: [&str; 4] = ["chat:", "news", "grüße:日本/", "a.b-c_"];
        let load = match rng.u8(..10) {
            0 => Load::Idle,
            1..=7 => Load::Light,
            _ => Load::Heavy,
        };
        Self {
            name: format!("{}{number}", NAMES[rng.usize(..NAMES.len())]),
            load,
        }
    }

    /// About how many publications are read at a time.
    pub(crate) fn appetite(&self) -> u64 {
        match self.load {
            Load::Idle | Load::Light => 12,
            Load::Heavy => 5,
        }
    }

    /// The next thing to publish, as compact JSON. No two are the same.
    pub(crate) fn data(&self, rng: &mut Rng) -> String {
        const HEAVY_BYTES: usize = 8 * 1024;
        let id = rng.u64(..);
        let letter = rng.alphanumeric().to_string();
        match (self.load, rng.u8(..4)) {
            (Load::Heavy, _) => format!(
                r#"{{"id":{id},"filler":"{}"}}"#,
                letter.repeat(rng.usize(HEAVY_BYTES / 2..HEAVY_BYTES))
            ),
            (_, 0) => id.to_string(),
            (_, 1) => format!(r#""{id}\n\u2028{letter}\"""#),
            (_, _) => format!(r#"{{"id":{id},"n":1.50,"text":"{}"}}"#, letter.repeat(rng.usize(..200))),
        }
    }
}
