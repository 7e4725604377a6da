//! Where a repository is, as its definition says it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::MIRRORS_MAX;
use crate::names::{Place, RepositoryId};
use ocinitrd_format::digest::Digest;

/// Values by variable name, such as `releasever`, `basearch` and `arch`.
pub type Variables = BTreeMap<String, String>;

/// A repository that packages may come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// Its name in dnf's configuration and in every message: letters, digits, `-`, `_`, `.` and `:`.
    pub id: String,
    /// Where it is.
    pub location: Location,
    /// Whether its metadata is signed: then the signature is fetched too. It is verified where dnf runs.
    pub repo_gpgcheck: bool,
    /// The digest that its `repomd.xml` must have, where an earlier state of the repository is wanted.
    pub pinned: Option<Digest>,
    /// Whether the lists of all files of all packages are needed: when packages are asked for by paths, by those that
    /// depend on paths outside `/etc` and the `bin` directories, and by dnf before 4.18. They are the biggest files.
    pub filelists: bool,
}

/// Where a repository is. Variables are [substituted](substitute) already.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Location {
    /// Base URLs with the same content, the preferred first: `https://`, `http://`, `file:///path`, or an absolute path.
    BaseUrls(Vec<String>),
    /// The URL of a metalink: mirrors, and the checksum of the right `repomd.xml`.
    Metalink(String),
    /// The URL of a plain list of base URLs, one a line.
    MirrorList(String),
}

impl Source {
    pub(super) fn check(&self) -> Result<()> {
        self.id.parse::<RepositoryId>().map(drop)
    }
}

/// Replaces `$name` and `${name}` by the values of the variables.
///
/// # Errors
/// Fails on a variable without a value, naming those that have one, and on a brace that is not closed.
pub fn substitute(text: &str, variables: &Variables) -> Result<String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let (name, remaining) = match after.strip_prefix('{') {
            Some(braced) => {
                braced.split_once('}').with_context(|| format!("{text:?}: the brace after \"$\" is not closed"))?
            }
            None => {
                let end = after.find(|character: char| !character.is_ascii_alphanumeric() && character != '_');
                after.split_at(end.unwrap_or(after.len()))
            }
        };
        match variables.get(name) {
            Some(value) => result.push_str(value),
            None => {
                let known: Vec<String> = variables.keys().map(|name| format!("${name}")).collect();
                bail!("{text:?}: the variable \"${name}\" has no value; there are {}", known.join(", "));
            }
        }
        rest = remaining;
    }
    result.push_str(rest);
    Ok(result)
}

/// The file at `path` below a base URL; a query of the base URL stays at the end.
pub(crate) fn join(base_url: &str, path: &str) -> String {
    match base_url.split_once('?') {
        Some((base_url, query)) if Place::of(base_url) == Place::Remote => {
            format!("{}/{path}?{query}", base_url.trim_end_matches('/'))
        }
        _ => format!("{}/{path}", base_url.trim_end_matches('/')),
    }
}

/// Parses the mirror list that is at `from`. No server's list leads to files of this machine.
pub(super) fn parse_mirror_list(bytes: &[u8], from: &str) -> Result<Vec<String>> {
    let text = std::str::from_utf8(bytes).context("the mirror list is no text")?;
    let lines = text.lines().map(str::trim);
    let is_usable = |line: &&str| match Place::of(line) {
        Place::Remote => true,
        Place::FileUrl => Place::of(from) != Place::Remote,
        Place::OtherUrl | Place::Path => false,
    };
    let urls: Vec<String> = lines.filter(is_usable).take(MIRRORS_MAX).map(str::to_owned).collect();
    ensure!(!urls.is_empty(), "the mirror list has no line with a URL");
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        [("releasever", "44"), ("basearch", "x86_64")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn variables_are_replaced_with_and_without_braces() {
        let replaced = |text| substitute(text, &variables()).unwrap();
        assert_eq!(replaced("repo=fedora-$releasever&arch=$basearch"), "repo=fedora-44&arch=x86_64");
        assert_eq!(replaced("/${releasever}0/$basearch"), "/440/x86_64");
        assert_eq!(replaced("/srv/repo"), "/srv/repo");
    }

    #[test]
    fn unknown_variables_name_the_known_ones() {
        let message = |text| substitute(text, &variables()).unwrap_err().to_string();
        let unknown = message("https://a.example/$stream/os");
        assert!(unknown.ends_with("\"$stream\" has no value; there are $basearch, $releasever"), "{unknown}");
        assert!(message("/${releasever/os").contains("not closed"));
        assert!(message("/50$/").contains("\"$\" has no value"));
    }

    #[test]
    fn paths_are_joined_once_and_before_a_query() {
        assert_eq!(join("https://a.example/os/", "repodata/repomd.xml"), "https://a.example/os/repodata/repomd.xml");
        assert_eq!(join("https://a.example/os?key=1", "p.rpm"), "https://a.example/os/p.rpm?key=1");
        assert_eq!(join("/srv/what?", "p.rpm"), "/srv/what?/p.rpm");
    }

    #[test]
    fn mirror_lists_have_comments_and_must_have_urls() {
        let list = b"# comment\n\nhttps://a.example/os/ \nftp://b.example\nhttp://c.example/os\n";
        let expected = ["https://a.example/os/", "http://c.example/os"];
        assert_eq!(parse_mirror_list(list, "https://m.example").unwrap(), expected);
        assert!(parse_mirror_list(b"# nothing\n", "https://m.example").is_err());
        let long = "https://a.example/os\n".repeat(MIRRORS_MAX + 1);
        assert_eq!(parse_mirror_list(long.as_bytes(), "https://m.example").unwrap().len(), MIRRORS_MAX);
    }

    #[test]
    fn only_a_mirror_list_of_this_machine_leads_to_files_of_it() {
        let list = b"file:///dev/zero\nFILE:/etc\n";
        assert_eq!(parse_mirror_list(list, "/srv/mirrors").unwrap().len(), 2);
        assert_eq!(parse_mirror_list(list, "file:///srv/mirrors").unwrap().len(), 2);
        for from in ["https://m.example/list", "HTTP://m.example/list"] {
            assert!(parse_mirror_list(list, from).is_err(), "{from}");
        }
    }
}
