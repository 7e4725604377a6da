//! `repomd.xml`: which metadata files a repository has, and what each must hash to.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::xml::{self, Element};
use crate::names::is_below;
use crate::packages::store::{Expected, Size};
use ocinitrd_format::checksum::Checksum;
use ocinitrd_format::text::quoted;

/// 1 GiB for a compressed file: the greatest, lists of all files of a distribution, have a tenth of it.
const METADATA_MAX_BYTES: u64 = 1 << 30;

/// A metadata file that `repomd.xml` lists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Listed {
    /// The type: `primary`, `group`, ...
    pub kind: String,
    /// Relative to the repository's base URL: `repodata/...`.
    pub path: String,
    /// What it must be.
    pub expected: Expected,
}

/// Parses `repomd.xml` and returns the files of the kinds that `wanted` accepts, in the order of the document.
///
/// # Errors
/// Fails on what is no such document, without primary metadata, and on a wanted file that cannot be verified.
pub(super) fn parse(bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Vec<Listed>> {
    let root = xml::parse(bytes, "repomd")?;
    let mut files = Vec::new();
    let mut seen = BTreeSet::new();
    for data in root.children("data") {
        let kind = data.attribute("type")?;
        if wanted(kind) {
            ensure!(seen.insert(kind), "repomd.xml lists {kind} twice");
            files.push(listed(kind, data).with_context(|| format!("reading what repomd.xml says of {kind}"))?);
        }
    }
    ensure!(files.iter().any(|file| file.kind == "primary"), "repomd.xml lists no primary metadata");
    Ok(files)
}

fn listed(kind: &str, data: &Element) -> Result<Listed> {
    let checksum = data.child("checksum")?;
    let path = data.child("location")?.attribute("href")?;
    ensure!(is_below(path), "its location {} is outside the repository", quoted(path.as_bytes()));
    let size = data.children("size").next();
    let size = size.map(|size| size.text.parse().context("its size is no number")).transpose()?;
    ensure!(
        size.is_none_or(|size| size <= METADATA_MAX_BYTES),
        "it is said to have {} bytes; at most {METADATA_MAX_BYTES} are taken",
        size.unwrap_or_default()
    );
    let size = size.map_or(Size::AtMost(METADATA_MAX_BYTES), Size::Exactly);
    let checksum = Checksum::parse(checksum.attribute("type")?, &checksum.text)?;
    Ok(Listed { kind: kind.to_owned(), path: path.to_owned(), expected: Expected { checksum, size } })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOMD: &str = include_str!("../../../tests/fixtures/repository/repomd.xml");

    fn kinds(text: &str, wanted: &[&str]) -> Result<Vec<String>> {
        let files = parse(text.as_bytes(), |kind| wanted.contains(&kind))?;
        Ok(files.into_iter().map(|file| file.kind).collect())
    }

    #[test]
    fn wanted_files_are_listed_with_what_verifies_them() {
        assert_eq!(kinds(REPOMD, &["primary", "group"]).unwrap(), ["primary", "group"]);
        let primary = parse(REPOMD.as_bytes(), |kind| kind == "primary").unwrap().remove(0);
        assert!(primary.path.starts_with("repodata/") && primary.path.ends_with("-primary.xml.gz"));
        assert!(primary.path.contains(&primary.expected.checksum.to_string()["sha256:".len()..]));
        assert!(primary.expected.size.exact_bytes().is_some());
    }

    #[test]
    fn every_file_has_a_bound_and_is_listed_once() {
        let size = |text: &str| parse(text.as_bytes(), |kind| kind == "primary").map(|files| files[0].expected.size);
        let start = REPOMD.find("<size>").unwrap();
        let end = REPOMD.find("</size>").unwrap() + "</size>".len();
        let with = |written: &str| format!("{}{written}{}", &REPOMD[..start], &REPOMD[end..]);
        assert_eq!(size(&with("")).unwrap(), Size::AtMost(METADATA_MAX_BYTES));
        for written in ["18446744073709551615", "18446744073709551616", "1073741825", "-1"] {
            assert!(size(&with(&format!("<size>{written}</size>"))).is_err(), "{written}");
        }
        let data = &REPOMD[REPOMD.find("<data type=\"primary\"").unwrap()..];
        let data = &data[..data.find("</data>").unwrap() + "</data>".len()];
        let message = format!("{:#}", size(&REPOMD.replace(data, &data.repeat(2))).unwrap_err());
        assert_eq!(message, "repomd.xml lists primary twice");
    }

    #[test]
    fn times_of_the_document_are_not_calculated_with() {
        for (element, time) in [("timestamp", "9223372036854775807"), ("revision", "99999999999"), ("timestamp", "-1")]
        {
            let text = REPOMD.replace(&format!("<{element}>"), &format!("<{element}>{time}"));
            assert_ne!(text, REPOMD);
            assert_eq!(kinds(&text, &["primary"]).unwrap(), ["primary"]);
        }
    }

    #[test]
    fn unusable_documents_say_why() {
        let message = |text: &str| format!("{:#}", kinds(text, &["primary"]).unwrap_err());
        assert_eq!(message(&REPOMD.replace("\"primary\"", "\"secondary\"")), "repomd.xml lists no primary metadata");
        assert_eq!(
            message(&REPOMD.replace("\"sha256\"", "\"sha1\"")),
            "reading what repomd.xml says of primary: checksums of type \"sha1\" are not supported, only sha256 and sha512"
        );
        let outside = REPOMD.replace("\"repodata/", "\"../");
        assert!(message(&outside).ends_with("is outside the repository"), "{}", message(&outside));
        let cut = REPOMD.rfind("</repomd>").unwrap();
        assert_eq!(message(&REPOMD[..cut]), "it is cut off inside <repomd>");
        assert!(message("<!DOCTYPE html><html></html>").contains("<html> instead of a <repomd>"));
    }

    #[test]
    fn weak_checksums_of_files_that_are_not_wanted_do_not_matter() {
        let other = REPOMD.find("<data type=\"other\">").unwrap();
        let weakened = format!("{}{}", &REPOMD[..other], REPOMD[other..].replace("\"sha256\"", "\"md5\""));
        assert_eq!(kinds(&weakened, &["primary"]).unwrap(), ["primary"]);
    }
}
