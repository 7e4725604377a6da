//! Any bytes as an initrd: inspecting it always gives a report that fits the bytes.
//!
//! Run with `cargo +nightly fuzz run inspect`; start from small real initrds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd::analysis::inspect::{file_digests, inspect};

fuzz_target!(|bytes: &[u8]| {
    let report = inspect(bytes).expect("memory can be read");
    let mut end = 0;
    for segment in &report.segments {
        assert!(segment.offset >= end, "segments do not overlap");
        end = segment.offset + segment.stored_bytes;
    }
    assert!(end <= bytes.len() as u64, "segments are in the file");
    assert_eq!(report.listing().count() as u64, report.entries);
    assert_eq!(file_digests(bytes).is_ok(), report.problems.is_empty());
});
