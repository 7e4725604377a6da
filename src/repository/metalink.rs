//! Metalinks, as Fedora's and CentOS's mirror managers write them: which `repomd.xml` is right, and who has it.
//!
//! Version 3.0 of the format with the `alternates` extension: earlier generations that mirrors may still serve.

use anyhow::{Context, Result, ensure};

use super::xml::{self, Element};
use crate::format::checksum::Checksum;
use crate::store::Expected;

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
    let size_bytes =
        size.map(|size| size.text.parse().context("the metalink has a size that is no number")).transpose()?;
    let hashes: Vec<&Element> = generation.children("verification").flat_map(|found| found.children("hash")).collect();
    for algorithm in ["sha256", "sha512"] {
        let hash = hashes.iter().find(|hash| hash.attribute("type").is_ok_and(|name| name == algorithm));
        if let Some(hash) = hash {
            return Ok(Some(Expected { checksum: Checksum::parse(algorithm, &hash.text)?, size_bytes }));
        }
    }
    Ok(None)
}

fn base_urls(resources: &Element) -> Vec<String> {
    let mut preferred: Vec<(u64, &str)> = resources
        .children("url")
        .filter(|url| url.text.starts_with("https://") || url.text.starts_with("http://"))
        .filter_map(|url| Some((url.number("preference").unwrap_or(0), url.text.strip_suffix(PATH)?)))
        .collect();
    // Stable: mirrors of one preference stay in the order of the document.
    preferred.sort_by_key(|(preference, _)| std::cmp::Reverse(*preference));
    preferred.into_iter().map(|(_, base_url)| base_url.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METALINK: &str = include_str!("../../tests/fixtures/repository/metalink.xml");

    #[test]
    fn generations_and_mirrors_are_in_the_order_of_preference() {
        let metalink = parse(METALINK.as_bytes()).unwrap();
        let generations: Vec<(String, Option<u64>)> =
            metalink.generations.iter().map(|one| (one.checksum.to_string(), one.size_bytes)).collect();
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
