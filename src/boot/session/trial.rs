//! A scenario of a session, tried.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::disks::{MadeDisks, copy_sparse, start_tpm};
use super::server::ServerLink;
use super::uefi::Uefi;
use super::{BootTarget, Session, guest};
use crate::boot::command_line;
use crate::boot::guest::Seen;
use crate::boot::qemu::{Guest, GuestDisk};
use crate::boot::report::Report;
use crate::boot::scenario::{Expectation, Scenario};
use crate::boot::script;
use crate::boot::stage::{Milestone, Stage};
use crate::boot::verdict::{self, Failure};

impl Session<'_> {
    /// Boots one scenario. Its disks are made first, unless an earlier run of the same kernel and initrd made them.
    ///
    /// # Errors
    /// Fails on what has nothing to do with the initrd: a full disk, an interruption. A failed boot is a report.
    pub(super) fn boot(&self, scenario: &Scenario) -> Result<Report> {
        let give_up = |failure| Ok(self.report(scenario, None, Some(failure), 0));
        let uefi = match self.uefi(scenario)? {
            Ok(uefi) => uefi,
            Err(failure) => return give_up(failure),
        };
        let made = match self.disks(scenario.disks)? {
            Ok(made) => made,
            Err(failure) => return give_up(failure),
        };
        let scratch = self.cache.scratch()?;
        let guest = match self.guest(scenario, &made, uefi.as_ref(), scratch.path())? {
            Ok(guest) => guest,
            Err(failure) => return give_up(failure),
        };
        let link = match self.link(scenario, &made, scratch.path())? {
            Ok(link) => link,
            Err(failure) => return give_up(failure),
        };
        let tpm = made.tpm().map(|state| start_tpm(&state, scratch.path())).transpose()?;
        let guest = Guest {
            card: link.as_ref().map(ServerLink::card),
            credentials: scenario.credentials,
            dialogue: scenario.dialogue,
            tpm: tpm.as_ref().map(|tpm| tpm.socket().to_owned()),
            ..guest
        };
        if scenario.hibernates {
            return self.hibernate_and_wake_up(scenario, &guest);
        }
        let (seen, retries) = self.run(&self.qemu_of_boots, scenario.name, &guest)?;
        let fault = self.fault(scenario, &seen);
        let failure = fault.map(|(stage, reason)| Failure::new(stage, reason, &seen, self.log(scenario.name)));
        Ok(self.report(scenario, Some(&seen), failure, retries))
    }

    /// The guest of a scenario, with what lies in files, or why there can be none.
    fn guest(
        &self,
        scenario: &Scenario,
        made: &MadeDisks,
        uefi: Option<&Uefi<'_>>,
        scratch: &Path,
    ) -> Result<std::result::Result<Guest, Failure>> {
        let subject = self.with_additions(scenario, scratch)?;
        let command_line = self.command_line(scenario);
        let mut disks = Vec::new();
        for (number, image) in made.images().into_iter().enumerate() {
            if scenario.without.contains(&number) || scenario.network.has_the_disks() {
                continue;
            }
            let image = if scenario.hibernates {
                let own = scratch.join(format!("disk{number}"));
                copy_sparse(&image, &own).map(|()| own)?
            } else {
                image
            };
            disks.push(GuestDisk { number, image, writable: scenario.hibernates });
        }
        let start = uefi.map(|uefi| uefi.start(&subject, &command_line, &mut disks, scratch)).transpose();
        let start = match start {
            Ok(start) => start,
            Err(error) => return Ok(Err(self.refusal(scenario, Stage::Firmware, format!("{error:#}")))),
        };
        let guest = guest(&subject, command_line, disks)?;
        Ok(Ok(match start {
            Some(start) => Guest { start, ..guest },
            None => guest,
        }))
    }

    /// A scenario that fails before its guest is there.
    pub(super) fn refusal(&self, scenario: &Scenario, stage: Stage, reason: String) -> Failure {
        Failure { stage, reason, console: Vec::new(), log: self.log(scenario.name) }
    }

    fn command_line(&self, scenario: &Scenario) -> String {
        let line =
            command_line::of_target(scenario.command_line, self.qemu_of_boots.kernel_options(), &self.options.append);
        if scenario.hibernates { format!("{line} {}", command_line::HIBERNATE) } else { line }
    }

    /// What is wrong with what was seen of a scenario.
    fn fault(&self, scenario: &Scenario, seen: &Seen) -> Option<(Stage, String)> {
        let fault = verdict::fault(seen, self.options.timeout);
        if let (None, Expectation::Target(facts)) = (&fault, scenario.expects) {
            return self.wrong_in_target(scenario, seen, facts).map(|reason| (Stage::Target, reason));
        }
        fault
    }

    /// What is not as it should be although the target runs.
    fn wrong_in_target(&self, scenario: &Scenario, seen: &Seen, facts: &[(&str, &str)]) -> Option<String> {
        // A TPM is told of a unified kernel image only.
        let measured = self.subject.unified.as_ref().filter(|_| scenario.disks.tpm.is_there());
        let pcr11 = measured.map(|unified| ("pcr11", unified.pcr11.as_str()));
        let facts: Vec<_> = facts.iter().copied().chain(pcr11).collect();
        verdict::failed_unit(seen).or_else(|| verdict::wrong_facts(seen, &facts))
    }

    /// Runs a guest until it has written its memory to its disk, and another that has to go on with that memory.
    fn hibernate_and_wake_up(&self, scenario: &Scenario, guest: &Guest) -> Result<Report> {
        let asleep_name = format!("{}-asleep", scenario.name);
        let (asleep, retries) = self.run(&self.qemu_of_boots, &asleep_name, guest)?;
        let Some(token) = asleep.console.fact("token").filter(|_| verdict::powered_off(&asleep)) else {
            let (stage, reason) =
                self.fault(scenario, &asleep).unwrap_or((Stage::Target, "the target does not hibernate".to_owned()));
            let failure = Failure::new(stage, reason, &asleep, self.log(&asleep_name));
            return Ok(self.report(scenario, Some(&asleep), Some(failure), retries));
        };
        let (awake, more_retries) = self.run(&self.qemu_of_boots, scenario.name, guest)?;
        let woken = verdict::fault(&awake, self.options.timeout)
            .or_else(|| verdict::wrong_facts(&awake, &[("awake", token)]).map(|reason| (Stage::Target, reason)));
        // What was there before it fell asleep was told then.
        let fault = woken.or_else(|| match scenario.expects {
            Expectation::Target(facts) => {
                self.wrong_in_target(scenario, &asleep, facts).map(|reason| (Stage::Target, reason))
            }
            Expectation::Failure { .. } => None,
        });
        let failure = fault.map(|(stage, reason)| Failure::new(stage, reason, &awake, self.log(scenario.name)));
        Ok(self.report(scenario, Some(&awake), failure, retries + more_retries))
    }

    /// The subject with the files that a scenario adds to its initrd.
    fn with_additions(&self, scenario: &Scenario, scratch: &Path) -> Result<BootTarget> {
        if scenario.files.is_empty() {
            return Ok(self.subject.clone());
        }
        let initrd = scratch.join("initrd");
        script::append(&self.subject.initrd, &script::additions(scenario.files)?, &initrd)?;
        Ok(BootTarget { initrd, ..self.subject.clone() })
    }

    fn report(&self, scenario: &Scenario, seen: Option<&Seen>, failure: Option<Failure>, retries: u32) -> Report {
        let log = failure.as_ref().map_or_else(|| self.log(scenario.name), |failure| failure.log.clone());
        Report {
            scenario: scenario.name,
            summary: scenario.summary,
            ok: verdict::is_expected(&scenario.expects, failure.as_ref()),
            accelerator: self.accelerator().to_string(),
            seconds: seen.map(|seen| to_milliseconds(seen.console.seconds())).unwrap_or_default(),
            uptime_seconds: seen.and_then(|seen| seen.console.fact("uptime")?.parse().ok()),
            failure,
            errors: seen.map(|seen| seen.console.errors().to_vec()).unwrap_or_default(),
            retries,
            log,
        }
    }
}

/// What a time of arrival is good for.
fn to_milliseconds(seconds: BTreeMap<Milestone, f64>) -> BTreeMap<Milestone, f64> {
    seconds.into_iter().map(|(milestone, seconds)| (milestone, (seconds * 1000.0).round() / 1000.0)).collect()
}
