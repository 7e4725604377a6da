//! The settings that one shell reads from several files, one after the other.
//!
//! The last assignment of a name counts, and `+=` adds to what it has then. An assignment whose value only a shell can tell
//! replaces nothing here: it may well add to the value before.

use anyhow::Result;

use super::finding::{Carried, Finding, Outcome, Place};
use super::shell::{self, Kind, Value};
use super::source::Source;

/// An assignment, and where it is.
pub struct Setting {
    /// Its line.
    pub place: Place,
    /// Whether the distribution says it.
    pub by_distribution: bool,
    /// The variable.
    pub name: String,
    /// What it is set to.
    pub value: Value,
    appends: bool,
}

impl Setting {
    /// The variable with the sign of the assignment.
    pub fn assigns(&self) -> String {
        format!("{}{}", self.name, if self.appends { "+=" } else { "=" })
    }

    /// As it is reported.
    pub fn shown(&self) -> String {
        match &self.value {
            Value::Text(text) => format!("{}\"{}\"", self.assigns(), text.trim()),
            Value::List(words) => format!("{}({})", self.assigns(), words.join(" ")),
            Value::Unknown(_) => format!("{}...", self.assigns()),
        }
    }

    /// What becomes of it as a whole.
    pub fn finding(&self, outcome: Outcome, text: impl Into<String>) -> Finding {
        Finding::new(&self.place, self.shown(), outcome, text)
    }

    /// What becomes of one of its words.
    pub fn finding_of(&self, word: &str, outcome: Outcome, text: impl Into<String>) -> Finding {
        Finding::new(&self.place, format!("{}{word}", self.assigns()), outcome, text)
    }

    fn replaces(&self, other: &Setting) -> bool {
        self.name == other.name && !self.appends && self.value.words().is_some()
    }
}

/// A file of a configuration.
pub struct File {
    /// Where it is on the machine.
    pub path: String,
    /// Whether the distribution says what is in it.
    pub by_distribution: bool,
}

impl File {
    /// One of the administrator's.
    pub fn own(path: impl Into<String>) -> Self {
        File { path: path.into(), by_distribution: false }
    }
}

/// A statement.
enum Line {
    Setting(Setting),
    /// What is no assignment.
    Other(Finding),
}

/// The statements of some files in the order in which a shell reads them.
pub struct Settings(Vec<Line>);

impl Settings {
    /// Reads the files; those that are not there are passed over.
    ///
    /// # Errors
    /// Fails on a file that cannot be read.
    pub fn read(source: &Source, files: &[File]) -> Result<Self> {
        let mut lines = Vec::new();
        for File { path, by_distribution } in files {
            for statement in shell::statements(&source.text(path)?.unwrap_or_default()) {
                let place = Place::line(path, statement.line);
                let by_distribution = *by_distribution;
                lines.push(match statement.kind {
                    Kind::Assignment { name, appends, value } => {
                        Line::Setting(Setting { place, by_distribution, name, appends, value })
                    }
                    Kind::Other(reason) => {
                        let text = format!("{reason}; if it adds a module or a file, say so in /etc/ocinitrd/*.toml");
                        let mut finding = Finding::new(&place, statement.text, Outcome::NotRead, text);
                        if by_distribution {
                            finding.is_distribution_s();
                        }
                        Line::Other(finding)
                    }
                });
            }
        }
        Ok(Settings(lines))
    }

    /// The same, where the distribution's are also those that say what its packages come with.
    pub fn with_defaults(mut self, is_default: impl Fn(&Setting) -> bool) -> Self {
        for line in &mut self.0 {
            if let Line::Setting(setting) = line {
                setting.by_distribution |= is_default(setting);
            }
        }
        self
    }

    /// What becomes of each: of one that a later replaces that, of others what `of_setting` says. What the distribution says is not
    /// carried over.
    ///
    /// # Errors
    /// Fails when `of_setting` does.
    pub fn findings(
        &self,
        carried: &mut Carried,
        of_setting: impl Fn(&Setting, &mut Carried) -> Result<Vec<Finding>>,
    ) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for (number, line) in self.0.iter().enumerate() {
            let setting = match line {
                Line::Setting(setting) => setting,
                Line::Other(finding) => {
                    findings.push(finding.clone());
                    continue;
                }
            };
            let mut not_carried = Carried::default();
            let carried = if setting.by_distribution { &mut not_carried } else { &mut *carried };
            let mut found = match (self.replacing(number, setting), &setting.value) {
                (Some(place), _) => vec![setting.finding(Outcome::NotNeeded, format!("{place} sets it anew"))],
                _ => of_setting(setting, carried)?,
            };
            if setting.by_distribution {
                found.iter_mut().for_each(Finding::is_distribution_s);
            }
            findings.extend(found);
        }
        Ok(findings)
    }

    /// Where a later line replaces the setting.
    fn replacing(&self, number: usize, setting: &Setting) -> Option<&Place> {
        self.0[number + 1..].iter().rev().find_map(|line| match line {
            Line::Setting(later) if later.replaces(setting) => Some(&later.place),
            _ => None,
        })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests spawn programs as they like")]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    /// Each line as it is read, unless a later replaces it.
    fn effective(root: &Fixture) -> Vec<String> {
        let files = [File::own("/etc/a"), File::own("/etc/b")];
        let settings = Settings::read(&Source::open(root.path()).unwrap(), &files).unwrap();
        let findings =
            settings.findings(&mut Carried::default(), |setting, _| Ok(vec![setting.finding(Outcome::AsBefore, "")]));
        findings
            .unwrap()
            .into_iter()
            .filter(|found| found.outcome == Outcome::AsBefore)
            .map(|found| found.setting)
            .collect()
    }

    #[test]
    fn what_counts_is_what_a_shell_has_in_the_end() {
        let root = Fixture::new();
        root.write("etc/a", "A=one\nB+=two\nC=three\nD=(four)\nE=\"five\"\n");
        root.write("etc/b", "A=six\nB+=\" seven\"\nC=eight\nC+=\" nine\"\nD+=(ten)\nE=\"$E eleven\"\n");
        assert_eq!(
            effective(&root),
            [
                "B+=\"two\"",
                "D=(four)",
                "E=\"five\"",
                "A=\"six\"",
                "B+=\"seven\"",
                "C=\"eight\"",
                "C+=\"nine\"",
                "D+=(ten)",
                "E=..."
            ]
        );
        let script = format!(". {0}/etc/a; . {0}/etc/b; echo \"$A|$B|$C|${{D[*]}}|$E\"", root.path().display());
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "six|two seven|eight nine|four ten|five eleven\n");
    }
}
