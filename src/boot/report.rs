//! What became of a scenario: one line for people, a value for programs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::qemu::Accelerator;
use super::stage::Milestone;
use super::verdict::Failure;
use ocinitrd_format::text::one_line;

/// What became of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The scenario in a line.
    pub summary: &'static str,
    /// Whether it came out as it must.
    pub ok: bool,
    /// What ran the guest: `KVM`, `TCG` or `TCG, counting instructions`.
    pub accelerator: String,
    /// Seconds from the kernel's start to each milestone that was reached.
    pub seconds: BTreeMap<Milestone, f64>,
    /// The uptime that the target's init read, if it ran: the whole time of a boot by the guest's own clock.
    pub uptime_seconds: Option<f64>,
    /// How it failed, if it did; a scenario of which that is expected is ok all the same.
    pub failure: Option<Failure>,
    /// What programs of the initrd called errors in the journal, whether or not anything came of them.
    pub errors: Vec<String>,
    /// How often it was tried again because QEMU failed before any initrd was unpacked.
    pub retries: u32,
    /// Where the whole console is.
    pub log: PathBuf,
}

impl Report {
    /// The answer in one line.
    pub fn line(&self, accelerator: Accelerator) -> String {
        let mut line = match (&self.failure, self.ok) {
            (None, true) => format!("{}: ok, {} after kernel start", self.scenario, self.times()),
            (None, false) => format!("{}: failed: it boots, which it must not", self.scenario),
            (Some(failure), true) => {
                format!("{}: ok, fails as it must in stage {}: {}", self.scenario, failure.stage, failure.reason)
            }
            (Some(failure), false) => {
                format!("{}: failed in stage {}: {}", self.scenario, failure.stage, failure.reason)
            }
        };
        line += &format!(" ({accelerator})");
        if let (None, Some(error)) = (&self.failure, self.errors.first()) {
            line += &format!("; an error in its journal: {error}");
        }
        match self.retries {
            0 => {}
            1 => line += ", tried again once after a panic before the initrd",
            count => line += &format!(", tried again {count} times after panics before the initrd"),
        }
        // The reason may be a line of the guest's.
        one_line(&line)
    }

    fn times(&self) -> String {
        let time = |milestone, name| self.seconds.get(&milestone).map(|seconds| format!("{name} {seconds:.1} s"));
        let times = [time(Milestone::SwitchRoot, "switch-root"), time(Milestone::Target, "target")];
        times.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// All reports as a table: name, result, and seconds from the kernel's start to both milestones.
pub fn table(reports: &[&Report]) -> String {
    let width = reports.iter().map(|report| report.scenario.len()).max().unwrap_or_default();
    let mut text = format!("{:width$}  {:6}  switch-root  target\n", "scenario", "result");
    for report in reports {
        let result = if report.ok { "ok" } else { "failed" };
        let time = |milestone| match report.seconds.get(&milestone) {
            Some(seconds) if report.failure.is_none() => format!("{seconds:.1} s"),
            _ => "-".to_owned(),
        };
        let (switch_root, target) = (time(Milestone::SwitchRoot), time(Milestone::Target));
        text += &format!("{:width$}  {result:6}  {switch_root:>11}  {target:>6}\n", report.scenario);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::Stage;

    fn report(ok: bool, failure: Option<Failure>) -> Report {
        Report {
            scenario: "ext4-uuid",
            summary: "",
            ok,
            accelerator: "TCG".to_owned(),
            seconds: BTreeMap::from([(Milestone::SwitchRoot, 9.76), (Milestone::Target, 10.4)]),
            uptime_seconds: Some(10.4),
            failure,
            errors: Vec::new(),
            retries: 0,
            log: "x.log".into(),
        }
    }

    fn failure() -> Option<Failure> {
        let reason = "Failed to mount sysroot.mount".to_owned();
        Some(Failure { stage: Stage::Mount, reason, console: Vec::new(), log: "x.log".into() })
    }

    #[test]
    fn success_tells_both_times() {
        let line = report(true, None).line(Accelerator::Tcg);
        assert_eq!(line, "ext4-uuid: ok, switch-root 9.8 s, target 10.4 s after kernel start (TCG)");
        let without_systemd = Report { seconds: BTreeMap::from([(Milestone::Target, 3.0)]), ..report(true, None) };
        assert_eq!(without_systemd.line(Accelerator::Kvm), "ext4-uuid: ok, target 3.0 s after kernel start (KVM)");
    }

    #[test]
    fn failure_tells_stage_and_reason_and_whether_it_had_to_come() {
        let line = report(false, failure()).line(Accelerator::Tcg);
        assert_eq!(line, "ext4-uuid: failed in stage mount: Failed to mount sysroot.mount (TCG)");
        let line = report(true, failure()).line(Accelerator::Tcg);
        assert_eq!(line, "ext4-uuid: ok, fails as it must in stage mount: Failed to mount sysroot.mount (TCG)");
        assert!(
            report(false, None).line(Accelerator::Tcg).starts_with("ext4-uuid: failed: it boots, which it must not")
        );
    }

    #[test]
    fn further_tries_are_told() {
        let twice = Report { retries: 2, ..report(true, None) };
        assert!(twice.line(Accelerator::Tcg).ends_with(" (TCG), tried again 2 times after panics before the initrd"));
    }

    #[test]
    fn a_table_has_times_of_what_booted_only() {
        let failed = Report { scenario: "lvm", ..report(false, failure()) };
        insta::assert_snapshot!(table(&[&report(true, None), &failed]), @r"
        scenario   result  switch-root  target
        ext4-uuid  ok            9.8 s  10.4 s
        lvm        failed            -       -
        ");
    }

    #[test]
    fn json_has_snake_case_milestones_and_kebab_case_stages() {
        let json = serde_json::to_value(report(false, failure())).unwrap();
        assert_eq!((&json["seconds"]["switch_root"], &json["uptime_seconds"]), (&9.76.into(), &10.4.into()));
        assert_eq!(json["failure"]["stage"], "mount");
    }
}
