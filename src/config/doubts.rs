//! What a configuration may say, and hardly means.

use super::{ApiKeyTable, Config, Fault};

impl Config {
    /// Each thing that is allowed, and seldom meant.
    pub fn doubts(&self) -> Vec<Fault> {
        let keys = self.auth.api_keys.iter().enumerate();
        let of_keys = keys.flat_map(|(at, table)| {
            let place = format!("auth.api_keys[{at}]");
            let why = table.doubts().into_iter();
            why.map(move |why| Fault::of_key(place.clone(), format!("{place} ({}): {why}", table.name)))
        });
        let everybody = self.trusted_proxies.iter().filter(|network| network.prefix_len() == 0);
        let of_proxies = everybody.map(|network| {
            let why = "is everybody: whoever comes may say from where, and be any client; name the proxies alone";
            Fault::of_key("trusted_proxies", format!("trusted_proxies: {network} {why}"))
        });
        of_keys.chain(of_proxies).collect()
    }
}

impl ApiKeyTable {
    fn doubts(&self) -> Vec<&'static str> {
        let mut doubts = Vec::new();
        let mut digits = self.hash.chars();
        let first = digits.next();
        if digits.all(|digit| Some(digit) == first) {
            doubts.push("the hash stands for one: no key has it; `throughline key` makes both");
        }
        let is_operator = self.scopes.iter().any(|scope| scope == "operator");
        let is_bounded = !self.channels.is_empty() && !self.channels.iter().any(|pattern| pattern == "*");
        if is_operator && is_bounded {
            doubts.push("the scope operator is for the whole node: `channels` bounds the other scopes alone");
        }
        doubts
    }
}
