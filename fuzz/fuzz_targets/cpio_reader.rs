//! Any bytes as cpio archives: reading ends in an error or at the end, and entries read and skipped agree.
//!
//! Run with `cargo +nightly fuzz run cpio_reader`.
#![no_main]

use std::io::{Read, copy, sink};

use libfuzzer_sys::fuzz_target;
use ocinitrd_format::cpio::{Next, Reader};

/// Every entry with its length, and the error if there is one.
fn walk(bytes: &[u8], read_data: bool) -> Vec<String> {
    let mut reader = Reader::new(bytes);
    let mut seen = Vec::new();
    loop {
        match reader.next_item() {
            Ok(Next::Entry(entry)) => {
                if read_data {
                    match copy(&mut reader.by_ref(), &mut sink()) {
                        Ok(size_bytes) => assert_eq!(size_bytes, u64::from(entry.size_bytes)),
                        Err(error) => return [seen, vec![format!("{entry:?}"), error.to_string()]].concat(),
                    }
                }
                seen.push(format!("{entry:?}"));
            }
            Ok(Next::ArchiveEnd { trailer }) => seen.push(format!("end {trailer}")),
            Ok(end) => return [seen, vec![format!("{end:?} at {}", reader.position())]].concat(),
            Err(error) => return [seen, vec![error.to_string()]].concat(),
        }
        assert!(reader.position() <= bytes.len() as u64);
    }
}

fuzz_target!(|bytes: &[u8]| assert_eq!(walk(bytes, true), walk(bytes, false)));
