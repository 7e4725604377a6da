//! The weight and the quirks that Fedora's packages have and Debian's lack, for the repository that is shaped like Fedora:
//! packages of the conversion in, the same with what Fedora's spec files and rpmbuild add to them out.
//!
//! An initrd that is right for packages without them can be wrong for Fedora's: each is something that a build, a boot or
//! the promise of equal bytes has to get along with.

mod accounts;
mod build_id;
mod gpg_keys;
mod hmac;
mod release;
mod scriptlets;
mod trust;

use std::sync::Arc;

use anyhow::{Context, Result};

pub use self::gpg_keys::made_up as made_up_keys;
pub use self::hmac::of_kernel as kernel_hmac;
pub use self::release::packages;

use crate::handmade::EPOCH;
use crate::package::{Class, Content, Dependency, File, Package};

/// Packages of which `updates` has a newer version.
const UPDATED: [&str; 4] = ["bash", "gzip", "less", "tzdata"];

/// Beginnings of the file names of packages that are signed with two keys.
const SIGNED_TWICE: [&str; 5] = ["bash-", "glibc-", "kernel-", "openssl-libs-", "systemd-"];

/// Those of the packages with these file names that are signed with two keys.
pub fn signed_twice(names: &[String]) -> Vec<String> {
    let is_signed_twice = |name: &&String| SIGNED_TWICE.iter().any(|beginning| name.starts_with(beginning));
    names.iter().filter(is_signed_twice).cloned().collect()
}

/// Gives a converted package what Fedora's has beside.
///
/// # Errors
/// Fails when a file of the package is not what the conversion expects.
pub fn shape(package: &mut Package) -> Result<()> {
    match package.name.as_str() {
        "ca-certificates" => trust::extract(package).context("making ca-certificates")?,
        "p11-kit-trust" => trust::configure(package),
        "authselect-libs" => own_selected_files(package),
        "plymouth" => package.requires.extend(["plymouth-scripts", "xkeyboard-config"].map(Dependency::any)),
        _ => {}
    }
    package.scriptlets = scriptlets::of(&package.name);
    build_id::add_links(package);
    accounts::provide(package);
    Ok(())
}

/// The package's next release, if `updates` has one.
pub fn update_of(package: &Package) -> Option<Package> {
    if !UPDATED.contains(&package.name.as_str()) {
        return None;
    }
    let (old, mut update) = (package.evr.to_string(), package.clone());
    update.evr.release += ".1";
    update.build_time += 1;
    for provided in &mut update.provides {
        if let Some((_, version)) = provided.version.as_mut().filter(|(_, version)| *version == old) {
            *version = update.evr.to_string();
        }
    }
    Some(update)
}

/// Files that authselect makes when it is installed: links to what the chosen profile says.
fn own_selected_files(package: &mut Package) {
    const SELECTED: [&str; 6] =
        ["fingerprint-auth", "password-auth", "postlogin", "smartcard-auth", "switchable-auth", "system-auth"];
    for directory in ["/etc/authselect", "/etc/authselect/custom", "/var/lib/authselect"] {
        add_directory(package, directory);
    }
    add_ghost(package, "/etc/nsswitch.conf");
    for name in ["authselect.conf", "dconf-db", "dconf-locks", "nsswitch.conf"].iter().chain(&SELECTED) {
        add_ghost(package, &format!("/etc/authselect/{name}"));
    }
    for name in SELECTED {
        add_ghost(package, &format!("/etc/pam.d/{name}"));
    }
}

fn add_directory(package: &mut Package, path: &str) {
    package.files.insert(path.to_owned(), File::of_root(Content::Directory, 0o755, EPOCH));
}

fn add_link(package: &mut Package, path: &str, target: &str) {
    package.files.insert(path.to_owned(), File::of_root(Content::Symlink(target.to_owned()), 0o777, EPOCH));
}

fn add_file(package: &mut Package, path: &str, bytes: impl Into<Vec<u8>>, mode: u16) {
    let content = Content::Regular(Arc::new(bytes.into()));
    package.files.insert(path.to_owned(), File::of_root(content, mode, EPOCH));
}

/// A file that an administrator may change.
fn add_configuration(package: &mut Package, path: &str, text: impl Into<Vec<u8>>) {
    let content = Content::Regular(Arc::new(text.into()));
    let file = File { class: Class::Configuration, ..File::of_root(content, 0o644, EPOCH) };
    package.files.insert(path.to_owned(), file);
}

/// A file that the package owns and a scriptlet makes.
fn add_ghost(package: &mut Package, path: &str) {
    let content = Content::Regular(Arc::new(Vec::new()));
    let file = File { class: Class::Ghost, ..File::of_root(content, 0o644, EPOCH) };
    package.files.insert(path.to_owned(), file);
}

fn require(package: &mut Package, names: &[&str]) {
    package.requires.extend(names.iter().map(|name| Dependency::any(*name)));
}

#[cfg(test)]
mod tests;
