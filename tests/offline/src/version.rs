//! Versions: Debian's `[epoch:]upstream[-revision]` in, rpm's epoch, version and release out.
//!
//! Debian's ordering is deb-version(7), needed to choose among the versions that several suites hold.

use std::cmp::Ordering;
use std::fmt;

use anyhow::{Context, Result};

/// An rpm epoch, version and release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evr {
    /// 0 where Debian's version has none.
    pub epoch: u32,
    /// Debian's upstream version.
    pub version: String,
    /// Debian's revision; `1` for a native package, which has none.
    pub release: String,
}

impl Evr {
    /// The rpm form of a Debian version: split at the last `-`, which rpm does not allow inside a version.
    ///
    /// # Errors
    /// Fails when the epoch is not a number.
    pub fn from_debian(debian: &str) -> Result<Evr> {
        let (epoch, rest) = split_epoch(debian)?;
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "1"));
        Ok(Evr { epoch, version: upstream.replace('-', "_"), release: revision.to_owned() })
    }

    /// `version-release`, as file names and source package names have it.
    pub fn without_epoch(&self) -> String {
        format!("{}-{}", self.version, self.release)
    }
}

impl fmt::Display for Evr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}-{}", self.epoch, self.version, self.release)
    }
}

/// The rpm form of the version in a Debian dependency, which may name no revision: then rpm compares none.
///
/// # Errors
/// Fails when the epoch is not a number.
pub fn relation_version(debian: &str) -> Result<String> {
    let (epoch, rest) = split_epoch(debian)?;
    Ok(match rest.rsplit_once('-') {
        Some((upstream, revision)) => format!("{epoch}:{}-{revision}", upstream.replace('-', "_")),
        None => format!("{epoch}:{rest}"),
    })
}

fn split_epoch(debian: &str) -> Result<(u32, &str)> {
    match debian.split_once(':') {
        Some((epoch, rest)) => {
            let epoch = epoch.parse().with_context(|| format!("reading the epoch of version {debian}"))?;
            Ok((epoch, rest))
        }
        None => Ok((0, debian)),
    }
}

/// Orders two Debian versions.
pub fn compare_debian(left: &str, right: &str) -> Ordering {
    let split = |version| split_epoch(version).unwrap_or((0, version));
    let ((left_epoch, left), (right_epoch, right)) = (split(left), split(right));
    let (left_upstream, left_revision) = left.rsplit_once('-').unwrap_or((left, "0"));
    let (right_upstream, right_revision) = right.rsplit_once('-').unwrap_or((right, "0"));
    left_epoch
        .cmp(&right_epoch)
        .then_with(|| compare_part(left_upstream, right_upstream))
        .then_with(|| compare_part(left_revision, right_revision))
}

/// Compares by turns a run without digits and a run of digits, as deb-version(7) says.
fn compare_part(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = split_run(left, |byte| !byte.is_ascii_digit());
        let (right_text, right_rest) = split_run(right, |byte| !byte.is_ascii_digit());
        let (left_digits, left_next) = split_run(left_rest, |byte| byte.is_ascii_digit());
        let (right_digits, right_next) = split_run(right_rest, |byte| byte.is_ascii_digit());
        let order = compare_text(left_text, right_text).then_with(|| compare_digits(left_digits, right_digits));
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_next, right_next);
    }
    Ordering::Equal
}

fn split_run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|&byte| !belongs(byte)).unwrap_or(bytes.len()))
}

/// `~` sorts before the end, the end before letters, letters before everything else.
fn compare_text(left: &[u8], right: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(&letter) if letter.is_ascii_alphabetic() => i32::from(letter),
        Some(&other) => i32::from(other) + 256,
    };
    (0..left.len().max(right.len()))
        .map(|index| weight(left.get(index)).cmp(&weight(right.get(index))))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

fn compare_digits(left: &[u8], right: &[u8]) -> Ordering {
    let significant = |digits: &[u8]| digits.iter().skip_while(|&&digit| digit == b'0').copied().collect::<Vec<_>>();
    let (left, right) = (significant(left), significant(right));
    left.len().cmp(&right.len()).then_with(|| left.cmp(&right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evr(debian: &str) -> String {
        Evr::from_debian(debian).unwrap().to_string()
    }

    #[test]
    fn a_debian_version_splits_at_its_last_dash() {
        assert_eq!(evr("257.13-1~deb13u1"), "0:257.13-1~deb13u1");
        assert_eq!(evr("1:4.16.0-2+really2.41.5-0+deb13u1"), "1:4.16.0_2+really2.41.5-0+deb13u1");
        assert_eq!(evr("20250419"), "0:20250419-1");
        assert!(Evr::from_debian("x:1-1").is_err());
    }

    #[test]
    fn a_relation_without_revision_names_no_release() {
        assert_eq!(relation_version("2.38").unwrap(), "0:2.38");
        assert_eq!(relation_version("1:2.10-4~").unwrap(), "1:2.10-4~");
    }

    #[test]
    fn debian_versions_order_as_dpkg_orders_them() {
        let ordered = [
            "1.0~rc1-1",
            "1.0-1~bpo1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-2",
            "1.0-10",
            "1.0a-1",
            "1.0+dfsg-1",
            "1.1-1",
            "1:0.1-1",
        ];
        for pair in ordered.windows(2) {
            assert_eq!(compare_debian(pair[0], pair[1]), Ordering::Less, "{} < {}", pair[0], pair[1]);
            assert_eq!(compare_debian(pair[1], pair[0]), Ordering::Greater);
        }
        assert_eq!(compare_debian("1.0-1", "0:1.0-1"), Ordering::Equal);
        assert_eq!(compare_debian("1.0-0", "1.0"), Ordering::Equal);
    }
}
