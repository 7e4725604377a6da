//! Volumes that systemd opens by a table: the text of `/etc/crypttab`, `/etc/integritytab` or `/etc/veritytab` in, its lines out;
//! `crypttab(5)`, `integritytab(5)`, `veritytab(5)`.

/// Options whose value may be a file of the machine.
const FILE_OPTIONS: [&str; 4] = ["header=", "tpm2-signature=", "tpm2-pcrlock=", "root-hash-signature="];

/// A file whose lines say which volumes are opened, and how.
#[derive(Debug)]
pub struct Table {
    /// Where a machine has it.
    pub path: &'static str,
    /// Which field of a line names a key, if any.
    key: Option<usize>,
    /// Which field has the options.
    options: usize,
}

/// Encrypted volumes.
pub const CRYPTTAB: Table = Table { path: "/etc/crypttab", key: Some(2), options: 3 };
/// Volumes with checksums of their own; a key makes them ones that nobody else can write.
pub const INTEGRITYTAB: Table = Table { path: "/etc/integritytab", key: Some(2), options: 3 };
/// Volumes that are verified as they are read. The fourth field is the hash of the root, which is no secret.
pub const VERITYTAB: Table = Table { path: "/etc/veritytab", key: None, options: 4 };
/// All tables.
pub const TABLES: [&Table; 3] = [&CRYPTTAB, &INTEGRITYTAB, &VERITYTAB];

/// A line of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// What the volume is called below `/dev/mapper`.
    pub name: String,
    /// What it is opened from, in the words of the table.
    pub device: String,
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

    /// The files of the system that it names: its key, its header and the like. What lies on another device, behind a colon, is
    /// none.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.key.as_deref().into_iter().chain(option_files(&self.options)).filter(|path| is_file(path))
    }
}

/// The values of options that may be files.
pub fn option_files(options: &[String]) -> impl Iterator<Item = &str> {
    let value = |option: &'_ str| -> Option<usize> {
        FILE_OPTIONS.iter().find(|name| option.starts_with(*name)).map(|name| name.len())
    };
    let values = options.iter().filter_map(move |option| Some(&option[value(option)?..]));
    // A signature may be given as text.
    values.filter(|value| value.starts_with('/'))
}

/// Whether a path is that of a file of the system. What is in `/run` is made by a program, which may answer on a socket.
fn is_file(path: &str) -> bool {
    path.starts_with('/') && !path.contains(':') && !["/dev/", "/run/"].iter().any(|place| path.starts_with(place))
}

impl Table {
    /// The lines of the text, each with how it is written. What is no line of it is left out, as systemd does.
    pub fn lines<'a>(&self, text: &'a str) -> impl Iterator<Item = (Line, &'a str)> + use<'a> {
        let Table { key, options, .. } = *self;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.filter_map(move |written| Some((parse_line(written, key, options)?, written)))
    }
}

fn parse_line(line: &str, key: Option<usize>, options: usize) -> Option<Line> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name, device, ..] = fields[..] else { return None };
    let key = key.and_then(|place| fields.get(place)).filter(|key| !matches!(**key, "-" | "none"));
    let options = fields.get(options).map(|list| split_options(list)).unwrap_or_default();
    Some(Line { name: name.to_owned(), device: device.to_owned(), key: key.map(|key| (*key).to_owned()), options })
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
        let text = "# a comment\n\nroot UUID=1234\n  data\t/dev/sdb1  /etc/data.key  luks,x-initrd.attach\n\
                    swap /dev/sdc1 /dev/urandom swap\nhome UUID=5678 none tpm2-device=auto,\nbroken\n";
        let lines: Vec<Line> = CRYPTTAB.lines(text).map(|(line, _)| line).collect();
        let facts: Vec<_> = lines.iter().map(|line| (line.name.as_str(), line.key.as_deref())).collect();
        let expected =
            [("root", None), ("data", Some("/etc/data.key")), ("swap", Some("/dev/urandom")), ("home", None)];
        assert_eq!(facts, expected);
        assert_eq!(lines[1].options, ["luks", "x-initrd.attach"]);
        assert_eq!(lines[3].options, ["tpm2-device=auto"]);
        assert!(lines[1].is_for_initrd() && !lines[0].is_for_initrd());
        assert_eq!(lines[1].device, "/dev/sdb1");
    }

    #[test]
    fn each_table_has_its_fields_and_names_its_files() {
        let first = |table: &Table, text: &'static str| table.lines(text).next().unwrap().0;
        let verity = first(
            &VERITYTAB,
            "usr /dev/vg/usr /dev/vg/hash 4f3a x-initrd.attach,root-hash-signature=/etc/usr.p7s,panic-on-corruption",
        );
        assert!(verity.is_for_initrd() && verity.key.is_none());
        assert_eq!(verity.files().collect::<Vec<_>>(), ["/etc/usr.p7s"]);
        assert_eq!(first(&VERITYTAB, "usr a b 4f3a root-hash-signature=base64:AA==").files().count(), 0);
        let integrity = first(&INTEGRITYTAB, "root PARTLABEL=root /etc/integrity.key x-initrd.attach");
        assert_eq!(integrity.files().collect::<Vec<_>>(), ["/etc/integrity.key"]);
        let token = "root UUID=1 - x-initrd.attach,tpm2-device=auto,tpm2-signature=/etc/a.json,tpm2-pcrlock=/run/b,header=/dev/c";
        assert_eq!(first(&CRYPTTAB, token).files().collect::<Vec<_>>(), ["/etc/a.json"]);
    }
}
