//! Makes sure that an engine has an image, by digest.
//!
//! In: an [`ImageReference`]. Out: an [`Image`] whose digest was compared after the pull; nothing is fetched if the engine
//! has it already.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::failure::Failure;
use super::podman::{Client, StoredImage};
use super::reference::ImageReference;
use ocinitrd_format::digest::Digest;
use ocinitrd_support::progress::Progress;

/// An image in the engine's storage.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Image {
    /// The reference it was found by, in full.
    pub reference: String,
    /// The engine's id of it: the digest of its configuration.
    pub id: String,
    /// The digest it is pinned to, of a manifest or of an index over several platforms.
    pub digest: Digest,
    /// The one other digest that the engine knows a pulled image by, if there is exactly one: where `digest` is an
    /// index's, that is the digest of the platform's own manifest.
    pub platform_digest: Option<Digest>,
    /// Its processor architecture, in OCI's word for it (`amd64`, `arm64`).
    pub architecture: String,
}

/// Finds the image in the engine's storage or pulls it.
pub(super) async fn ensure(client: &Client, reference: &ImageReference, progress: &Progress) -> Result<Image> {
    let pinned = reference.pinned();
    if let Some(image) = find(client, reference).await? {
        return Ok(image);
    }
    if reference.is_local() {
        bail!(
            "image {reference} is not in this engine's storage, and names below localhost/ stand for images that are made \
             on the machine, not pulled: make or load it with this engine first (podman images --digests lists what is \
             there; root and every user have a storage of their own)"
        );
    }
    let stage = progress.stage(&format!("pulling {reference}"), None);
    client.pull(&pinned, |status| progress.detail(status)).await.map_err(|error| explain(reference, error))?;
    stage.finish("");
    match client.inspect_image(&pinned).await? {
        Some(found) => describe(reference, found),
        None => bail!("pulling {reference}: the engine reported no error, but has no image of that digest afterwards"),
    }
}

/// Finds the image in the engine's storage.
pub(super) async fn find(client: &Client, reference: &ImageReference) -> Result<Option<Image>> {
    let pinned = reference.pinned();
    let found = client.inspect_image(&pinned).await.with_context(|| format!("looking for image {pinned}"))?;
    found.map(|found| describe(reference, found)).transpose()
}

fn describe(reference: &ImageReference, found: StoredImage) -> Result<Image> {
    let (repository, digest) = (reference.repository(), reference.digest());
    // A digest says what an image is: the engine also finds it where it came from another registry.
    if !found.names.iter().any(|name| digest_of(name) == Some(digest)) {
        let present = found.names.join(", ");
        bail!(
            "image {reference}: digest differs, the engine holds {present:?} under that name; remove it there and try again"
        );
    }
    let of_repository = found.names.iter().filter(|name| name.split('@').next() == Some(repository.as_str()));
    let others: BTreeSet<Digest> = of_repository.filter_map(|name| digest_of(name)).collect();
    let mut others = others.into_iter().filter(|other| *other != digest);
    // What was made on the machine and pinned is a manifest: a second digest is of a copy that was pushed and came back.
    let platform_digest = others.next().filter(|_| others.next().is_none() && !reference.is_local());
    Ok(Image {
        reference: reference.to_string(),
        id: found.id,
        digest,
        platform_digest,
        architecture: found.architecture,
    })
}

fn digest_of(name: &str) -> Option<Digest> {
    name.split_once('@')?.1.parse().ok()
}

/// Adds what to do to what a registry or the engine said.
fn explain(reference: &ImageReference, error: anyhow::Error) -> anyhow::Error {
    let Some(Failure::Refused { message, .. }) = error.downcast_ref() else {
        return error.context(format!("pulling {reference}"));
    };
    let said = message.to_lowercase();
    let registry = reference.registry();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let advice = if has(&["did not match", "digest mismatch", "unexpected digest", "does not match"]) {
        format!("digest differs: {registry} serves other bytes than the digest names; check the pin and the registry")
    } else if has(&["unauthorized", "authentication required", "denied", "403"]) {
        format!("pull refused: {registry} wants credentials, or the image does not exist; try: podman login {registry}")
    } else if has(&["manifest unknown", "not found", "name unknown"]) {
        format!("pull refused: {registry} has no such image or digest; check the name and the pin")
    } else if has(&[
        "connection refused",
        "no such host",
        "timeout",
        "timed out",
        "unreachable",
        "no route",
        "name resolution",
    ]) {
        format!("pull refused: {registry} cannot be reached from the engine; check the network, the proxy and the name")
    } else {
        "pull refused".to_owned()
    };
    error.context(format!("pulling {reference}: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "sha256:0c9e3bd058489120cd8089a4a52f6ef4873af1d29b86744381ccec07094d7f61";
    const PLATFORM: &str = "sha256:1c9e3bd058489120cd8089a4a52f6ef4873af1d29b86744381ccec07094d7f61";

    fn reference() -> ImageReference {
        format!("quay.io/fedora/fedora:44@{INDEX}").parse().unwrap()
    }

    fn found(digests: &[&str]) -> StoredImage {
        StoredImage {
            id: "sha256:26528a64".to_owned(),
            architecture: "amd64".to_owned(),
            names: digests.iter().map(|digest| format!("quay.io/fedora/fedora@{digest}")).collect(),
        }
    }

    #[test]
    fn index_and_platform_are_told_apart() {
        let image = describe(&reference(), found(&[PLATFORM, INDEX])).unwrap();
        assert_eq!(image.digest.to_string(), INDEX);
        assert_eq!(image.platform_digest.unwrap().to_string(), PLATFORM);
        let third = PLATFORM.replace("1c", "2c");
        for digests in [vec![INDEX], vec![INDEX, PLATFORM, &third]] {
            assert_eq!(describe(&reference(), found(&digests)).unwrap().platform_digest, None);
        }
        let mut elsewhere = found(&[INDEX]);
        elsewhere.names.push(format!("quay.io/fedora/fedora-other@{PLATFORM}"));
        assert_eq!(describe(&reference(), elsewhere).unwrap().platform_digest, None);
    }

    #[test]
    fn an_image_that_was_made_here_has_no_index() {
        let made: ImageReference = format!("localhost/builder@{INDEX}").parse().unwrap();
        let mut pushed = found(&[]);
        pushed.names = [INDEX, PLATFORM].map(|digest| format!("localhost/builder@{digest}")).to_vec();
        assert_eq!(describe(&made, pushed).unwrap().platform_digest, None);
    }

    #[test]
    fn the_same_image_of_another_registry_will_do() {
        let mut mirrored = found(&[]);
        mirrored.names.push(format!("mirror.example/fedora@{INDEX}"));
        let image = describe(&reference(), mirrored).unwrap();
        assert_eq!((image.digest.to_string().as_str(), image.platform_digest), (INDEX, None));
    }

    #[test]
    fn another_digest_is_an_error_that_names_both() {
        let message = describe(&reference(), found(&[PLATFORM])).unwrap_err().to_string();
        assert!(
            message.contains("digest differs") && message.contains(INDEX) && message.contains(PLATFORM),
            "{message}"
        );
    }

    #[test]
    fn a_registrys_words_lead_to_advice() {
        for (words, advice) in [
            ("dial tcp 127.0.0.1:1: connect: connection refused", "cannot be reached"),
            ("lookup quay.io: no such host", "cannot be reached"),
            ("unauthorized: access to the requested resource is not authorized", "podman login quay.io"),
            ("manifest unknown", "no such image or digest"),
            ("Manifest does not match provided manifest digest", "digest differs"),
            ("something new", "pull refused"),
        ] {
            let refused = Failure::Refused { status: 200, message: words.to_owned() };
            let message = format!("{:#}", explain(&reference(), refused.into()));
            assert!(message.contains(advice) && message.contains(words) && message.contains(INDEX), "{message}");
        }
    }
}
