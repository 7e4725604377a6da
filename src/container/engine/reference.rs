//! Names of images: fully qualified and pinned by digest, or refused.
//!
//! In: `registry/name[:tag]@sha256:<64 hex digits>`. Out: an [`ImageReference`]. A short name would be looked up at
//! whatever registry the engine prefers, and a tag alone names other bytes tomorrow: neither is taken. A [`TaggedImage`]
//! serves only to find out which digest a tag has now.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use ocinitrd_format::digest::Digest;
use ocinitrd_format::text::quoted;

/// What stands in place of a registry for images that are made on the machine.
const LOCAL: &str = "localhost";

/// Refuses what is not `registry/name`, without tag and digest.
///
/// # Errors
/// Fails quoting it.
pub fn check_repository(text: &str) -> Result<()> {
    let parts = text.split_once('/').filter(|(registry, name)| is_registry(registry) && is_name(name));
    match parts {
        Some(_) => Ok(()),
        None => bail!("{} is not of the form registry/name, without tag and digest", quoted(text.as_bytes())),
    }
}

/// An image by registry, name and digest.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ImageReference {
    registry: String,
    name: String,
    tag: Option<String>,
    digest: Digest,
}

impl ImageReference {
    /// `registry[:port]`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Whether it names an image that is made on the machine: no registry has such names.
    pub fn is_local(&self) -> bool {
        self.registry == LOCAL
    }

    /// `registry/name`, without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.name)
    }

    /// The digest of the manifest or of the index that it is pinned to.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What is asked of an engine: `registry/name@digest`. Engines refuse a tag beside a digest.
    pub fn pinned(&self) -> String {
        format!("{}@{}", self.repository(), self.digest)
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        write!(formatter, "{}{tag}@{}", self.repository(), self.digest)
    }
}

impl FromStr for ImageReference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Parts { registry, name, tag, digest } = Parts::of(text)?;
        let Some(digest) = digest else {
            bail!(
                "image {text} is not pinned by digest, so the same definition would build from other bytes tomorrow\n\
                 hint: `ocinitrd update IMAGE --builder` pins it to the digest that the tag has now"
            );
        };
        Ok(ImageReference { registry: registry.to_owned(), name: name.to_owned(), tag: tag.map(str::to_owned), digest })
    }
}

/// An image by registry, name and tag, pinned or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TaggedImage {
    registry: String,
    name: String,
    tag: String,
    digest: Option<Digest>,
}

impl TaggedImage {
    /// `registry[:port]`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `registry/name`, without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.name)
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The digest it is pinned to, if any.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same image pinned to another digest.
    pub fn pinned_to(&self, digest: Digest) -> ImageReference {
        let TaggedImage { registry, name, tag, .. } = self.clone();
        ImageReference { registry, name, tag: Some(tag), digest }
    }
}

impl fmt::Display for TaggedImage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.repository(), self.tag)
    }
}

impl FromStr for TaggedImage {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let Parts { registry, name, tag, digest } = Parts::of(text)?;
        if registry == LOCAL {
            bail!("image {text} is made on this machine, and no registry has a newer one");
        }
        let Some(tag) = tag else {
            bail!(
                "image {text} has no tag, so nothing says which image is its successor\n\
                 hint: write it as registry/name:TAG@sha256:DIGEST"
            );
        };
        Ok(TaggedImage { registry: registry.to_owned(), name: name.to_owned(), tag: tag.to_owned(), digest })
    }
}

/// The parts of a reference, each by its grammar.
struct Parts<'t> {
    registry: &'t str,
    name: &'t str,
    tag: Option<&'t str>,
    digest: Option<Digest>,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Result<Self> {
        let (tagged, digest) = match text.split_once('@') {
            Some((tagged, digest)) => (tagged, Some(digest)),
            None => (text, None),
        };
        let (repository, tag) = split_tag(tagged);
        let Some((registry, name)) = repository.split_once('/').filter(|(registry, _)| is_registry(registry)) else {
            bail!(
                "image {text} does not name its registry: engines would guess one; write it in full, \
                 as in registry.fedoraproject.org/{repository}"
            );
        };
        if !is_name(name) || tag.is_some_and(|tag| !is_tag(tag)) {
            bail!("image {text} is not of the form registry/name[:tag]@sha256:DIGEST");
        }
        let digest = digest.map(str::parse).transpose();
        let digest = digest.with_context(|| format!("reading the digest of image {text}"))?;
        Ok(Parts { registry, name, tag, digest })
    }
}

/// A colon after the last slash begins a tag; one before it belongs to the registry's port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (text, None),
    }
}

/// The rule of every engine: the first part is a registry if it looks like a host.
fn is_registry(text: &str) -> bool {
    let host = text.split_once(':').map_or(text, |(host, _)| host);
    let hostlike = text.contains(['.', ':']) || text == "localhost";
    hostlike && !host.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte))
}

fn is_name(text: &str) -> bool {
    text.split('/').all(|part| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
    })
}

fn is_tag(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0c9e3bd058489120cd8089a4a52f6ef4873af1d29b86744381ccec07094d7f61";

    #[test]
    fn a_full_reference_is_kept_and_asked_for_without_its_tag() {
        let text = format!("registry.example.org:5000/team/fedora:44@{DIGEST}");
        let reference: ImageReference = text.parse().unwrap();
        assert_eq!(reference.to_string(), text);
        assert_eq!(reference.registry(), "registry.example.org:5000");
        assert_eq!(reference.pinned(), format!("registry.example.org:5000/team/fedora@{DIGEST}"));
        assert_eq!(format!("localhost/a@{DIGEST}").parse::<ImageReference>().unwrap().repository(), "localhost/a");
    }

    #[test]
    fn an_unpinned_image_is_refused_with_the_command_that_pins_it() {
        for image in ["registry.fedoraproject.org/fedora:44", "localhost:5000/fedora"] {
            let message = image.parse::<ImageReference>().unwrap_err().to_string();
            assert!(message.contains("not pinned by digest"), "{message}");
            assert!(message.contains("hint: `ocinitrd update IMAGE --builder`"), "{message}");
        }
    }

    #[test]
    fn a_tag_is_kept_when_the_digest_changes() {
        let text = "registry.example.org:5000/team/fedora:44";
        let digest = DIGEST.parse().unwrap();
        for (image, pinned) in [(text.to_owned(), None), (format!("{text}@{DIGEST}"), Some(digest))] {
            let tagged: TaggedImage = image.parse().unwrap();
            assert_eq!((tagged.to_string().as_str(), tagged.digest()), (text, pinned));
            assert_eq!((tagged.repository().as_str(), tagged.tag()), ("registry.example.org:5000/team/fedora", "44"));
            assert_eq!(tagged.pinned_to(digest).to_string(), format!("{text}@{DIGEST}"));
        }
        for (image, words) in [
            (format!("quay.io/fedora@{DIGEST}"), "has no tag"),
            ("quay.io/fedora".to_owned(), "has no tag"),
            (format!("localhost/fedora:44@{DIGEST}"), "is made on this machine"),
            ("fedora:44".to_owned(), "does not name its registry"),
            ("quay.io/fedora:44@sha256:12".to_owned(), "reading the digest"),
        ] {
            let message = format!("{:#}", image.parse::<TaggedImage>().unwrap_err());
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn a_short_name_is_refused() {
        for image in ["fedora", "library/fedora:44"] {
            let message = format!("{image}@{DIGEST}").parse::<ImageReference>().unwrap_err().to_string();
            assert!(message.contains("does not name its registry"), "{message}");
        }
    }

    #[test]
    fn a_mirror_is_a_repository() {
        for text in ["quay.io/fedora/fedora", "localhost:5000/a"] {
            check_repository(text).unwrap();
        }
        for text in [
            "fedora",
            "quay.io/fedora:44",
            &format!("quay.io/fedora@{DIGEST}"),
            "https://quay.io/fedora",
            "quay.io/",
            "",
        ] {
            let message = check_repository(text).unwrap_err().to_string();
            assert!(message.contains("registry/name, without tag and digest"), "{message}");
        }
    }

    #[test]
    fn malformed_parts_are_refused() {
        for image in ["quay.io/Upper", "quay.io//twice", "quay.io/name:", "quay.io/a b", "quay.io/"] {
            assert!(format!("{image}@{DIGEST}").parse::<ImageReference>().is_err(), "{image}");
        }
        for digest in ["sha256:12", "md5:0c9e", ""] {
            let message = format!("{:#}", format!("quay.io/name@{digest}").parse::<ImageReference>().unwrap_err());
            assert!(message.contains("quay.io/name@"), "{message}");
        }
    }
}
