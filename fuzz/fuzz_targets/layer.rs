//! Any bytes as a layer: what is taken for a tree becomes a cpio archive that the kernel unpacks whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd_format::compress::Compression;
use ocinitrd::analysis::inspect::inspect;
use ocinitrd::image::layer::{Layer, Rules};
use ocinitrd::image::segment::write_segment;
use ocinitrd_fuzz as _;

fuzz_target!(|bytes: &[u8]| {
    let Ok(layer) = Layer::read(bytes, &std::env::temp_dir(), &Rules::root_filesystem()) else { return };
    let mut archive = Vec::new();
    if write_segment(&layer.tree, Compression::None, &mut archive).is_ok() {
        let report = inspect(archive.as_slice()).expect("memory can be read");
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
});
