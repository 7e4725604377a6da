//! Any bytes as an EFI program: a unified kernel image is inspected, with what a TPM measures of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocinitrd::image::uki::{self, Bank};
use ocinitrd_fuzz::with_file;

fuzz_target!(|bytes: &[u8]| {
    with_file(bytes, |path| {
        let _ = uki::inspect(path, &[Bank::Sha256]);
        let _ = uki::section(path, ".cmdline");
        let _ = uki::KernelImage::open(path);
    });
});
