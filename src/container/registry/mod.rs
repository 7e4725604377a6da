//! Registries: what has images by digest ([distribution-spec](https://github.com/opencontainers/distribution-spec/blob/main/spec.md)).
//!
//! Enters: the name of a repository, further names that serve the same images, and the settings that podman has on this machine.
//! Leaves: manifests in memory and blobs in the store, all verified by their digests.
//!
//! | module | what it reads |
//! |---|---|
//! | [`configuration`] | `registries.conf`: mirrors, and what may be asked without TLS |
//! | [`credentials`] | `auth.json`: what `podman login` keeps |
//! | [`certificates`] | `certs.d`: certificates for single registries |
//!
//! The client is ours because of what the project's downloads promise and the client libraries at hand do not: a bound for every
//! body and a minimum rate, `Retry-After`, certificates of the client, failures of a token server that are not swallowed. The protocol
//! is two addresses.

pub(crate) mod certificates;
pub(crate) mod configuration;
pub(crate) mod credentials;

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::image::oci::document::LIMIT_BYTES;
use crate::packages::download::authorization::Authorization;
use crate::packages::download::{Downloader, Meter, Reason, Unobtainable};
use crate::packages::store::{Expected, Size, Store};
use configuration::{Configuration, Location};
use ocinitrd_format::checksum::Checksum;
use ocinitrd_format::digest::Digest;

/// The documents that are understood; blobs are sent whatever is asked for.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json, */*";

/// Where the settings for registries lie on this machine.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `registries.conf` and directories of such files; later ones count more.
    pub configuration: Vec<PathBuf>,
    /// `auth.json` and the like; the first that knows a registry counts.
    pub credentials: Vec<PathBuf>,
    /// `certs.d`; the first that knows a registry counts.
    pub certificates: Vec<PathBuf>,
}

/// The places that may have an image.
#[derive(Debug)]
pub struct Registries {
    endpoints: Vec<Endpoint>,
}

/// One of them.
#[derive(Debug)]
struct Endpoint {
    /// `https://registry/v2/name`, and the same over HTTP if that is allowed.
    bases: Vec<String>,
    downloader: Downloader,
}

/// No place has it: what each said.
#[derive(Debug, Default)]
pub struct Refusals {
    /// A line for each place.
    pub causes: Vec<String>,
    /// The kind of each failure.
    pub reasons: Vec<Reason>,
}

impl Registries {
    /// Those that `repositories` (`registry/name`, the best first) are to be had from, with this machine's settings.
    ///
    /// # Errors
    /// Fails when the settings cannot be read, and when every place is blocked by them.
    pub fn of(repositories: &[String], settings: &Settings, downloader: &Downloader) -> Result<Self> {
        let configuration = Configuration::read(&settings.configuration)?;
        let mut locations: Vec<Location> = Vec::new();
        for location in repositories.iter().flat_map(|repository| configuration.locations(repository)) {
            if !locations.contains(&location) {
                locations.push(location);
            }
        }
        ensure!(!locations.is_empty(), "registries.conf blocks every place of {}", repositories.join(", "));
        let endpoints = locations.iter().map(|location| Endpoint::new(location, settings, downloader));
        Ok(Registries { endpoints: endpoints.collect::<Result<_>>()? })
    }

    /// The manifest or index of a digest.
    ///
    /// # Errors
    /// Fails with [`Refusals`] when no place has it, or with what is wrong on this side.
    pub async fn manifest(&self, digest: Digest) -> Result<Vec<u8>> {
        let check = |bytes: &[u8]| {
            let found = Digest::of(bytes);
            ensure!(found == digest, "the manifest there has the digest {found}");
            Ok(())
        };
        self.document(&format!("the manifest {digest}"), &digest.to_string(), check).await
    }

    /// The manifest or index that a tag names now: of the first place that answers.
    ///
    /// # Errors
    /// As [`Registries::manifest`]. That the bytes are a manifest is not looked at.
    pub async fn tagged(&self, tag: &str) -> Result<Vec<u8>> {
        self.document(&format!("the tag {tag}"), tag, |_| Ok(())).await
    }

    async fn document(&self, what: &str, reference: &str, check: impl Fn(&[u8]) -> Result<()>) -> Result<Vec<u8>> {
        let mut refusals = Refusals::default();
        for endpoint in &self.endpoints {
            match endpoint.document(what, reference, &check).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => refusals.add(error)?,
            }
        }
        Err(refusals.into())
    }

    /// Brings a blob into the store, unless it is there.
    ///
    /// # Errors
    /// As [`Registries::manifest`], and when the store fails.
    pub async fn blob(&self, digest: Digest, size_bytes: u64, store: &Store, meter: &Meter) -> Result<()> {
        let expected = Expected { checksum: Checksum::Sha256(digest), size: Size::Exactly(size_bytes) };
        let mut refusals = Refusals::default();
        for endpoint in &self.endpoints {
            let locations = endpoint.locations(&format!("blobs/{digest}"));
            match endpoint.downloader.store(&format!("the blob {digest}"), &locations, &expected, store, meter).await {
                Ok(_) => return Ok(()),
                Err(error) => refusals.add(error)?,
            }
        }
        Err(refusals.into())
    }
}

impl Endpoint {
    fn new(location: &Location, settings: &Settings, downloader: &Downloader) -> Result<Self> {
        let (registry, name) = split(&location.repository)?;
        let mut trust = certificates::find(&settings.certificates, registry)?;
        trust.anybody = location.insecure;
        let credentials = credentials::find(&settings.credentials, &location.repository)?;
        let schemes: &[&str] = if location.insecure { &["https", "http"] } else { &["https"] };
        // Docker's registry has another address than its name says.
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        Ok(Endpoint {
            bases: schemes.iter().map(|scheme| format!("{scheme}://{host}/v2/{name}")).collect(),
            downloader: downloader.for_registry(ACCEPT, trust, Authorization::for_pulling(name, credentials)),
        })
    }

    fn locations(&self, path: &str) -> Vec<String> {
        self.bases.iter().map(|base| format!("{base}/{path}")).collect()
    }

    async fn document(&self, what: &str, reference: &str, check: impl Fn(&[u8]) -> Result<()>) -> Result<Vec<u8>> {
        let locations = self.locations(&format!("manifests/{reference}"));
        Ok(self.downloader.read(what, &locations, LIMIT_BYTES, check).await?.0)
    }
}

fn split(repository: &str) -> Result<(&str, &str)> {
    let parts = repository.split_once('/').filter(|(registry, name)| !registry.is_empty() && !name.is_empty());
    parts.ok_or_else(|| anyhow::anyhow!("{repository:?} is not of the form registry/name"))
}

impl Refusals {
    /// Notes that a place does not have it.
    ///
    /// # Errors
    /// Fails with every other error: no place can help then.
    fn add(&mut self, error: anyhow::Error) -> Result<()> {
        let unobtainable: Unobtainable = error.downcast()?;
        self.causes.extend_from_slice(unobtainable.causes());
        self.reasons.extend(&unobtainable.reasons);
        Ok(())
    }
}

impl Refusals {
    /// Whether something there answers, but not as TLS.
    pub fn without_tls(&self) -> bool {
        self.reasons.contains(&Reason::WithoutTls)
    }
}

impl std::fmt::Display for Refusals {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.causes.join("\n  "))
    }
}

impl std::error::Error for Refusals {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_asked_over_tls_unless_the_user_said_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registries.conf");
        std::fs::write(&path, "[[registry]]\nlocation = 'r.example'\ninsecure = true\n").unwrap();
        let settings = Settings { configuration: vec![path], ..Settings::default() };
        let repositories = ["quay.io/a/b", "r.example/c", "docker.io/library/d", "quay.io/a/b"].map(str::to_owned);
        let registries = Registries::of(&repositories, &settings, &Downloader::default()).unwrap();
        let bases: Vec<&str> =
            registries.endpoints.iter().flat_map(|endpoint| &endpoint.bases).map(String::as_str).collect();
        assert_eq!(
            bases,
            [
                "https://quay.io/v2/a/b",
                "https://r.example/v2/c",
                "http://r.example/v2/c",
                "https://registry-1.docker.io/v2/library/d"
            ]
        );
        assert!(Registries::of(&["fedora".to_owned()], &Settings::default(), &Downloader::default()).is_err());
    }
}
