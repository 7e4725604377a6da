//! Two texts as definitions, of which the first may include the second.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd::definition::Definition;
use ocinitrd_fuzz::{parts, with_directory};

fuzz_target!(|bytes: &[u8]| {
    let [first, second] = parts(bytes);
    with_directory(&[("first.toml", first), ("second.toml", second)], |directory| {
        let path = directory.join("first.toml");
        let _ = Definition::load(path.to_str().expect("the path is text"), directory);
    });
});
