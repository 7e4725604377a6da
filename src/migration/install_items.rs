//! Files that an old generator was told to install: names in, what becomes of each out.
//!
//! Ours takes a file of the machine as it is, at its place. A program needs its libraries as well, which the base has to bring.

use std::io::Read;

use super::finding::{self, Carried, Finding, Outcome, Place};
use super::source::Source;
use super::texts::{WHERE_IT_IS, WHERE_LVM_IS};
use ocinitrd_support::regular_file;

/// What an ELF file begins with.
const ELF: [u8; 4] = *b"\x7fELF";
/// Where programs are that are named without a directory.
const PROGRAMS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
/// Nothing of the old generator's own goes in.
const BRING: &str = "a base that has it: add its package to the image's definition and name it in programs";

/// Whether the old generator fails where a file is not there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// It does.
    Required,
    /// It goes on without.
    Optional,
}

const LINES: &str = "its lines with x-initrd.attach go in, with the files that they name";
const NVME: &str = "it goes in where disks are found by NVMe over a network";
const FSTAB: &str = "as a whole it would be for the initrd: say x-initrd.mount in it, which is read from the root";
const OPTIONS: &str = "no options are kept in the initrd: say them on the kernel's command line";

/// Files that ours puts in by itself, or that would do harm as they are.
const OWN: [(&str, Outcome, &str); 15] = [
    ("/etc/crypttab", Outcome::AsBefore, LINES),
    ("/etc/integritytab", Outcome::AsBefore, LINES),
    ("/etc/veritytab", Outcome::AsBefore, LINES),
    ("/etc/vconsole.conf", Outcome::AsBefore, WHERE_IT_IS),
    ("/etc/mdadm.conf", Outcome::AsBefore, WHERE_IT_IS),
    ("/etc/mdadm/mdadm.conf", Outcome::AsBefore, WHERE_IT_IS),
    ("/etc/multipath.conf", Outcome::AsBefore, WHERE_IT_IS),
    ("/etc/lvm/lvm.conf", Outcome::AsBefore, WHERE_LVM_IS),
    ("/etc/lvm/lvmlocal.conf", Outcome::AsBefore, WHERE_LVM_IS),
    ("/etc/hostname", Outcome::AsBefore, "it goes in where the name of an array depends on it"),
    ("/etc/nvme/hostnqn", Outcome::AsBefore, NVME),
    ("/etc/nvme/hostid", Outcome::AsBefore, NVME),
    ("/etc/iscsi/initiatorname.iscsi", Outcome::AsBefore, "it goes in where disks are found by iSCSI"),
    ("/etc/fstab", Outcome::ByHand, FSTAB),
    ("/etc/cmdline.d", Outcome::ByHand, OPTIONS),
];
/// Where modules are.
const MODULES: [&str; 2] = ["/usr/lib/modules/", "/lib/modules/"];

/// What becomes of the files that a setting names.
pub fn findings(
    source: &Source,
    place: &Place,
    setting: &str,
    words: &[String],
    presence: Presence,
    carried: &mut Carried,
) -> Vec<Finding> {
    words.iter().map(|word| of_file(source, place, setting, word, presence, carried)).collect()
}

fn of_file(
    source: &Source,
    place: &Place,
    setting: &str,
    word: &str,
    presence: Presence,
    carried: &mut Carried,
) -> Finding {
    let shown = format!("{setting}: {word}");
    let (missing, key, files) = match presence {
        Presence::Required => (Outcome::ByHand, "files", &mut carried.files),
        Presence::Optional => (Outcome::NotNeeded, "optional_files", &mut carried.optional_files),
    };
    let finding = |outcome, text: String| Finding::new(place, shown.clone(), outcome, text);
    if let Some((_, outcome, text)) = OWN.iter().find(|(path, ..)| *path == word) {
        return finding(*outcome, (*text).to_owned());
    }
    if MODULES.iter().any(|directory| word.starts_with(directory)) {
        return finding(
            Outcome::ByHand,
            "the index of modules would not have it: name the module in modules".to_owned(),
        );
    }
    if word.contains(['*', '?', '[']) {
        return finding(Outcome::ByHand, "files takes no patterns: name the files, or their directory".to_owned());
    }
    let path = match word.starts_with('/') {
        true => Some(word.to_owned()).filter(|path| source.has(path)),
        false => PROGRAMS.iter().map(|directory| format!("{directory}/{word}")).find(|path| source.has(path)),
    };
    let Some(path) = path else {
        return finding(missing, "it is not there".to_owned());
    };
    if is_elf(source, &path) {
        return finding(missing, format!("a program or a library, which needs others: it takes {BRING}"));
    }
    files.insert(path.clone());
    finding(Outcome::CarriedOver, format!("{key} = [{}]", finding::listed([&path])))
}

fn is_elf(source: &Source, path: &str) -> bool {
    let mut magic = [0; ELF.len()];
    let file = regular_file::open(&source.path(path));
    file.is_ok_and(|mut file| file.read_exact(&mut magic).is_ok()) && magic == ELF
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    #[test]
    fn what_ours_puts_in_by_itself_is_not_carried_over() {
        let root = Fixture::new();
        root.write("etc/crypttab", "").write("etc/fstab", "").write("usr/lib/modules/1/a.ko", "");
        let mut carried = Carried::default();
        let words = ["/etc/crypttab", "/etc/fstab", "/lib/modules/1/a.ko"].map(str::to_owned);
        let place = Place::file("/etc/dracut.conf");
        let found = findings(
            &Source::open(root.path()).unwrap(),
            &place,
            "install_items",
            &words,
            Presence::Required,
            &mut carried,
        );
        let outcomes: Vec<Outcome> = found.iter().map(|finding| finding.outcome).collect();
        assert_eq!(outcomes, [Outcome::AsBefore, Outcome::ByHand, Outcome::ByHand]);
        assert_eq!(carried, Carried::default());
    }

    #[test]
    fn data_goes_in_and_programs_take_a_base() {
        let root = Fixture::new();
        root.write("usr/bin/lsblk", "\x7fELF...").write("usr/bin/script", "#!/bin/sh\n").write("etc/a.conf", "");
        root.directory("etc/keys");
        let source = Source::open(root.path()).unwrap();
        let mut carried = Carried::default();
        let words = ["/etc/a.conf", "/etc/keys", "script", "lsblk", "/usr/bin/lsblk", "/etc/gone", "/etc/*.key"]
            .map(str::to_owned);
        let place = Place::file("/etc/dracut.conf");
        let outcomes = |presence, carried: &mut Carried| -> Vec<Outcome> {
            let findings = findings(&source, &place, "install_items", &words, presence, carried);
            findings.iter().map(|finding| finding.outcome).collect()
        };
        let [over, hand, needless] = [Outcome::CarriedOver, Outcome::ByHand, Outcome::NotNeeded];
        assert_eq!(outcomes(Presence::Required, &mut carried), [over, over, over, hand, hand, hand, hand]);
        assert_eq!(carried.files, ["/etc/a.conf", "/etc/keys", "/usr/bin/script"].map(str::to_owned).into());
        let mut optional = Carried::default();
        assert_eq!(outcomes(Presence::Optional, &mut optional), [over, over, over, needless, needless, needless, hand]);
        assert_eq!((optional.optional_files, optional.files.is_empty()), (carried.files, true));
    }
}
