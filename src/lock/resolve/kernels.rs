//! The kernels of a solution: which versions its packages are.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use super::{Packages, Request, nevras};
use crate::container::steps::solve;
use crate::lock::file::Kernel;
use crate::names::KernelVersion;
use crate::packages::rpm_file::RpmPackage;
use crate::packages::store::Store;
use ocinitrd_format::digest::Digest;

/// The kernels with their versions, which the files of their packages tell.
pub(super) fn locked(
    solution: &solve::Solution,
    request: &Request,
    packages: &Packages,
    store: &Store,
) -> Result<Vec<Kernel>> {
    let mut kernels = Vec::new();
    for (wanted, chosen) in request.kernels.iter().zip(&solution.kernels) {
        if chosen.is_empty() {
            continue;
        }
        let digests = chosen.iter().map(|one| packages[&one.nevra].checksum);
        let version = kernel_version(digests, store)?;
        check_version(wanted.as_deref(), &version)?;
        kernels.push(Kernel { version, by_version: wanted.is_some(), packages: nevras(chosen) });
    }
    kernels.sort_by(|one, other| (&one.version, one.by_version).cmp(&(&other.version, other.by_version)));
    Ok(kernels)
}

/// The metadata say which packages are the kernel of a version, the files of the packages which kernel they are.
fn check_version(wanted: Option<&str>, found: &str) -> Result<()> {
    found.parse::<KernelVersion>().context("reading the kernel's version from the paths in its packages")?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
        bail!(
            "the packages that the repositories have for the kernel {wanted} are those of the kernel {found}: ask for that one, \
             or look for the repository that lists them wrongly"
        );
    }
    Ok(())
}

/// What `uname -r` prints under the kernel that these rpms are: the one directory that its image and modules lie in.
fn kernel_version(digests: impl Iterator<Item = Digest>, store: &Store) -> Result<String> {
    let (mut found, mut has_image) = (BTreeSet::new(), false);
    for digest in digests {
        let package = RpmPackage::open(&store.path(&digest))?;
        for (version, file) in package.files.iter().filter_map(|file| kernel_file(&file.path)) {
            found.insert(version.to_owned());
            has_image |= file == "vmlinuz";
        }
    }
    let versions: Vec<&str> = found.iter().map(String::as_str).collect();
    match versions[..] {
        [version] if has_image => Ok(version.to_owned()),
        [] | [_] => bail!(
            "the packages of [kernel] packages hold no kernel image (/lib/modules/KVER/vmlinuz): name the one that does"
        ),
        _ => bail!(
            "the packages of [kernel] packages hold several kernels: {}; name packages of one kernel only",
            versions.join(", ")
        ),
    }
}

/// The kernel that a file belongs to, and its path below the kernel's directory.
fn kernel_file(path: &[u8]) -> Option<(&str, &str)> {
    let path = std::str::from_utf8(path).ok()?;
    path.strip_prefix("/usr").unwrap_or(path).strip_prefix("/lib/modules/")?.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_the_one_that_was_asked_for() {
        let found = "6.12.117-1.x86_64";
        assert!(check_version(None, found).is_ok());
        assert!(check_version(Some(found), found).is_ok());
        for (wanted, found, expected) in [
            (
                Some("6.12.118-1.x86_64"),
                found,
                "for the kernel 6.12.118-1.x86_64 are those of the kernel 6.12.117-1.x86_64",
            ),
            (None, "6.12/../..", "reading the kernel's version"),
        ] {
            let error = format!("{:#}", check_version(wanted, found).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn only_what_lies_below_a_kernels_directory_tells_its_version() {
        assert_eq!(kernel_file(b"/lib/modules/6.12/vmlinuz"), Some(("6.12", "vmlinuz")));
        assert_eq!(kernel_file(b"/usr/lib/modules/6.12/kernel/a.ko"), Some(("6.12", "kernel/a.ko")));
        for path in [
            &b"/usr/lib/modules/6.12"[..],
            b"/boot/vmlinuz-6.12",
            b"/usr/usr/lib/modules/6.12/a",
            b"/lib/modules/\xff/a",
        ] {
            assert_eq!(kernel_file(path), None);
        }
    }
}
