//! `os-release(5)`: a text in, what the system calls itself out. The same form has the `.profile` of a unified kernel image.

use std::collections::BTreeMap;

/// Where a system has it; the first that is there counts.
pub const PATHS: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// What a backslash escapes between double quotes.
const ESCAPED_IN_QUOTES: [char; 4] = ['"', '\\', '$', '`'];

/// Its assignments. Of several of one name the last counts, as for a shell.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OsRelease(BTreeMap<String, String>);

impl OsRelease {
    /// Reads the text; what is no assignment is passed over.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let assignments = lines.filter_map(|line| line.split_once('='));
        OsRelease(assignments.map(|(name, value)| (name.to_owned(), unquoted(value))).collect())
    }

    /// What a name is set to; an empty value is none.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The system's name in lower case, `linux` where none is said.
    pub fn id(&self) -> &str {
        self.value("ID").unwrap_or("linux")
    }

    /// Whether it is this system, or one that was made of it.
    pub fn is_like(&self, id: &str) -> bool {
        self.id() == id || self.value("ID_LIKE").unwrap_or_default().split_ascii_whitespace().any(|like| like == id)
    }
}

/// A value as a shell reads it.
fn unquoted(value: &str) -> String {
    let mut text = String::new();
    let mut open = None;
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        match (open, character) {
            (None, '"' | '\'') => open = Some(character),
            (Some(quote), _) if quote == character => open = None,
            (None, '\\') => text.extend(characters.next()),
            (Some('"'), '\\') => {
                let escaped = characters.next_if(|next| ESCAPED_IN_QUOTES.contains(next));
                text.push(escaped.unwrap_or('\\'));
            }
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests spawn programs as they like")]
mod tests {
    use std::process::Command;

    use super::*;

    const TEXT: &str = "# ID=no\nNAME=\"Fedora \\\"Linux\\\" \\$5 \\a\"\n  ID='fedora'\nVERSION_ID=\"44\"\nVERSION_ID=45\n\
                        A='x\"y\\z'\nB=a\\ b\nC=\"a\"'b'c\nD=\nE=\"\"\n";

    #[test]
    fn values_are_those_that_a_shell_reads() {
        let read = OsRelease::parse(TEXT);
        let names = ["NAME", "ID", "VERSION_ID", "A", "B", "C", "D", "E"];
        let script = names.map(|name| format!("printf '%s\\n' \"${name}\"\n")).concat();
        let output = Command::new("sh").args(["-c", &format!("{TEXT}{script}")]).output().unwrap();
        let of_shell = String::from_utf8(output.stdout).unwrap();
        let ours = names.map(|name| format!("{}\n", read.value(name).unwrap_or_default())).concat();
        assert_eq!(ours, of_shell);
        assert!(ours.starts_with("Fedora \"Linux\" $5 \\a\nfedora\n45\n"), "{ours}");
        assert_eq!((read.value("D"), read.value("E")), (None, None));
    }

    #[test]
    fn a_system_is_like_what_it_was_made_of() {
        let tumbleweed = OsRelease::parse("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n");
        assert!(tumbleweed.is_like("suse") && tumbleweed.is_like("opensuse-tumbleweed") && !tumbleweed.is_like("use"));
        assert!(!OsRelease::parse("ID=fedora\nHOME_URL=\"https://suse.example\"\n").is_like("suse"));
        assert_eq!(OsRelease::parse("").id(), "linux");
    }
}
