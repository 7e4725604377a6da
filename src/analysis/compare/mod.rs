//! What differs between two initrds, two outputs of a build, or an output and its manifest.
//!
//! Two paths in, a [`Comparison`] out: segment by segment and entry by entry where there are initrds ([`initrds`]), and
//! what the manifests record where there are outputs ([`outputs`]). [`verify`] holds an output against its own manifest.
//! Nothing here keeps the content of files in memory: digests are compared, and only what differs is read again.

mod bytes;
mod difference;
mod entries;
mod files;
mod initrd;
mod manifests;
mod pairing;
mod recorded;
mod verification;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::analysis::inspect::Limits;
use crate::image::manifest::Kernel;
use manifests::KernelPair;

pub use difference::{Cause, Difference, SegmentPlace, Subject};
pub use initrd::initrds;
pub use recorded::Recorded;
pub use verification::{Finding, Problem, Verification, verify};

/// What two things have not in common.
#[derive(Debug, Default, Serialize)]
pub struct Comparison {
    /// How many differences there are.
    pub count: usize,
    /// Whether both initrds, those of each kernel, unpack to the same file system; none if no initrds were compared.
    pub unpack_alike: Option<bool>,
    /// What could not be compared, and why.
    pub not_compared: Vec<String>,
    /// The differences: of the manifests, then of the segments in their order, each with its entries by path.
    pub differences: Vec<Difference>,
}

impl Comparison {
    fn new(differences: Vec<Difference>, unpack_alike: Option<bool>) -> Self {
        Comparison { count: differences.len(), unpack_alike, not_compared: Vec::new(), differences }
    }

    /// Adds what was found of the kernel of that version.
    fn add(&mut self, other: Comparison, version: Option<&str>) {
        self.count += other.count;
        self.unpack_alike = match (self.unpack_alike, other.unpack_alike) {
            (Some(one), Some(other)) => Some(one && other),
            (one, other) => one.or(other),
        };
        let of_kernel = |text: String| version.map_or(text.clone(), |version| format!("kernel {version}, {text}"));
        self.not_compared.extend(other.not_compared.into_iter().map(of_kernel));
        self.differences.extend(other.differences.into_iter().map(|difference| difference.of_kernel(version)));
    }
}

/// Compares what two manifests record, and then the initrds of each kernel, entry by entry. Of a given directory the
/// other files count too: those that are not as its manifest records them differ.
///
/// Where only manifests were given and an initrd is not beside one of them, the recorded segments are compared instead.
///
/// # Errors
/// Fails when an initrd cannot be read or is damaged, and when that of an output directory is missing.
pub fn outputs(a: &Recorded, b: &Recorded, limits: &Limits) -> Result<Comparison> {
    let mut comparison = Comparison::new(manifests::compare(&a.manifest, &b.manifest)?, None);
    files::compare(a, b, &mut comparison)?;
    for KernelPair { version, a: kernel_a, b: kernel_b } in manifests::kernels(&a.manifest, &b.manifest) {
        if let (Some(kernel_a), Some(kernel_b)) = (kernel_a, kernel_b) {
            let of_kernel = compare_kernel((a, kernel_a), (b, kernel_b), limits)?;
            comparison.add(of_kernel, version);
        }
    }
    Ok(comparison)
}

/// Compares the initrds of two kernels, or what is recorded of them.
fn compare_kernel(a: (&Recorded, &Kernel), b: (&Recorded, &Kernel), limits: &Limits) -> Result<Comparison> {
    let sides = [a, b];
    let files = [a.0.initrd(a.1)?, b.0.initrd(b.1)?];
    if let [Some(initrd_a), Some(initrd_b)] = &files {
        return initrds(initrd_a, initrd_b, limits).context("comparing the initrds");
    }
    let expected = sides.iter().any(|(_, kernel)| kernel.initrd.is_some());
    let missing = sides.iter().zip(&files).filter(|(_, initrd)| expected && initrd.is_none());
    let why = |side: &Recorded, kernel: &Kernel| format!("the initrd's entries: {}", side.without_initrd(kernel));
    let not_compared = missing.map(|((side, kernel), _)| why(side, kernel)).collect();
    Ok(Comparison { not_compared, ..Comparison::new(manifests::compare_segments(a.1, b.1)?, None) })
}

#[cfg(test)]
mod tests;
