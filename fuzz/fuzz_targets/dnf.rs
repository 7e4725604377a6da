//! What dnf and rpm print in a container, as the steps hand it back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd::definition::dnf;
use ocinitrd_fuzz as _;

fuzz_target!(|text: &str| {
    let _ = dnf::parse_solution(text);
    let _ = dnf::parse_change(text);
    let _ = dnf::parse_kernel_packages(text, 2);
    let _ = dnf::parse_inventory(text);
    let _ = dnf::complaints(text);
});
