//! Any bytes as `repomd.xml` and as a metalink.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd_fuzz as _;

fuzz_target!(|bytes: &[u8]| {
    ocinitrd::packages::repository::fuzzing::repomd(bytes);
    ocinitrd::packages::repository::fuzzing::metalink(bytes);
});
