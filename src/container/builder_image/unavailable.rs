//! Why a builder image cannot be had. Each kind has a way out of its own.

use std::fmt;

use crate::container::engine::{ImageReference, TaggedImage};
use crate::container::registry::Refusals;
use crate::packages::download::Reason;

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

    /// What the registries said together of the image that `definition` pins.
    pub(super) fn by(reference: &ImageReference, definition: &str, refusals: &Refusals) -> Self {
        let kind = kind_of(&refusals.reasons);
        let hint = format!(
            "registries delete digests that no tag points to any more; `ocinitrd update {definition} --builder` pins the digest that the \
             tag has now; or name a place that has a copy in [builder] mirrors, or take one in with `ocinitrd store import`"
        );
        let offline = format!("run `ocinitrd fetch {definition}` where there is a network");
        let texts = Texts {
            doing: &format!("fetching the builder image {reference}"),
            registry: reference.registry(),
            gone: ("this digest is gone, or was never there: no registry has it", &hint),
            offline: &offline,
        };
        Unavailable::new(kind, &texts, refusals)
    }

    /// What the registries said together of a tag.
    pub(super) fn of_tag(image: &TaggedImage, refusals: &Refusals) -> Self {
        let kind = kind_of(&refusals.reasons);
        let texts = Texts {
            doing: &format!("asking for the tag {image}"),
            registry: image.registry(),
            gone: ("no registry has this tag", "name another tag in [builder] image"),
            offline: "run it again without --offline",
        };
        Unavailable::new(kind, &texts, refusals)
    }

    fn new(kind: Kind, texts: &Texts<'_>, refusals: &Refusals) -> Self {
        let registry = texts.registry;
        let advice;
        let (summary, hint) = match kind {
            Kind::Gone => texts.gone,
            Kind::Unreachable if refusals.without_tls() => (
                "the registry answers without TLS",
                "if that is what you want, set insecure = true for it in registries.conf, as for podman",
            ),
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
                texts.offline,
            ),
            _ => (
                "no registry gives it as it is named",
                "check the name, the tag and the digest in [builder]; if they are right, the registry or a proxy serves it damaged",
            ),
        };
        let causes: String = refusals.causes.iter().map(|cause| format!("\n  {cause}")).collect();
        Unavailable { kind, message: format!("{}: {summary}{causes}\nhint: {hint}", texts.doing) }
    }
}

/// The words for one object.
struct Texts<'a> {
    /// What was tried.
    doing: &'a str,
    registry: &'a str,
    /// The summary and the hint for an object that is not there.
    gone: (&'a str, &'a str),
    /// The hint where `--offline` forbids asking.
    offline: &'a str,
}

/// Failures that the user can do something about come first.
fn kind_of(reasons: &[Reason]) -> Kind {
    let any = |reason| reasons.contains(&reason);
    if reasons.iter().all(|reason| *reason == Reason::NotAsked) {
        Kind::Offline
    } else if reasons.iter().all(|reason| matches!(reason, Reason::Unreachable | Reason::WithoutTls)) {
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
            (&[Reason::Unreachable, Reason::WithoutTls], Kind::Unreachable),
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
    fn a_registry_without_tls_is_told_from_none() {
        let reference: ImageReference = format!("r.example/a:1@sha256:{}", "00".repeat(32)).parse().unwrap();
        let message = |reason| {
            let refusals = Refusals { causes: vec!["https://r.example/v2/: x".to_owned()], reasons: vec![reason] };
            Unavailable::by(&reference, "mine.toml", &refusals).to_string()
        };
        let without = message(Reason::WithoutTls);
        assert!(without.contains("answers without TLS") && without.contains("insecure = true"), "{without}");
        assert!(message(Reason::Unreachable).contains("no registry answers"));
    }

    #[test]
    fn each_kind_says_what_to_do() {
        let text = format!("quay.io/centos/centos:stream10@sha256:{}", "00".repeat(32));
        let reference: ImageReference = text.parse().unwrap();
        let message = |reason| {
            let refusals =
                Refusals { causes: vec!["https://quay.io/v2/: HTTP status 404".to_owned()], reasons: vec![reason] };
            Unavailable::by(&reference, "mine.toml", &refusals).to_string()
        };
        for (reason, words) in [
            (Reason::Missing, "update mine.toml --builder"),
            (Reason::Unreachable, "no registry answers"),
            (Reason::Unauthorized, "podman login quay.io"),
            (Reason::Busy, "try again later"),
            (Reason::NotAsked, "ocinitrd fetch mine.toml"),
            (Reason::Other, "check the name"),
        ] {
            let message = message(reason);
            assert!(message.contains(words) && message.contains(&text) && message.contains("404"), "{message}");
        }
    }
}
