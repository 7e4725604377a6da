//! `/etc/fstab` (fstab(5)): its text in, lines out.

use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use super::mountinfo::unescape;
use ocinitrd_support::links;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Where it is.
pub const FSTAB: &str = "/etc/fstab";

/// A line. Blanks in its fields are written as `\040`, and are blanks here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FstabLine {
    /// What is mounted.
    pub source: String,
    /// Where.
    pub point: String,
    /// Its type.
    pub kind: String,
    options: String,
}

impl FstabLine {
    /// Whether it has that option.
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|known| known == option)
    }
}

/// The lines of the machine whose root is `root`; none where it has no such file.
///
/// # Errors
/// Fails when the file is there and cannot be read.
pub fn read_fstab(root: &Path) -> Result<Vec<FstabLine>> {
    let path = Path::new(FSTAB);
    let text = links::place(root, path).and_then(|place| regular_file::read_text(&place, TEXT_LIMIT_BYTES));
    match text {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        text => {
            let text = text.with_context(|| format!("reading {}", root.join(&FSTAB[1..]).display()))?;
            Ok(lines(&text).collect())
        }
    }
}

/// The lines of a text that name at least what is mounted where; as libmount takes them, the rest may be missing.
pub(super) fn lines(text: &str) -> impl Iterator<Item = FstabLine> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().map(unescape);
        let (source, point) = (fields.next()?, fields.next()?);
        let [kind, options] = [fields.next(), fields.next()].map(Option::unwrap_or_default);
        Some(FstabLine { source, point, kind, options })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    #[test]
    fn fields_have_their_blanks_back_and_comments_are_none() {
        let text =
            "# /dev/a /b ext4 x\n /dev/my\\040disk\t/my\\040place ext4 ro,x-initrd.mount 0 0\nbroken\n/dev/b none\n";
        let found: Vec<_> = lines(text).collect();
        assert_eq!((found[0].source.as_str(), found[0].point.as_str()), ("/dev/my disk", "/my place"));
        assert!(found[0].has("x-initrd.mount") && !found[0].has("x-initrd") && found[0].kind == "ext4");
        assert_eq!((found.len(), found[1].point.as_str()), (2, "none"));
    }

    #[test]
    fn a_link_is_followed_below_the_root() {
        let fixture = Fixture::new();
        assert!(read_fstab(fixture.path()).unwrap().is_empty());
        fixture.link("etc/fstab", "/mine/fstab").write("mine/fstab", "/dev/a / ext4\n");
        assert_eq!(read_fstab(fixture.path()).unwrap()[0].source, "/dev/a");
        fixture.directory("other/etc/fstab");
        let said = format!("{:#}", read_fstab(&fixture.path().join("other")).unwrap_err());
        assert!(said.contains("/other/etc/fstab: ") && said.starts_with("reading "), "{said}");
    }
}
