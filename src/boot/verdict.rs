//! What a guest's end means: what was seen and what was expected in, success or a failure in a stage out.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::guest::{Exit, Seen};
use super::scenario::Expectation;
use super::stage::{Milestone, Stage};

/// A boot that did not come to its end.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Failure {
    /// What it was at.
    pub stage: Stage,
    /// Why it ended, in the words of who knows best.
    pub reason: String,
    /// The last lines of the console, oldest first.
    pub console: Vec<String>,
    /// Where the whole console is.
    pub log: PathBuf,
}

impl Failure {
    /// A failure of the guest that was seen.
    pub fn new(stage: Stage, reason: String, seen: &Seen, log: PathBuf) -> Self {
        Failure { stage, reason, console: seen.console.tail().to_vec(), log }
    }

    /// The same, and what helps against it if it was in that stage.
    pub fn with_remedy(self, stage: Stage, remedy: &str) -> Self {
        if self.stage != stage {
            return self;
        }
        Failure { reason: format!("{}; {remedy}", self.reason), ..self }
    }
}

/// Why the guest did not do what it was started for, and in which stage, if it did not.
pub fn fault(seen: &Seen, timeout: Duration) -> Option<(Stage, String)> {
    let stage = seen.console.stage();
    match &seen.ending {
        Exit::Told => seen.console.fault().map(|fault| (fault.stage, fault.reason.clone())),
        Exit::TimedOut => Some((stage, format!("nothing more within {} s (--timeout)", timeout.as_secs()))),
        Exit::Exited(words) if words.is_empty() => Some((stage, "the guest ended without a word".to_owned())),
        Exit::Exited(words) => Some((stage, format!("the guest ended: {words}"))),
        Exit::Broken(words) => Some((stage, format!("QEMU failed: {words}"))),
    }
}

/// Whether the guest ended as one does that powers itself off.
pub fn powered_off(seen: &Seen) -> bool {
    matches!(&seen.ending, Exit::Exited(words) if words.is_empty()) && seen.console.fault().is_none()
}

/// The unit that failed although the boot went on, in words.
pub fn failed_unit(seen: &Seen) -> Option<String> {
    seen.console.failed_unit().map(|line| format!("a unit failed: {line}"))
}

/// Every fact that is not as it should be, in words.
pub fn wrong_facts(seen: &Seen, facts: &[(&str, &str)]) -> Option<String> {
    let wrong = facts.iter().filter_map(|(name, expected)| match seen.console.fact(name) {
        Some(told) if told.starts_with(expected) => None,
        Some(told) => Some(format!("the target's {name} is {told:?}, not {expected:?}")),
        None => Some(format!("the target does not tell its {name}")),
    });
    let wrong: Vec<_> = wrong.collect();
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

/// Whether a failure is QEMU's and not the initrd's: a panic before any initrd was unpacked.
pub fn is_worth_another_try(seen: &Seen) -> bool {
    let unpacked = seen.console.seconds().into_keys().any(|milestone| milestone >= Milestone::Unpacked);
    let in_kernel = seen.console.fault().is_some_and(|fault| fault.stage == Stage::Kernel);
    seen.console.panicked() && in_kernel && !unpacked
}

/// Whether `failure`, or its absence, is what had to come.
pub fn is_expected(expects: &Expectation, failure: Option<&Failure>) -> bool {
    match (expects, failure) {
        (Expectation::Target(_), failure) => failure.is_none(),
        (Expectation::Failure { stage, names, last_words }, Some(failure)) => {
            let said = failure.console.iter().any(|line| line.contains(last_words));
            failure.stage == *stage && failure.reason.contains(names) && said
        }
        (Expectation::Failure { .. }, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::console::Console;

    const UNPACKED: &str = "[    4.000000] Run /init as init process\n";
    const PANIC: &str = "[    5.000000] Kernel panic - not syncing: Fatal exception\n";

    fn seen(console_text: &str, ending: Exit) -> Seen {
        let mut console = Console::default();
        console.feed(console_text.as_bytes(), Duration::from_secs(6));
        Seen { console, ending }
    }

    fn failure(stage: Stage, reason: &str) -> Failure {
        Failure::new(stage, reason.to_owned(), &seen("", Exit::Told), "x.log".into())
    }

    #[test]
    fn every_ending_but_a_finished_script_is_a_fault_of_a_stage() {
        let timeout = Duration::from_secs(180);
        let text = |ending| fault(&seen(UNPACKED, ending), timeout).unwrap();
        assert_eq!(text(Exit::TimedOut), (Stage::Init, "nothing more within 180 s (--timeout)".to_owned()));
        assert_eq!(text(Exit::Exited(String::new())), (Stage::Init, "the guest ended without a word".to_owned()));
        assert_eq!(text(Exit::Broken("no memory".to_owned())), (Stage::Init, "QEMU failed: no memory".to_owned()));
        assert_eq!(fault(&seen(PANIC, Exit::Told), timeout).unwrap().0, Stage::Kernel);
        assert_eq!(fault(&seen("[    9.000000] ocinitrd: done\n", Exit::Told), timeout), None);
    }

    #[test]
    fn only_a_panic_before_the_initrd_is_worth_another_try() {
        assert!(is_worth_another_try(&seen(PANIC, Exit::Told)));
        assert!(!is_worth_another_try(&seen(&format!("{UNPACKED}{PANIC}"), Exit::Told)));
        let unpacking = "[    3.000000] Initramfs unpacking failed: junk\n";
        assert!(!is_worth_another_try(&seen(&format!("{unpacking}{PANIC}"), Exit::Told)));
        let no_root = "[    5.000000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n";
        assert!(!is_worth_another_try(&seen(no_root, Exit::Told)));
        assert!(!is_worth_another_try(&seen("", Exit::TimedOut)));
    }

    #[test]
    fn the_first_failed_unit_is_told_and_nothing_that_only_looks_like_one() {
        let log = "[  OK  ] Started a.service.\nFAILED \n[FAILED] Failed to start b.service - B.\n[FAILED] Failed to start c.\n";
        let failed = failed_unit(&seen(log, Exit::Told));
        assert_eq!(failed.unwrap(), "a unit failed: Failed to start b.service - B.");
        assert_eq!(failed_unit(&seen("[  OK  ] Started a.service.\nFAILED \n", Exit::Told)), None);
    }

    #[test]
    fn a_guest_powers_off_without_a_word_and_without_a_fault() {
        assert!(powered_off(&seen(UNPACKED, Exit::Exited(String::new()))));
        assert!(!powered_off(&seen(UNPACKED, Exit::Exited("no memory".to_owned()))));
        assert!(!powered_off(&seen(PANIC, Exit::Exited(String::new()))));
        assert!(!powered_off(&seen(UNPACKED, Exit::TimedOut)));
    }

    #[test]
    fn facts_are_compared_from_their_beginning_and_all_that_are_wrong_are_named() {
        let seen = seen("[    9.000000] ocinitrd: fact root /dev/vda1 / ext4 rw 0 0\n", Exit::Told);
        assert_eq!(wrong_facts(&seen, &[("root", "/dev/vda1 / ext4 ")]), None);
        let wrong = wrong_facts(&seen, &[("root", "/dev/vda1 "), ("root", "/dev/vda2 "), ("swap", "")]).unwrap();
        let root = "the target's root is \"/dev/vda1 / ext4 rw 0 0\", not \"/dev/vda2 \"";
        assert_eq!(wrong, format!("{root}; the target does not tell its swap"));
    }

    #[test]
    fn a_scenario_that_must_fail_must_do_so_in_its_stage_and_for_its_reason() {
        let expects = Expectation::Failure { stage: Stage::Device, names: "dead-beef", last_words: "is locked" };
        let locked = |stage, reason| Failure { console: vec!["root is locked.".to_owned()], ..failure(stage, reason) };
        assert!(is_expected(&expects, Some(&locked(Stage::Device, "no device dead-beef"))));
        assert!(!is_expected(&expects, Some(&failure(Stage::Device, "no device dead-beef"))), "it did not say so");
        assert!(!is_expected(&expects, Some(&locked(Stage::Device, "no device"))));
        assert!(!is_expected(&expects, Some(&locked(Stage::Mount, "dead-beef"))));
        assert!(!is_expected(&expects, None));
        assert!(is_expected(&Expectation::Target(&[]), None));
        assert!(!is_expected(&Expectation::Target(&[]), Some(&failure(Stage::Device, ""))));
    }
}
