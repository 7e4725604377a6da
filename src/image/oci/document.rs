//! JSON documents of images: what is the same in indexes, manifests and configurations.

use anyhow::{Context, Result};
use oci_spec::image::Descriptor;
use serde::Deserialize;

use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::{escaped_error, quoted};

/// Registries bound manifests by this; configurations are smaller.
pub const LIMIT_BYTES: u64 = 4 << 20;
/// As many as Linux can lay over each other (`OVL_MAX_STACK`); some readers keep each open.
pub const MOST_LAYERS: usize = 500;

/// Reads a document; `what` names it in the error.
///
/// # Errors
/// Fails on what is not of the expected form, quoting it escaped.
pub fn parse<T: for<'de> Deserialize<'de>>(what: &str, json: &[u8]) -> Result<T> {
    // The message quotes the document.
    let parsed = serde_json::from_slice(json).map_err(escaped_error);
    parsed.with_context(|| format!("reading {what}"))
}

/// The digest that a descriptor states.
///
/// # Errors
/// Fails on digests of other algorithms.
pub fn sha256(descriptor: &Descriptor) -> Result<Digest> {
    let hex = descriptor.as_digest_sha256();
    hex.and_then(Digest::from_hex).with_context(|| format!("the digest {} is not a sha256 digest", shown(descriptor)))
}

/// The digest as the document has it, which may be any text.
pub fn shown(descriptor: &Descriptor) -> String {
    quoted(descriptor.digest().to_string().as_bytes()).trim_matches('"').to_owned()
}
