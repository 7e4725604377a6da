//! A package in a lock.

use serde::{Deserialize, Serialize};

use crate::packages::repository::Package;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::openpgp::Fingerprint;
use ocinitrd_format::time::Timestamp;

/// Why a package is in the lock.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The definition names it.
    User,
    /// It is part of a kernel.
    Kernel,
    /// Another package needs it.
    Dependency,
}

/// One rpm file, to the bit.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// The package's name.
    pub name: String,
    /// Its epoch.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u32,
    /// Upstream's version.
    pub version: String,
    /// The distribution's release.
    pub release: String,
    /// `x86_64`, `noarch`, ...
    pub arch: String,
    /// The repository it comes from.
    pub repo: String,
    /// Where in the repository it is, or a whole URL.
    pub location: String,
    /// The digest of the rpm file.
    pub sha256: Digest,
    /// The size of the rpm file in bytes.
    pub size: u64,
    /// What it takes when installed, in bytes.
    pub installed_size: u64,
    /// When it was built, in seconds since 1970-01-01 UTC.
    pub build_time: Timestamp,
    /// The file name of the source rpm.
    pub source_rpm: String,
    /// Its licence, as it states it.
    pub license: String,
    /// The key that signed it.
    pub key: Fingerprint,
    /// Why it is there.
    pub reason: Reason,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl LockedPackage {
    /// Locks `package`, signed by `key`.
    pub fn new(package: &Package, key: Fingerprint, reason: Reason) -> Self {
        let package = package.clone();
        LockedPackage {
            name: package.name,
            epoch: package.epoch,
            version: package.version,
            release: package.release,
            arch: package.arch,
            repo: package.repository,
            location: package.location,
            sha256: package.checksum,
            size: package.size_bytes,
            installed_size: package.installed_size_bytes,
            build_time: package.build_time,
            source_rpm: package.source_rpm,
            license: package.license,
            key,
            reason,
        }
    }

    /// The package as its repository described it.
    pub fn package(&self) -> Package {
        let locked = self.clone();
        Package {
            name: locked.name,
            epoch: locked.epoch,
            version: locked.version,
            release: locked.release,
            arch: locked.arch,
            repository: locked.repo,
            location: locked.location,
            checksum: locked.sha256,
            size_bytes: locked.size,
            installed_size_bytes: locked.installed_size,
            build_time: locked.build_time,
            source_rpm: locked.source_rpm,
            license: locked.license,
        }
    }

    /// `NAME-[EPOCH:]VERSION-RELEASE.ARCH`.
    pub fn nevra(&self) -> String {
        self.package().nevra()
    }
}
