//! What becomes of a setting of the old generator, and what is carried over into the configuration of ours.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use serde::Serialize;

use crate::analysis::needs::{self, Holdings, Wanted};

/// What becomes of a setting.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It goes into the configuration of ours.
    CarriedOver,
    /// It is so without being said.
    AsBefore,
    /// It has no meaning here, and nothing is lost.
    NotNeeded,
    /// It is lost, unless somebody does what the text says.
    ByHand,
    /// What it says cannot be told.
    NotRead,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Outcome::CarriedOver => "carried over",
            Outcome::AsBefore => "as before",
            Outcome::NotNeeded => "not needed",
            Outcome::ByHand => "by hand",
            Outcome::NotRead => "not read",
        })
    }
}

/// Where a setting is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Place {
    /// The file, as an absolute path on the machine.
    pub file: String,
    /// The line, if the file has such.
    pub line: Option<usize>,
}

impl Place {
    /// A line of a file.
    pub fn line(file: &str, line: usize) -> Self {
        Place { file: file.to_owned(), line: Some(line) }
    }

    /// A file as a whole.
    pub fn file(file: &str) -> Self {
        Place { file: file.to_owned(), line: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.file)?;
        self.line.map_or(Ok(()), |line| write!(formatter, ":{line}"))
    }
}

/// A setting and what becomes of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Where it is.
    pub place: Place,
    /// The setting, as short as it can be understood.
    pub setting: String,
    /// What becomes of it.
    pub outcome: Outcome,
    /// What that means, or what to do.
    pub text: String,
    /// Whether the distribution says it, and not the administrator.
    pub by_distribution: bool,
    /// The row of [`needs::NEEDS`] that decides on the outcome once an initrd is there.
    #[serde(skip)]
    pub need: Option<&'static str>,
}

impl Finding {
    /// One of the administrator's.
    pub fn new(place: &Place, setting: impl Into<String>, outcome: Outcome, text: impl Into<String>) -> Self {
        let (setting, text) = (setting.into(), text.into());
        Finding { place: place.clone(), setting, outcome, text, by_distribution: false, need: None }
    }

    /// One that the base has to bring, by the name of a need.
    pub fn of_base(place: &Place, setting: impl Into<String>, need: &'static str) -> Self {
        let brought_by = needs::named(need).map(|need| need.brought_by).unwrap_or_default();
        let text = format!("the base has to bring it: {brought_by}");
        Finding { need: Some(need), ..Finding::new(place, setting, Outcome::ByHand, text) }
    }

    /// Says that it is the distribution's, for its own generator: nothing of that is carried over.
    pub fn is_distribution_s(&mut self) {
        self.by_distribution = true;
        if self.outcome != Outcome::AsBefore {
            self.outcome = Outcome::NotNeeded;
            self.text = "the distribution says it for its own generator".to_owned();
            self.need = None;
        }
    }

    /// Decides by what an initrd holds, where that decides.
    pub fn resolve(&mut self, holdings: &Holdings) {
        let Some(need) = self.need.and_then(|name| needs::named(name).ok()) else { return };
        let answer = holdings.check(&Wanted::of(need));
        // Modules go in where they are loaded or needed; programs have to be there.
        if answer.missing_files.is_empty() {
            self.outcome = Outcome::AsBefore;
            self.text = "the base brings it".to_owned();
        } else {
            self.text =
                format!("the base lacks {}; it comes with {}", answer.missing_files.join(", "), need.brought_by);
        }
    }
}

/// What is carried over: what `/etc/ocinitrd/50-setup.toml` says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Carried {
    /// Patterns of modules.
    pub modules: BTreeSet<String>,
    /// Files and directories of the machine.
    pub files: BTreeSet<String>,
    /// The same, which need not be there.
    pub optional_files: BTreeSet<String>,
    /// Whether the modules are for any machine.
    pub is_generic: bool,
    /// The picture of unified kernel images.
    pub splash: Option<String>,
    /// The key of Secure Boot.
    pub secureboot_private_key: Option<String>,
    /// Its certificate.
    pub secureboot_certificate: Option<String>,
}

impl Carried {
    /// The lines of the file; nothing where there are none.
    pub fn toml(&self) -> Option<String> {
        let mut text = String::new();
        if self.is_generic {
            text.push_str("scope = \"generic\"\n");
        }
        for (key, values) in
            [("modules", &self.modules), ("files", &self.files), ("optional_files", &self.optional_files)]
        {
            if !values.is_empty() {
                let _ = writeln!(text, "{key} = [{}]", listed(values));
            }
        }
        let uki = [
            ("splash", &self.splash),
            ("secureboot_private_key", &self.secureboot_private_key),
            ("secureboot_certificate", &self.secureboot_certificate),
        ];
        let mut uki = uki.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))).peekable();
        if uki.peek().is_some() {
            text.push_str("[uki]\n");
        }
        uki.for_each(|(key, value)| _ = writeln!(text, "{key} = {}", quoted(value)));
        (!text.is_empty()).then_some(text)
    }
}

/// Texts as they are in a list of TOML.
pub(super) fn listed<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    texts.into_iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ")
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;
    use crate::host::Configuration;

    #[test]
    fn what_is_carried_over_is_read_by_ours() {
        let carried = Carried {
            modules: ["nvme".to_owned(), "a\"b\\".to_owned()].into(),
            files: ["/etc/my file".to_owned()].into(),
            optional_files: ["/etc/other".to_owned()].into(),
            is_generic: true,
            splash: Some("/etc/a.bmp".to_owned()),
            ..Carried::default()
        };
        let root = Fixture::new();
        root.write("etc/ocinitrd/50-setup.toml", &carried.toml().unwrap());
        let read = Configuration::read(root.path()).unwrap();
        assert_eq!(read.modules, ["a\"b\\", "nvme"]);
        assert_eq!(read.files, [std::path::PathBuf::from("/etc/my file")]);
        assert_eq!(read.optional_files, [std::path::PathBuf::from("/etc/other")]);
        assert_eq!(read.scope, crate::host::Scope::Generic);
        assert_eq!(Carried::default().toml(), None);
    }

    #[test]
    fn the_base_decides_where_it_can() {
        let place = Place::line("/etc/dracut.conf", 3);
        let mut finding = Finding::of_base(&place, "add_dracutmodules+=lvm", "lvm");
        assert!(finding.text.contains("the profile lvm") && finding.outcome == Outcome::ByHand);
        finding.resolve(&Holdings::new(["usr/sbin/lvm".to_owned()], ""));
        assert!(finding.text.starts_with("the base lacks /usr/lib/udev/rules.d/69-dm-lvm.rules"), "{}", finding.text);
        let all = ["usr/sbin/lvm", "usr/lib/udev/rules.d/69-dm-lvm.rules"].map(str::to_owned);
        finding.resolve(&Holdings::new(all, ""));
        assert_eq!(finding.outcome, Outcome::AsBefore);
    }
}
