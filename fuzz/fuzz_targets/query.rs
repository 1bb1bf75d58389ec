//! A query is read as what it says in UTF-8 or is refused, and never has more channels than a session may have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use throughline::protocol::{Limits, read_query, read_stream_query};

fuzz_target!(|query: &str| {
    let limits = Limits {
        channels_max: 4,
        ..Limits::default()
    };
    let pairs = read_query(query);
    if let Err(problem) = &pairs {
        assert!(problem.detail.len() < 1100);
    }
    match read_stream_query(query).and_then(|asked| asked.checked(None, None, &limits)) {
        Ok(request) => {
            assert!(pairs.is_ok() && request.channels.len() <= limits.channels_max);
            assert!(request.wait_s <= Limits::WAIT_S_MAX);
        }
        Err(problem) => assert!(problem.detail.len() < 1100),
    }
});
