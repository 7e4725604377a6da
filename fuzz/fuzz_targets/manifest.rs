//! Any bytes as a manifest: what is taken for one can be written and read again, and compared with itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd::analysis::compare::{Recorded, outputs, verify};
use ocinitrd::analysis::inspect::Limits;
use ocinitrd::image::manifest::{Manifest, listed_paths};
use ocinitrd_fuzz::with_directory;

fuzz_target!(|bytes: &[u8]| {
    let _ = listed_paths(bytes);
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    let json = manifest.to_json().expect("what was read can be written");
    assert!(Manifest::parse(&json).is_ok(), "what was written can be read");
    manifest.kernels.iter().for_each(|kernel| _ = kernel.segment_offsets());
    with_directory(&[("manifest.json", bytes), ("initrd", b"070701")], |directory| {
        if let (Ok(one), Ok(other)) = (Recorded::open(directory), Recorded::open(directory)) {
            let _ = verify(&one);
            let _ = outputs(&one, &other, &Limits::default());
        }
    });
});
