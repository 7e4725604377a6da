//! Two initrds are compared, and one of them is asked for what a machine needs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd::analysis::compare::initrds;
use ocinitrd::analysis::inspect::Limits;
use ocinitrd::analysis::needs::Holdings;
use ocinitrd_fuzz::with_directory;

fuzz_target!(|bytes: &[u8]| {
    let (one, other) = bytes.split_at(bytes.len() / 2);
    with_directory(&[("one", one), ("other", other)], |directory| {
        let _ = initrds(&directory.join("one"), &directory.join("other"), &Limits::default());
        let _ = Holdings::of_initrd(&directory.join("one"), &Limits::default());
    });
});
