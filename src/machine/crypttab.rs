//! Encrypted volumes: the text of `/etc/crypttab` in, its lines out; `crypttab(5)`.

/// Where a machine has it.
pub const PATH: &str = "/etc/crypttab";

/// A line of crypttab.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// What the volume is called below `/dev/mapper`.
    pub name: String,
    /// Where its key is, if anywhere.
    pub key: Option<String>,
    /// Its options.
    pub options: Vec<String>,
}

impl Line {
    /// Whether it says that the initrd opens the volume, wherever it is needed.
    pub fn is_for_initrd(&self) -> bool {
        self.options.iter().any(|option| option == "x-initrd.attach")
    }

    /// The files of the system that it names: its key and its header. What lies on another device, behind a colon, is none.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let header = self.options.iter().find_map(|option| option.strip_prefix("header="));
        self.key.as_deref().into_iter().chain(header).filter(|path| is_file(path))
    }
}

/// Whether a path is that of a file of the system. What is in `/run` is made by a program, which may answer on a socket.
fn is_file(path: &str) -> bool {
    path.starts_with('/') && !path.contains(':') && !["/dev/", "/run/"].iter().any(|place| path.starts_with(place))
}

/// Reads the text of the file. What is no line of it is left out, as systemd does.
pub(super) fn parse(text: &str) -> Vec<Line> {
    lines(text).map(|(line, _)| line).collect()
}

/// The lines of the text, each with how it is written.
pub fn lines(text: &str) -> impl Iterator<Item = (Line, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|written| Some((parse_line(written)?, written)))
}

fn parse_line(line: &str) -> Option<Line> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next()?.to_owned();
    fields.next()?;
    let key = fields.next().filter(|key| !matches!(*key, "-" | "none")).map(str::to_owned);
    let options = fields.next().map(split_options).unwrap_or_default();
    Some(Line { name, key, options })
}

/// The options of a list that is separated by commas.
pub(super) fn split_options(list: &str) -> Vec<String> {
    list.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_two_fields_or_more() {
        let lines = parse(
            "# a comment\n\nroot UUID=1234\n  data\t/dev/sdb1  /etc/data.key  luks,x-initrd.attach\n\
             swap /dev/sdc1 /dev/urandom swap\nhome UUID=5678 none tpm2-device=auto,\nbroken\n",
        );
        let facts: Vec<_> = lines.iter().map(|line| (line.name.as_str(), line.key.as_deref())).collect();
        let expected =
            [("root", None), ("data", Some("/etc/data.key")), ("swap", Some("/dev/urandom")), ("home", None)];
        assert_eq!(facts, expected);
        assert_eq!(lines[1].options, ["luks", "x-initrd.attach"]);
        assert_eq!(lines[3].options, ["tpm2-device=auto"]);
        assert!(lines[1].is_for_initrd() && !lines[0].is_for_initrd());
    }
}
