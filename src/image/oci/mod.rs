//! OCI images without a registry or an engine: a tree to an image layout, and a layout or its archive to a tree.
//!
//! Specification: <https://github.com/opencontainers/image-spec> 1.1 (image-layout, manifest, config, layer).

pub(crate) mod document;
pub mod image;
pub mod layout;

use anyhow::{Context, Result};
use serde::Serialize;

/// The namespace of our own annotations; `org.opencontainers.*` is reserved for those that its specification lists.
pub const ANNOTATION_PREFIX: &str = "org.ocinitrd.";

/// JSON with sorted keys: the annotations of `oci-spec` are hash maps, whose order changes from run to run and with it
/// the digest.
///
/// # Errors
/// Fails only where a value has no form in JSON.
pub fn canonical_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let sorted = serde_json::to_value(value).context("writing JSON")?;
    serde_json::to_vec(&sorted).context("writing JSON")
}

#[cfg(test)]
mod tests;
