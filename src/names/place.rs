//! Where something is: addresses of servers, files of this machine, and paths below either.

use anyhow::{Result, ensure};

use ocinitrd_format::text::quoted;

/// What kind of place a text names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// A server's: `http://` or `https://`.
    Remote,
    /// A file of this machine by its address, `file:`.
    FileUrl,
    /// An address of another kind, which nothing is fetched from.
    OtherUrl,
    /// A path.
    Path,
}

impl Place {
    /// Tells the kind by how the text begins, as whoever parses the whole of it would.
    pub fn of(text: &str) -> Self {
        let Some((scheme, rest)) = text.split_once(':') else { return Place::Path };
        let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme || !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Place::Path;
        }
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" if rest.starts_with("//") => Place::Remote,
            "file" => Place::FileUrl,
            _ if rest.starts_with("//") => Place::OtherUrl,
            // A file may have a colon in its name.
            _ => Place::Path,
        }
    }
}

/// Refuses an address that is no `http://`, `https://` or `file://` address, and no path where `paths` are allowed. It may hold
/// variables.
///
/// # Errors
/// Fails naming what it may be.
pub fn check_address(text: &str, paths: bool) -> Result<()> {
    let shown = quoted(text.as_bytes());
    ensure!(!text.is_empty(), "an address is empty");
    ensure!(
        !text.chars().any(char::is_control),
        "the address {shown} has a control character, such as the end of a line"
    );
    let is_url = match Place::of(text) {
        Place::Remote => true,
        Place::FileUrl => text.split_once(':').is_some_and(|(_, rest)| rest.starts_with("///")),
        Place::OtherUrl => false,
        Place::Path => return check_path(text, paths),
    };
    ensure!(is_url, "the address {shown} does not begin with http://, https:// or file:///");
    ensure!(!text.contains([' ', '\\']), "the address {shown} has a space or a backslash: write %20 or %5C");
    Ok(())
}

fn check_path(text: &str, is_allowed: bool) -> Result<()> {
    ensure!(is_allowed, "{} is not an address: it begins with http://, https:// or file:///", quoted(text.as_bytes()));
    Ok(())
}

/// Whether a path stays below what it is relative to, wherever that is: a directory, or an address, in which `%2e` is a dot.
pub fn is_below(path: &str) -> bool {
    let is_up = |part: &str| part.to_ascii_lowercase().replace("%2e", ".") == "..";
    let is_part = |part: &str| !part.is_empty() && !is_up(part);
    let has_foreign = |one: char| one.is_control() || one == '\\';
    !path.contains("://") && !path.chars().any(has_foreign) && path.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_as_an_url_parser_would() {
        for (text, place) in [
            ("https://a.example/x", Place::Remote),
            ("HTTP://a.example", Place::Remote),
            ("file:///srv", Place::FileUrl),
            ("FILE:/etc/passwd", Place::FileUrl),
            ("file:/etc/passwd?://", Place::FileUrl),
            ("ftp://a.example", Place::OtherUrl),
            ("/srv/a:b", Place::Path),
            ("../repo", Place::Path),
            ("a:b", Place::Path),
            ("1a://b", Place::Path),
        ] {
            assert_eq!(Place::of(text), place, "{text}");
        }
    }

    #[test]
    fn addresses_are_of_servers_or_files() {
        for text in ["https://a.example/$releasever?x=1&y", "http://user:password@a/", "file:///srv/repo"] {
            check_address(text, false).unwrap();
        }
        check_address("../my repo", true).unwrap();
        for text in ["", "ftp://a", "https://a/x\nenabled=0", "http://a b", "file://host/x", "file:/x", "../repo"] {
            assert!(check_address(text, false).is_err(), "{text:?}");
        }
        assert!(check_address("re\npo", true).is_err());
    }

    #[test]
    fn paths_that_leave_what_they_are_relative_to_are_told() {
        for path in [
            "../x",
            "repodata/../../x",
            "/etc/passwd",
            "https://a.example/x",
            "a//b",
            "",
            "%2e%2e/x",
            "a/.%2E/x",
            "a\nb",
            "..\\x",
            "a\0",
        ] {
            assert!(!is_below(path), "{path:?}");
        }
        for path in ["repodata/1-primary.xml.zst", "Packages/g/gcc-c++-1..2.rpm", "./a.rpm", "a%20b.rpm"] {
            assert!(is_below(path), "{path}");
        }
    }
}
