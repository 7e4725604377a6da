//! OCI images without a registry or an engine: a tree to an image layout, and a layout or its archive to a tree.
//!
//! Specification: <https://github.com/opencontainers/image-spec> 1.1 (image-layout, manifest, config, layer).

pub mod image;
pub mod layout;

use anyhow::{Context, Result};
use serde::Serialize;

/// The namespace of our own annotations; `org.opencontainers.*` is reserved for those that its specification lists.
pub const ANNOTATION_PREFIX: &str = "org.ocinitrd.";

/// The name OCI has for the architecture that Linux calls `machine` (`uname -m`, rpm): Go's.
pub fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i586" | "i686" | "x86" => "386",
        "armv7hl" | "armv7l" => "arm",
        "powerpc64le" => "ppc64le",
        "loongarch64" => "loong64",
        same => same,
    }
}

/// JSON with sorted keys: the annotations of `oci-spec` are hash maps, whose order changes from run to run and with it
/// the digest.
fn canonical_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let sorted = serde_json::to_value(value).context("writing JSON")?;
    serde_json::to_vec(&sorted).context("writing JSON")
}

/// Seconds since 1970 as RFC 3339 in UTC, as `created` wants it.
pub fn rfc3339(seconds: u64) -> String {
    const DAY: u64 = 86_400;
    let (mut year, mut day) = (1970, seconds / DAY);
    while day >= days_of_year(year) {
        day -= days_of_year(year);
        year += 1;
    }
    let february = days_of_year(year) - 337;
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let second = seconds % DAY;
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{:02}Z", day + 1, second % 60)
}

fn days_of_year(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests;
