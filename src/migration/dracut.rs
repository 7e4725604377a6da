//! dracut's configuration: its files in, what becomes of each line out; `dracut.conf(5)`.
//!
//! `/etc/dracut.conf` comes first, then `*.conf` of `/etc/dracut.conf.d` and `/usr/lib/dracut/dracut.conf.d` in the order of
//! their names, of one name that in `/etc`. The distribution's lines are reported as such.

use std::collections::BTreeMap;

use anyhow::Result;

use super::command_line;
use super::dracut_table::{self, Meaning, Module};
use super::finding::{self, Carried, Finding, Outcome, Place};
use super::install_items;
use super::shell::{self, Kind, Value};
use super::source::Source;

const MAIN: &str = "/etc/dracut.conf";
const DISTRIBUTION: &str = "/usr/lib/dracut/dracut.conf.d";
const DROP_INS: [&str; 2] = ["/etc/dracut.conf.d", DISTRIBUTION];

/// What the settings about Secure Boot begin with.
const SIGNING: &str = "uefi_secureboot_";

/// An assignment, and where it is.
struct Setting {
    place: Place,
    by_distribution: bool,
    name: String,
    appends: bool,
    value: Value,
}

impl Setting {
    /// As it is reported.
    fn shown(&self) -> String {
        let sign = if self.appends { "+=" } else { "=" };
        match &self.value {
            Value::Text(text) => format!("{}{sign}\"{}\"", self.name, text.trim()),
            Value::List(words) => format!("{}{sign}({})", self.name, words.join(" ")),
            Value::Unknown(_) => format!("{}{sign}...", self.name),
        }
    }

    fn finding(&self, outcome: Outcome, text: impl Into<String>) -> Finding {
        Finding::new(&self.place, self.shown(), outcome, text)
    }

    /// Whether the value is yes.
    fn is_yes(&self) -> bool {
        self.value.words().is_some_and(|words| words == ["yes"])
    }
}

/// Whether dracut is installed.
pub fn is_there(source: &Source<'_>) -> bool {
    ["/usr/bin/dracut", "/usr/sbin/dracut", "/bin/dracut"].iter().any(|path| source.has(path))
}

/// What becomes of its configuration. What is carried over is added to `carried`.
///
/// # Errors
/// Fails on a file that cannot be read.
pub fn findings(source: &Source<'_>, carried: &mut Carried) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let settings = settings(source, &mut findings)?;
    for (number, setting) in settings.iter().enumerate() {
        let mut not_carried = Carried::default();
        let carried = if setting.by_distribution { &mut not_carried } else { &mut *carried };
        let mut found = match overriding(setting, &settings[number + 1..]) {
            Some(place) => vec![setting.finding(Outcome::NotNeeded, format!("{place} sets it anew"))],
            None => of_setting(source, setting, carried),
        };
        if setting.by_distribution {
            found.iter_mut().for_each(|finding| finding.is_distribution_s());
        }
        findings.extend(found);
    }
    // One without the other would sign nothing, and fail.
    if carried.secureboot_private_key.is_some() != carried.secureboot_certificate.is_some() {
        (carried.secureboot_private_key, carried.secureboot_certificate) = (None, None);
        let is_half =
            |finding: &&mut Finding| finding.outcome == Outcome::CarriedOver && finding.setting.starts_with(SIGNING);
        for finding in findings.iter_mut().filter(is_half) {
            finding.outcome = Outcome::ByHand;
            finding.text = "key and certificate go together: say both in [uki] of /etc/ocinitrd/*.toml".to_owned();
        }
    }
    // What is no assignment was found before the others.
    let order: BTreeMap<String, usize> = files(source)?.into_iter().zip(0..).collect();
    findings.sort_by_key(|finding| (order.get(&finding.place.file).copied(), finding.place.line));
    Ok(findings)
}

/// Its files in the order in which dracut reads them.
fn files(source: &Source<'_>) -> Result<Vec<String>> {
    Ok([MAIN.to_owned()].into_iter().chain(source.drop_ins(&DROP_INS)?).collect())
}

/// All assignments in the order in which dracut reads them; what is none is added to `findings`.
fn settings(source: &Source<'_>, findings: &mut Vec<Finding>) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for path in files(source)? {
        let by_distribution = path.starts_with(DISTRIBUTION);
        for statement in shell::statements(&source.text(&path)?.unwrap_or_default()) {
            let place = Place::line(&path, statement.line);
            match statement.kind {
                Kind::Assignment { name, appends, value } => {
                    settings.push(Setting { place, by_distribution, name, appends, value });
                }
                Kind::Other(reason) => {
                    let text = format!("{reason}; if it adds a module or a file, say so in /etc/ocinitrd/*.toml");
                    let mut finding = Finding::new(&place, statement.text, Outcome::NotRead, text);
                    if by_distribution {
                        finding.is_distribution_s();
                    }
                    findings.push(finding);
                }
            }
        }
    }
    Ok(settings)
}

/// Where a later line replaces the setting.
fn overriding<'a>(setting: &Setting, later: &'a [Setting]) -> Option<&'a Place> {
    let replaces = |other: &&Setting| other.name == setting.name && !other.appends;
    later.iter().rfind(replaces).map(|other| &other.place)
}

fn of_setting(source: &Source<'_>, setting: &Setting, carried: &mut Carried) -> Vec<Finding> {
    let meaning = dracut_table::meaning(&setting.name);
    if let Some(Meaning::Fixed(outcome, text)) = meaning {
        return vec![setting.finding(outcome, text)];
    }
    let Some(words) = setting.value.words() else {
        let Value::Unknown(reason) = setting.value else { return Vec::new() };
        let text = format!("{reason}; look what it is, and see docs/host.md for the words of ours");
        return vec![setting.finding(Outcome::NotRead, text)];
    };
    if words.is_empty() {
        return vec![setting.finding(Outcome::NotNeeded, "it is empty")];
    }
    match meaning {
        Some(Meaning::Drivers(note)) => vec![drivers(setting, &words, note, carried)],
        Some(Meaning::Items { optional }) => {
            install_items::findings(source, &setting.place, &setting.name, &words, optional, carried)
        }
        Some(Meaning::AddModules) => words.iter().map(|word| added_module(source, setting, word)).collect(),
        Some(Meaning::OmitModules) => words.iter().map(|word| omitted_module(setting, word)).collect(),
        Some(Meaning::CommandLine) => {
            words.iter().map(|word| command_line::in_initrd(source, &setting.place, word)).collect()
        }
        Some(Meaning::Switch { yes, no }) => {
            let (outcome, text) = if setting.is_yes() { yes } else { no };
            vec![setting.finding(outcome, text)]
        }
        Some(Meaning::HostOnly) => vec![host_only(setting, carried)],
        Some(Meaning::Uki(key)) => vec![uki(setting, &words.join(" "), key, carried)],
        Some(Meaning::Fixed(..)) | None => {
            vec![setting.finding(Outcome::ByHand, "no setting that is known here: see dracut.conf(5)")]
        }
    }
}

/// Modules of the kernel. dracut writes a directory of them with `=` in front.
fn drivers(setting: &Setting, words: &[String], note: &str, carried: &mut Carried) -> Finding {
    let patterns: Vec<String> = words.iter().map(|word| pattern_of_driver(word)).collect();
    carried.modules.extend(patterns.iter().cloned());
    setting.finding(Outcome::CarriedOver, format!("modules = [{}]{note}", finding::listed(&patterns)))
}

fn pattern_of_driver(word: &str) -> String {
    match word.strip_prefix('=') {
        Some(directory) => format!("/{}/", directory.trim_matches('/')),
        None => word.strip_suffix(".ko").unwrap_or(word).to_owned(),
    }
}

fn added_module(source: &Source<'_>, setting: &Setting, word: &str) -> Finding {
    let shown = format!("{}{}{word}", setting.name, if setting.appends { "+=" } else { "=" });
    match dracut_table::module(word) {
        Some(Module::Part(text)) => Finding::new(&setting.place, shown, Outcome::AsBefore, text),
        Some(Module::Needless(text)) => Finding::new(&setting.place, shown, Outcome::NotNeeded, text),
        Some(Module::Need(need)) => Finding::of_base(&setting.place, shown, need),
        Some(Module::ByHand(text)) => Finding::new(&setting.place, shown, Outcome::ByHand, text),
        None => {
            let names = source.names("/usr/lib/dracut/modules.d").unwrap_or_default();
            let is_it = |name: &&String| name.trim_start_matches(|character: char| character.is_ascii_digit()) == word;
            let text = match names.iter().find(is_it) {
                Some(name) => format!(
                    "not known here: what /usr/lib/dracut/modules.d/{name} installs has to be in the base or in files"
                ),
                None => "not known here, and no module of dracut has that name: see what it was for".to_owned(),
            };
            Finding::new(&setting.place, shown, Outcome::ByHand, text)
        }
    }
}

fn omitted_module(setting: &Setting, word: &str) -> Finding {
    let shown = format!("{}{}{word}", setting.name, if setting.appends { "+=" } else { "=" });
    if word.starts_with("systemd") && ["systemd", "systemd-initrd"].contains(&word) {
        let text = "the initrd is systemd's: what relies on dracut's own init does not work in it";
        return Finding::new(&setting.place, shown, Outcome::ByHand, text);
    }
    Finding::new(
        &setting.place,
        shown,
        Outcome::NotNeeded,
        "the base has what it was built with, and nothing of dracut's",
    )
}

fn host_only(setting: &Setting, carried: &mut Carried) -> Finding {
    if setting.is_yes() {
        // The last line that sets it counts.
        carried.is_generic = false;
        return setting.finding(Outcome::AsBefore, "modules are for this machine unless scope says otherwise");
    }
    carried.is_generic = true;
    setting.finding(Outcome::CarriedOver, "scope = \"generic\": modules for any machine, as the base was built for")
}

/// What is part of unified kernel images.
fn uki(setting: &Setting, value: &str, key: &'static str, carried: &mut Carried) -> Finding {
    let target = match key {
        "splash" => &mut carried.splash,
        "secureboot_private_key" => &mut carried.secureboot_private_key,
        _ => &mut carried.secureboot_certificate,
    };
    if !value.starts_with('/') && !value.starts_with("pkcs11:") {
        return setting.finding(
            Outcome::ByHand,
            format!("{value} is no absolute path: say {key} in [uki] of /etc/ocinitrd/*.toml"),
        );
    }
    *target = Some(value.to_owned());
    setting.finding(Outcome::CarriedOver, format!("{key} in [uki], for unified kernel images (layout=uki)"))
}

#[cfg(test)]
mod tests;
