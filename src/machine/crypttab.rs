//! Encrypted volumes: the text of `/etc/crypttab` in, its lines out; `crypttab(5)`.

/// A line of crypttab.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Line {
    /// What the volume is called below `/dev/mapper`.
    pub(super) name: String,
    /// Where its key is, if anywhere.
    pub(super) key: Option<String>,
    /// Its options.
    pub(super) options: Vec<String>,
}

impl Line {
    /// Whether it says that the initrd opens the volume, wherever it is needed.
    pub(super) fn is_for_initrd(&self) -> bool {
        self.options.iter().any(|option| option == "x-initrd.attach")
    }
}

/// Reads the text of the file. What is no line of it is left out, as systemd does.
pub(super) fn parse(text: &str) -> Vec<Line> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(parse_line).collect()
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
