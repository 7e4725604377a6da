//! What `--root` names to scenarios that what is booted can come out of.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::analysis::inspect::Limits;
use crate::analysis::needs::{Holdings, NEEDS, Need, Wanted};
use crate::boot::BootTarget;
use crate::boot::scenario::{self, Scenario, Tpm};
use ocinitrd_support::progress::Progress;

/// The scenarios that are named. `all` leaves out what the subject is not made for, and that is said.
///
/// # Errors
/// Fails on a name that is none, and on a scenario that is named and cannot be with this subject.
pub fn scenarios<S: AsRef<str>>(
    names: &[S],
    subject: &BootTarget,
    progress: &Progress,
) -> Result<Vec<&'static Scenario>> {
    let meant = scenario::select(names, |_| true)?;
    let missing = missing(&meant, subject);
    let is_lacking = |name: &str| missing.iter().any(|need| need.name == name);
    let fits = |scenario: &Scenario| {
        obstacle(scenario, subject).is_none() && !scenario.needs.iter().any(|need| is_lacking(need))
    };
    let chosen = scenario::select(names, fits)?;
    for scenario in &chosen {
        if let Some(obstacle) = obstacle(scenario, subject) {
            bail!("the scenario {} cannot be: {obstacle}", scenario.name);
        }
    }
    missing.iter().for_each(|need| tell(need, &meant, &chosen, progress));
    Ok(chosen)
}

/// Why a scenario cannot be with what is booted, if it cannot.
fn obstacle(scenario: &Scenario, subject: &BootTarget) -> Option<&'static str> {
    match &subject.unified {
        None if scenario.unified => Some("only a unified kernel image boots so (--uki)"),
        Some(_) if !scenario.files.is_empty() => Some("it adds files to the initrd, and that is inside of an image"),
        Some(image) if scenario.disks.tpm == Tpm::Version2AndKey && image.pcr_key.is_none() => {
            Some("the image has no .pcrpkey, which `ocinitrd uki build --pcr-private-key` gives it")
        }
        _ => None,
    }
}

/// Says which scenarios were left out or are not likely to boot for want of something.
fn tell(need: &Need, meant: &[&Scenario], chosen: &[&Scenario], progress: &Progress) {
    let needy = meant.iter().filter(|scenario| scenario.needs.contains(&need.name)).map(|scenario| scenario.name);
    let is_chosen = |name: &&str| chosen.iter().any(|scenario| scenario.name == *name);
    let (named, left_out): (Vec<&str>, Vec<&str>) = needy.partition(is_chosen);
    for (names, what) in [(left_out, "left out"), (named, "not likely to boot")] {
        if !names.is_empty() {
            progress.note(&format!(
                "{what}: {}; this initrd lacks what comes with {}",
                names.join(", "),
                need.brought_by
            ));
        }
    }
}

/// What scenarios need and the initrd does not hold. An initrd that cannot be read, which boots will tell, holds nothing.
fn missing(scenarios: &[&Scenario], subject: &BootTarget) -> Vec<&'static Need> {
    let needed: BTreeSet<&str> = scenarios.iter().flat_map(|scenario| scenario.needs).copied().collect();
    if needed.is_empty() {
        return Vec::new();
    }
    let holdings = Holdings::of_initrd(&subject.initrd, &Limits::default()).unwrap_or_default();
    let is_missing = |need: &'static Need| !holdings.check(&Wanted::of(need)).ok();
    NEEDS.iter().filter(|need| needed.contains(need.name) && is_missing(need)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Unified;
    use crate::boot::scenario::SCENARIOS;

    #[test]
    fn an_image_boots_what_an_initrd_does_but_for_what_adds_files_and_needs_a_key() {
        let initrd = BootTarget::of_files("vmlinuz".into(), "initrd".into());
        let image = |pcr_key: Option<&str>| BootTarget {
            unified: Some(Unified {
                image: "uki.efi".into(),
                pcr11: String::new(),
                pcr_key: pcr_key.map(str::to_owned),
            }),
            ..initrd.clone()
        };
        let not_for = |subject: &BootTarget| -> Vec<&str> {
            let unfit = SCENARIOS.iter().filter(|scenario| obstacle(scenario, subject).is_some());
            unfit.map(|scenario| scenario.name).collect()
        };
        assert_eq!(not_for(&initrd), ["measured", "luks-signed-policy"]);
        assert_eq!(not_for(&image(None)), ["luks-crypttab", "luks-signed-policy"]);
        assert_eq!(not_for(&image(Some("a key"))), ["luks-crypttab"]);
    }
}
