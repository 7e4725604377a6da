//! dracut's configuration: its files in, what becomes of each line out; `dracut.conf(5)`.
//!
//! `/etc/dracut.conf` comes first, then `*.conf` of `/etc/dracut.conf.d`, `/usr/lib/dracut/dracut.conf.d` and, with newer versions,
//! `/run/initramfs/dracut.conf.d` in the order of the numbers in their names, of one name the first of these. The distribution's
//! lines are reported as such.

use anyhow::Result;

use super::command_line;
use super::dracut_table::{self, Meaning, Module};
use super::finding::{self, Carried, Finding, Outcome};
use super::install_items;
use super::settings::{File, Setting, Settings};
use super::shell::Value;
use super::source::{self, Source};
use super::texts;

const MAIN: &str = "/etc/dracut.conf";
const DISTRIBUTION: &str = "/usr/lib/dracut/dracut.conf.d";
/// What a directory before has hides one of its name.
const DROP_INS: [&str; 3] = ["/etc/dracut.conf.d", DISTRIBUTION, "/run/initramfs/dracut.conf.d"];

/// What the settings about Secure Boot begin with.
const SIGNING: &str = "uefi_secureboot_";

/// Whether dracut is installed.
pub fn is_there(source: &Source) -> bool {
    ["/usr/bin/dracut", "/usr/sbin/dracut", "/bin/dracut"].iter().any(|path| source.has(path))
}

/// What becomes of its configuration. What is carried over is added to `carried`.
///
/// # Errors
/// Fails on a file that cannot be read.
pub fn findings(source: &Source, carried: &mut Carried) -> Result<Vec<Finding>> {
    let settings = Settings::read(source, &files(source)?)?;
    let mut findings = settings.findings(carried, |setting, carried| of_setting(source, setting, carried))?;
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
    Ok(findings)
}

/// Its files in the order in which dracut reads them.
fn files(source: &Source) -> Result<Vec<File>> {
    let drop_ins = source.numbered_drop_ins(&DROP_INS, source::is_configuration)?.into_iter();
    let drop_ins = drop_ins.map(|path| File { by_distribution: path.starts_with(DISTRIBUTION), path });
    Ok([File::own(MAIN)].into_iter().chain(drop_ins).collect())
}

fn of_setting(source: &Source, setting: &Setting, carried: &mut Carried) -> Result<Vec<Finding>> {
    let meaning = dracut_table::meaning(&setting.name);
    if let Some(Meaning::Fixed(outcome, text)) = meaning {
        return Ok(vec![setting.finding(outcome, text)]);
    }
    let Some(words) = setting.value.words() else {
        let Value::Unknown(reason) = setting.value else { return Ok(Vec::new()) };
        let text = format!("{reason}; look what it is, and see docs/host.md for the words of ours");
        return Ok(vec![setting.finding(Outcome::NotRead, text)]);
    };
    if words.is_empty() {
        return Ok(vec![setting.finding(Outcome::NotNeeded, "it is empty")]);
    }
    Ok(match meaning {
        Some(Meaning::Drivers(note)) => vec![drivers(setting, &words, note, carried)],
        Some(Meaning::Items(presence)) => {
            install_items::findings(source, &setting.place, &setting.name, &words, presence, carried)
        }
        Some(Meaning::AddModules) => words.iter().map(|word| added_module(source, setting, word)).collect(),
        Some(Meaning::OmitModules) => words.iter().map(|word| omitted_module(setting, word)).collect(),
        Some(Meaning::CommandLine) => {
            command_line::in_initrd(source, &setting.place, &setting.value.text().unwrap_or_default())?
        }
        Some(Meaning::Switch { yes, no }) => {
            let (outcome, text) = if is_yes(&words) { yes } else { no };
            vec![setting.finding(outcome, text)]
        }
        Some(Meaning::HostOnly) => vec![host_only(setting, is_yes(&words), carried)],
        Some(Meaning::Uki(key)) => vec![uki(setting, &words.join(" "), key, carried)],
        Some(Meaning::Fixed(..)) | None => {
            vec![setting.finding(Outcome::ByHand, "no setting that is known here: see dracut.conf(5)")]
        }
    })
}

fn is_yes(words: &[String]) -> bool {
    words == ["yes"]
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

fn added_module(source: &Source, setting: &Setting, word: &str) -> Finding {
    match dracut_table::module(word) {
        Some(Module::Part(text)) => setting.finding_of(word, Outcome::AsBefore, text),
        Some(Module::Needless(text)) => setting.finding_of(word, Outcome::NotNeeded, text),
        Some(Module::Need(need)) => Finding::of_base(&setting.place, format!("{}{word}", setting.assigns()), need),
        Some(Module::Lost(text)) => setting.finding_of(word, Outcome::ByHand, text),
        None => setting.finding_of(word, Outcome::ByHand, of_unknown_module(source, word)),
    }
}

fn of_unknown_module(source: &Source, word: &str) -> String {
    let names = source.names("/usr/lib/dracut/modules.d").unwrap_or_default();
    let is_it = |name: &&String| name.trim_start_matches(|character: char| character.is_ascii_digit()) == word;
    match names.iter().find(is_it) {
        Some(name) => {
            format!("not known here: what /usr/lib/dracut/modules.d/{name} installs has to be in the base or in files")
        }
        None => "not known here, and no module of dracut has that name: see what it was for".to_owned(),
    }
}

fn omitted_module(setting: &Setting, word: &str) -> Finding {
    if ["systemd", "systemd-initrd"].contains(&word) {
        let text = "the initrd is systemd's: what relies on dracut's own init does not work in it";
        return setting.finding_of(word, Outcome::ByHand, text);
    }
    let text = "the base has what it was built with, and nothing of dracut's";
    setting.finding_of(word, Outcome::NotNeeded, text)
}

fn host_only(setting: &Setting, is_yes: bool, carried: &mut Carried) -> Finding {
    if is_yes {
        return setting.finding(Outcome::AsBefore, texts::SCOPE_HOST);
    }
    carried.is_generic = true;
    setting.finding(Outcome::CarriedOver, texts::SCOPE_GENERIC)
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
