//! Metalinks, as Fedora's and CentOS's mirror managers write them: which `repomd.xml` is right, and who has it.
//!
//! Version 3.0 of the format with the `alternates` extension: earlier generations that mirrors may still serve.

use anyhow::{Context, Result, ensure};

use super::xml::{self, Element};
use super::{MIRRORS_MAX, TEXT_MAX_BYTES};
use crate::names::Place;
use crate::packages::store::{Expected, Size};
use ocinitrd_format::checksum::Checksum;

const FILE_NAME: &str = "repomd.xml";
const PATH: &str = "/repodata/repomd.xml";

/// What a metalink says about a repository.
#[derive(Debug)]
pub(super) struct Metalink {
    /// The `repomd.xml` that are right: the current one, then earlier ones.
    pub generations: Vec<Expected>,
    /// The mirrors' base URLs (http and https) without slash at the end, the preferred first.
    pub base_urls: Vec<String>,
}

/// Parses a metalink document.
///
/// # Errors
/// Fails on what is no metalink, or names no `repomd.xml`, no SHA-256 or SHA-512 of it, or no http mirror.
pub(super) fn parse(bytes: &[u8]) -> Result<Metalink> {
    let root = xml::parse(bytes, "metalink")?;
    let file =
        root.child("files")?.children("file").find(|file| file.attribute("name").is_ok_and(|name| name == FILE_NAME));
    let file = file.with_context(|| format!("the metalink lists no {FILE_NAME}"))?;
    let alternates = file.children("alternates").flat_map(|alternates| alternates.children("alternate"));
    let mut generations = Vec::new();
    for generation in std::iter::once(file).chain(alternates) {
        generations.extend(expected(generation)?);
    }
    ensure!(!generations.is_empty(), "the metalink has neither a sha256 nor a sha512 of {FILE_NAME}");
    let base_urls = base_urls(file.child("resources")?);
    ensure!(!base_urls.is_empty(), "the metalink lists no http or https mirror");
    Ok(Metalink { generations, base_urls })
}

/// The strongest checksum that is usable; older algorithms beside it do not matter.
fn expected(generation: &Element) -> Result<Option<Expected>> {
    let size = generation.children("size").next();
    let size = size.map(|size| size.text.parse().context("the metalink has a size that is no number")).transpose()?;
    let size = size.map_or(Size::AtMost(TEXT_MAX_BYTES), Size::Exactly);
    let hashes: Vec<&Element> = generation.children("verification").flat_map(|found| found.children("hash")).collect();
    for algorithm in ["sha256", "sha512"] {
        let hash = hashes.iter().find(|hash| hash.attribute("type").is_ok_and(|name| name == algorithm));
        if let Some(hash) = hash {
            return Ok(Some(Expected { checksum: Checksum::parse(algorithm, &hash.text)?, size }));
        }
    }
    Ok(None)
}

fn base_urls(resources: &Element) -> Vec<String> {
    let mut preferred: Vec<(u64, &str)> = resources
        .children("url")
        .filter(|url| Place::of(&url.text) == Place::Remote)
        .filter_map(|url| Some((url.number("preference").unwrap_or(0), url.text.strip_suffix(PATH)?)))
        .collect();
    // Stable: mirrors of one preference stay in the order of the document.
    preferred.sort_by_key(|(preference, _)| std::cmp::Reverse(*preference));
    preferred.into_iter().take(MIRRORS_MAX).map(|(_, base_url)| base_url.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METALINK: &str = include_str!("../../../tests/fixtures/repository/metalink.xml");

    #[test]
    fn generations_and_mirrors_are_in_the_order_of_preference() {
        let metalink = parse(METALINK.as_bytes()).unwrap();
        let generations: Vec<(String, Option<u64>)> =
            metalink.generations.iter().map(|one| (one.checksum.to_string(), one.size.exact_bytes())).collect();
        assert_eq!(
            generations,
            [
                (format!("sha256:{}", "1".repeat(64)), Some(3421)),
                (format!("sha256:{}", "2".repeat(64)), Some(3399)),
                (format!("sha512:{}", "3".repeat(128)), None),
            ]
        );
        assert_eq!(
            metalink.base_urls,
            [
                "https://near.example/fedora/releases/44/Everything/x86_64/os",
                "http://next.example/fedora/releases/44/Everything/x86_64/os",
                "https://far.example/pub/fedora/releases/44/Everything/x86_64/os",
            ]
        );
    }

    #[test]
    fn times_are_not_calculated_with_and_mirrors_are_limited() {
        let url = "<url preference=\"1\">https://m.example/os/repodata/repomd.xml</url>";
        for time in ["9223372036854775807", "99999999999", "-1"] {
            let text = METALINK.replace("1795300000", time);
            assert_ne!(text, METALINK);
            assert_eq!(parse(text.as_bytes()).unwrap().generations.len(), 3, "{time}");
        }
        let many = METALINK.replace("</resources>", &format!("{}</resources>", url.repeat(2 * MIRRORS_MAX)));
        let metalink = parse(many.as_bytes()).unwrap();
        assert_eq!(metalink.base_urls.len(), MIRRORS_MAX);
        assert!(metalink.base_urls[0].starts_with("https://near.example/"));
    }

    #[test]
    fn unusable_metalinks_say_what_is_missing() {
        let message = |text: &str| format!("{:#}", parse(text.as_bytes()).unwrap_err());
        assert_eq!(message("<html/>"), "it is a <html> instead of a <metalink>");
        assert_eq!(message(&METALINK.replace("repomd.xml\"", "other.xml\"")), "the metalink lists no repomd.xml");
        let weak = METALINK.replace("sha256", "sha1").replace("sha512", "md5");
        assert_eq!(message(&weak), "the metalink has neither a sha256 nor a sha512 of repomd.xml");
        assert_eq!(message(&METALINK.replace(">http", ">ftp")), "the metalink lists no http or https mirror");
        let cut = METALINK.find("<resources").unwrap();
        assert_eq!(message(&METALINK[..cut]), "it is cut off inside <file>");
        assert!(message(&METALINK.replace(&"1".repeat(64), "1")).contains("is no sha256 checksum"));
    }
}
