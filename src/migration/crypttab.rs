//! `/etc/crypttab`: which of its volumes an initrd opens, and what becomes of options that only another generator knows.

use anyhow::Result;

use super::finding::{Finding, Outcome, Place};
use super::source::Source;
use crate::analysis::machine::crypttab::CRYPTTAB;

/// Options of Debian's cryptsetup that systemd does not know.
const DEBIAN: [&str; 5] = ["keyscript", "initramfs", "decrypt_derived", "precheck", "check"];

/// What becomes of its lines.
///
/// # Errors
/// Fails when it is there and cannot be read.
pub fn findings(source: &Source) -> Result<Vec<Finding>> {
    let text = source.text(CRYPTTAB.path)?.unwrap_or_default();
    let mut findings = Vec::new();
    for (line, written) in CRYPTTAB.lines(&text) {
        let number = text.lines().position(|line| line.trim() == written).map_or(0, |number| number + 1);
        let place = Place::line(CRYPTTAB.path, number);
        let finding = |outcome, text: &str| Finding::new(&place, written, outcome, text);
        let own = |option: &String| DEBIAN.contains(&option.split('=').next().unwrap_or_default());
        if let Some(option) = line.options.iter().find(|option| own(option)) {
            let text = format!(
                "systemd does not know the option {option}: say x-initrd.attach and a key that it knows, see crypttab(5)"
            );
            findings.push(finding(Outcome::ByHand, &text));
        } else if line.is_for_initrd() {
            findings.push(finding(Outcome::AsBefore, "the line goes in, with the key and the header that it names"));
        } else {
            let text = "the system opens it; a volume that / lies on needs x-initrd.attach here, or rd.luks.name= on the kernel's command line";
            findings.push(finding(Outcome::AsBefore, text));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::machine::fixture::Fixture;

    #[test]
    fn lines_of_debian_are_told_apart() {
        let root = Fixture::new();
        root.write("etc/crypttab", "# c\nroot UUID=1 none luks,x-initrd.attach\nhome UUID=2 none luks\nold UUID=3 none luks,keyscript=/a,initramfs\n");
        let found = findings(&Source::open(root.path()).unwrap()).unwrap();
        let told: Vec<String> = found.iter().map(|finding| format!("{} {}", finding.place, finding.outcome)).collect();
        assert_eq!(told, ["/etc/crypttab:2 as before", "/etc/crypttab:3 as before", "/etc/crypttab:4 by hand"]);
        assert!(found[2].text.contains("keyscript=/a"));
    }
}
