//! Any bytes as `primary.xml`, plain or compressed.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use ocinitrd::packages::repository::find;
use ocinitrd_fuzz as _;

fuzz_target!(|bytes: &[u8]| {
    let wanted = BTreeSet::from(["beta-1.0-3.fc44.noarch".to_owned(), "alpha-2:1.2-3.fc44.x86_64".to_owned()]);
    if let Ok(packages) = find(bytes, "fuzz", &wanted) {
        assert_eq!(packages.len(), wanted.len());
    }
});
