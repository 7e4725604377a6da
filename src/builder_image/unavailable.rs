//! Why a builder image cannot be had. Each kind has a way out of its own.

use std::fmt;

use crate::download::Reason;
use crate::engine::{ImageReference, TaggedImage};
use crate::registry::Refusals;

/// What is the matter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// No registry has the digest any more.
    Gone,
    /// No registry answers.
    Unreachable,
    /// A registry wants to be asked later.
    Busy,
    /// A registry wants credentials, or others.
    Unauthorized,
    /// The image is for other processors.
    OtherArchitecture,
    /// It is not here, and `--offline` forbids to ask.
    Offline,
    /// Something else: each registry's own words tell.
    Refused,
}

/// A builder image cannot be had.
#[derive(Debug)]
pub struct Unavailable {
    /// What is the matter.
    pub kind: Kind,
    message: String,
}

impl Unavailable {
    /// There is none for this processor, but for those of `platforms`.
    pub(super) fn for_others(architecture: &str, platforms: &str) -> Self {
        let message = format!(
            "the image has none for linux/{architecture}; it has: {platforms}\n\
             hint: pin an image in [builder] that is built for this processor too"
        );
        Unavailable { kind: Kind::OtherArchitecture, message }
    }

    /// What the registries said together of an image that is pinned.
    pub(super) fn by(reference: &ImageReference, refusals: &Refusals) -> Self {
        let kind = kind_of(&refusals.reasons);
        let gone = (
            "this digest is gone: no registry has it any more",
            "registries delete digests that no tag points to any more; `ocinitrd update IMAGE --builder` pins the digest that the tag has \
             now; or name a place that has a copy in [builder] mirrors, or take one in with `ocinitrd store import`",
        );
        Unavailable::new(kind, &format!("fetching the builder image {reference}"), reference.registry(), gone, refusals)
    }

    /// What the registries said together of a tag.
    pub(super) fn of_tag(image: &TaggedImage, refusals: &Refusals) -> Self {
        let kind = kind_of(&refusals.reasons);
        let gone = ("no registry has this tag any more", "name another tag in [builder] image");
        Unavailable::new(kind, &format!("asking for the tag {image}"), image.registry(), gone, refusals)
    }

    /// `gone` is the summary and the hint for what is not there.
    fn new(kind: Kind, doing: &str, registry: &str, gone: (&str, &str), refusals: &Refusals) -> Self {
        let advice;
        let (summary, hint) = match kind {
            Kind::Gone => gone,
            Kind::Unreachable => (
                "no registry answers",
                "check the network, the proxy (https_proxy, no_proxy) and the certificates (SSL_CERT_FILE, certs.d)",
            ),
            Kind::Busy => {
                advice = format!(
                    "try again later; after `podman login {registry}` many registries allow more, and [builder] mirrors can name \
                     another place"
                );
                ("the registry answers that it has been asked too often", advice.as_str())
            }
            Kind::Unauthorized => {
                advice = format!(
                    "log in with `podman login {registry}`; of an image that does not exist some registries say the same"
                );
                ("credentials are wanted, or others than those in auth.json", advice.as_str())
            }
            Kind::Offline => (
                "it is neither in the engine's storage nor whole in the store, and --offline forbids to ask a registry",
                "run `ocinitrd fetch IMAGE` where there is a network",
            ),
            _ => ("no registry gives it", "check the name, the tag and the digest in [builder]"),
        };
        let causes: String = refusals.causes.iter().map(|cause| format!("\n  {cause}")).collect();
        Unavailable { kind, message: format!("{doing}: {summary}{causes}\nhint: {hint}") }
    }
}

/// Failures that the user can do something about come first.
fn kind_of(reasons: &[Reason]) -> Kind {
    let any = |reason| reasons.contains(&reason);
    if reasons.iter().all(|reason| *reason == Reason::NotAsked) {
        Kind::Offline
    } else if reasons.iter().all(|reason| *reason == Reason::Unreachable) {
        Kind::Unreachable
    } else if any(Reason::Unauthorized) {
        Kind::Unauthorized
    } else if any(Reason::Busy) {
        Kind::Busy
    } else if any(Reason::Other) || !any(Reason::Missing) {
        Kind::Refused
    } else {
        Kind::Gone
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Unavailable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_all_registries_make_one_kind() {
        for (reasons, kind) in [
            (&[Reason::Unreachable, Reason::Unreachable][..], Kind::Unreachable),
            (&[Reason::Missing], Kind::Gone),
            (&[Reason::Missing, Reason::Unreachable], Kind::Gone),
            (&[Reason::Missing, Reason::Unauthorized], Kind::Unauthorized),
            (&[Reason::Missing, Reason::Busy], Kind::Busy),
            (&[Reason::Missing, Reason::Other], Kind::Refused),
            (&[Reason::NotAsked, Reason::NotAsked], Kind::Offline),
        ] {
            assert_eq!(kind_of(reasons), kind, "{reasons:?}");
        }
    }

    #[test]
    fn each_kind_says_what_to_do() {
        let text = format!("quay.io/centos/centos:stream10@sha256:{}", "00".repeat(32));
        let reference: ImageReference = text.parse().unwrap();
        let message = |reason| {
            let refusals =
                Refusals { causes: vec!["https://quay.io/v2/: HTTP status 404".to_owned()], reasons: vec![reason] };
            Unavailable::by(&reference, &refusals).to_string()
        };
        for (reason, words) in [
            (Reason::Missing, "update IMAGE --builder"),
            (Reason::Unreachable, "no registry answers"),
            (Reason::Unauthorized, "podman login quay.io"),
            (Reason::Busy, "try again later"),
            (Reason::NotAsked, "ocinitrd fetch IMAGE"),
            (Reason::Other, "check the name"),
        ] {
            let message = message(reason);
            assert!(message.contains(words) && message.contains(&text) && message.contains("404"), "{message}");
        }
    }
}
