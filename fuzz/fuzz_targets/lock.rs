//! Any text as a lock: with its own digest as it is, and with the digest that is right for its sections.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use ocinitrd::lock::file::{Lock, Section};
use ocinitrd_fuzz as _;
use serde::Deserialize;

#[derive(Deserialize)]
struct Sections {
    arch: BTreeMap<String, Section>,
}

fuzz_target!(|text: &str| {
    let _ = Lock::parse(text);
    let Ok(Sections { arch }) = toml::from_str(text) else { return };
    let mut lock = Lock::new("fuzz");
    lock.arch = arch;
    let Ok(text) = lock.to_toml() else { return };
    if let Ok(read) = Lock::parse(&text) {
        assert_eq!(read.to_toml().expect("it was written before"), text);
    }
});
