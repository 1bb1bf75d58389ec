//! A name is taken exactly if the protocol's words allow it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use throughline::delivery::ChannelName;

fuzz_target!(|text: &str| {
    let is_forbidden = |c: char| c.is_control() || c.is_whitespace() || [',', '*', '"', '\\'].contains(&c);
    let is_name = (1..=255).contains(&text.len()) && !text.starts_with('$') && !text.contains(is_forbidden);
    match ChannelName::parse(text) {
        Ok(name) => {
            assert!(is_name && name.as_str() == text && !name.namespace().contains(':'));
            assert!(text.starts_with(name.namespace()) || name.namespace() == "default");
        }
        Err(bad) => assert!(!is_name && bad.to_string().len() < 300),
    }
});
