//! What differs between two initrds, two outputs of a build, or an output and its manifest.
//!
//! Two paths in, a [`Comparison`] out: segment by segment and entry by entry where there are initrds ([`initrds`]), and
//! what the manifests record where there are outputs ([`outputs`]). [`verify`] holds an output against its own manifest.
//! Nothing here keeps the content of files in memory: digests are compared, and only what differs is read again.

mod bytes;
mod difference;
mod entries;
mod initrd;
mod manifests;
mod pairing;
mod recorded;
mod verification;

use anyhow::{Context, Result};
use serde::Serialize;

pub use difference::{Cause, Difference, SegmentPlace, Subject};
pub use initrd::initrds;
pub use recorded::Recorded;
pub use verification::{Finding, Problem, Verification, verify};

/// What two things have not in common.
#[derive(Debug, Default, Serialize)]
pub struct Comparison {
    /// How many differences there are.
    pub count: usize,
    /// Whether both initrds unpack to the same file system; none if no initrds were compared.
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
}

/// Compares what two manifests record, and then their initrds, entry by entry.
///
/// Where only manifests were given and an initrd is not beside one of them, the recorded segments are compared instead.
///
/// # Errors
/// Fails when an initrd cannot be read or is damaged, and when that of an output directory is missing.
pub fn outputs(a: &Recorded, b: &Recorded) -> Result<Comparison> {
    let mut differences = manifests::compare(&a.manifest, &b.manifest)?;
    let (initrd_a, initrd_b) = (a.initrd()?, b.initrd()?);
    if let (Some(initrd_a), Some(initrd_b)) = (&initrd_a, &initrd_b) {
        let files = initrds(initrd_a, initrd_b).context("comparing the initrds")?;
        differences.extend(files.differences);
        return Ok(Comparison::new(differences, files.unpack_alike));
    }
    differences.extend(manifests::compare_segments(&a.manifest, &b.manifest)?);
    let expected = a.manifest.initrd().is_some() || b.manifest.initrd().is_some();
    let missing = [(a, initrd_a), (b, initrd_b)].into_iter().filter(|(_, initrd)| expected && initrd.is_none());
    let not_compared = missing.map(|(side, _)| format!("the initrd's entries: {}", side.without_initrd())).collect();
    Ok(Comparison { not_compared, ..Comparison::new(differences, None) })
}

#[cfg(test)]
mod tests;
