//! The scenarios as data: which disks there are, how the kernel is told of its root, and what must come of it.
//!
//! A scenario is a row of [`SCENARIOS`]; a new kind of root device is a new [`DiskSet`] with its recipe, a shell script that
//! a guest runs over an initrd's programs (`guest/disks.sh` says what it can call). Scenarios share disk sets: the disks are
//! made once and never written to by a boot. What else a guest has, such as a passphrase typed on its console, is a field
//! of [`Scenario`]; what a target can tell is a fact of `guest/target-init.sh`. Where a scenario is [`Network::Served`], a
//! second guest has its disks, and serves them by a script (`guest/server.sh`).

mod disks;
mod remote;
mod table;

use std::ops::Range;

use anyhow::{Result, bail};

use super::partition::{self, EFI_SYSTEM, Partition};
use super::stage::Stage;

pub use table::SCENARIOS;

/// The short name of the most ordinary scenario.
const PLAIN: (&str, &str) = ("plain", "ext4-uuid");
/// The name that stands for all of them.
const ALL: &str = "all";

/// A disk, before the recipe of its set has filled it.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Its size in mebibytes; the file is sparse.
    pub size_mib: u64,
    /// The GUID of its partition table.
    pub guid: &'static str,
    /// Its partitions; with none it has no table either.
    pub partitions: &'static [Partition],
}

/// Disks that are made together, in one guest.
#[derive(Clone, Copy, Debug)]
pub struct DiskSet {
    /// What it is called in messages and logs.
    pub name: &'static str,
    /// In the order of `/dev/vda`, `/dev/vdb`, ...
    pub disks: &'static [Disk],
    /// The TPM of the guests.
    pub tpm: Tpm,
    /// The script that fills them.
    pub recipe: &'static str,
}

/// The TPM of the guests of a disk set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tpm {
    /// There is none.
    None,
    /// One in which the recipe may leave something.
    Version2,
    /// The same; and the recipe gets the key by which a unified kernel image is signed, `$pcr_key`.
    Version2AndKey,
}

impl Tpm {
    /// Whether there is one.
    pub fn is_there(self) -> bool {
        self != Tpm::None
    }
}

/// What must come of a boot.
#[derive(Clone, Copy, Debug)]
pub enum Expectation {
    /// The target's init runs, and each fact that it tells begins with the text here.
    Target(&'static [(&'static str, &'static str)]),
    /// The boot fails.
    Failure {
        /// In this stage.
        stage: Stage,
        /// For a reason that names this.
        names: &'static str,
        /// And the console says this in the end.
        last_words: &'static str,
    },
}

/// What comes before the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Firmware {
    /// Nothing that matters: QEMU puts kernel and initrd into memory.
    Direct,
    /// UEFI, and systemd-boot in the EFI system partition of the disk set.
    Uefi,
}

/// What the network card of a guest is connected to.
#[derive(Clone, Copy, Debug)]
pub enum Network {
    /// The guest has no card.
    None,
    /// Nobody answers.
    Silent,
    /// A guest with the disks of the scenario, which serves them by this script. It is 192.0.2.1.
    Served(&'static str),
}

impl Network {
    /// Whether the disks are at the other end, and not in the guest itself.
    pub fn has_the_disks(self) -> bool {
        matches!(self, Network::Served(_))
    }
}

/// A root device and how the kernel is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What `--root` calls it.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// What it takes that not every initrd has, by the names of [`crate::analysis::needs`]: `all` leaves it out where that is missing.
    pub needs: &'static [&'static str],
    /// What the guest's network card is connected to.
    pub network: Network,
    /// The disks of the guest, or of its server.
    pub disks: &'static DiskSet,
    /// Which of them, counted from 0, the guest lacks.
    pub without: &'static [usize],
    /// What comes before the kernel.
    pub firmware: Firmware,
    /// Whether only a unified kernel image boots so.
    pub unified: bool,
    /// The kernel's options beside those that every guest gets.
    pub command_line: &'static str,
    /// Credentials that the firmware hands to systemd.
    pub credentials: &'static [(&'static str, &'static str)],
    /// Files that come behind the initrd in a segment of their own, readable by root alone.
    pub files: &'static [(&'static str, &'static str)],
    /// Whether the target hibernates, and has to wake up in a second guest.
    pub hibernates: bool,
    /// What the console asks, in this order, and what is typed then.
    pub dialogue: &'static [Prompt],
    /// What must come of it.
    pub expects: Expectation,
}

/// A question on the console.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prompt {
    /// What it begins with.
    pub question: &'static str,
    /// What is typed, without the key that ends it.
    pub answer: &'static str,
}

impl DiskSet {
    /// The number of the disk with the EFI system partition, if one has it, and where on it that lies, in bytes.
    ///
    /// # Errors
    /// Fails when the partitions do not fit on their disk.
    pub fn efi_system_partition(&self) -> Result<Option<(usize, Range<u64>)>> {
        for (number, disk) in self.disks.iter().enumerate() {
            if let Some(index) = disk.partitions.iter().position(|partition| partition.type_guid == EFI_SYSTEM) {
                let place = partition::place(disk.partitions, index, disk.size_mib << 20)?;
                return Ok(Some((number, place)));
            }
        }
        Ok(None)
    }
}

impl Scenario {
    /// A scenario in which nothing has to be given but the kernel's options.
    const fn new(
        name: &'static str,
        summary: &'static str,
        disks: &'static DiskSet,
        command_line: &'static str,
        expects: Expectation,
    ) -> Self {
        Scenario {
            name,
            summary,
            needs: &[],
            network: Network::None,
            disks,
            without: &[],
            firmware: Firmware::Direct,
            unified: false,
            command_line,
            credentials: &[],
            files: &[],
            hibernates: false,
            dialogue: &[],
            expects,
        }
    }
}

/// The scenarios with these names, each once, in the order of the table. `all` stands for those that `fit`.
///
/// # Errors
/// Fails on a name that is none, with the nearest one and where the names are listed.
pub fn select<S: AsRef<str>>(names: &[S], fits: impl Fn(&Scenario) -> bool) -> Result<Vec<&'static Scenario>> {
    for name in names.iter().map(AsRef::as_ref) {
        if name != ALL && !SCENARIOS.iter().any(|scenario| is_called(scenario, name)) {
            bail!("there is no root scenario {name:?}{}; `ocinitrd boot --list` shows all", nearest(name));
        }
    }
    let is_meant = |scenario: &Scenario, name| if name == ALL { fits(scenario) } else { is_called(scenario, name) };
    let chosen = |scenario: &&Scenario| names.iter().map(AsRef::as_ref).any(|name| is_meant(scenario, name));
    Ok(SCENARIOS.iter().filter(chosen).collect())
}

/// The list that `--list` prints: a line each, names first.
pub fn list() -> String {
    let width = SCENARIOS.iter().map(|scenario| scenario.name.len()).max().unwrap_or_default();
    let line = |name: &str, summary: &str| format!("{name:width$}  {summary}\n");
    let summary = |scenario: &Scenario| match scenario.needs {
        [] if scenario.unified => format!("{} (needs a unified kernel image)", scenario.summary),
        [] => scenario.summary.to_owned(),
        needs => format!("{} (needs {})", scenario.summary, needs.join(", ")),
    };
    let mut text: String = SCENARIOS.iter().map(|scenario| line(scenario.name, &summary(scenario))).collect();
    text += &line(PLAIN.0, &format!("short for {}", PLAIN.1));
    text += &line(ALL, "all of them whose needs the initrd meets");
    text
}

fn is_called(scenario: &Scenario, name: &str) -> bool {
    scenario.name == name || (name, scenario.name) == PLAIN
}

fn nearest(name: &str) -> String {
    let names = SCENARIOS.iter().map(|scenario| scenario.name).chain([PLAIN.0, ALL]);
    let distance = |candidate: &&str| strsim::damerau_levenshtein(name, candidate);
    match names.min_by_key(distance) {
        Some(nearest) if distance(&nearest) <= 3 => format!(" (did you mean {nearest:?}?)"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(selected: &[&Scenario]) -> Vec<&'static str> {
        selected.iter().map(|scenario| scenario.name).collect()
    }

    #[test]
    fn names_and_short_names_select_each_scenario_once() {
        assert_eq!(names(&select(&["plain"], |_| true).unwrap()), ["ext4-uuid"]);
        assert_eq!(
            names(&select(&["ext4-label", "plain", "ext4-uuid"], |_| true).unwrap()),
            ["ext4-uuid", "ext4-label"]
        );
        assert_eq!(select(&["all"], |_| true).unwrap().len(), SCENARIOS.len());
    }

    #[test]
    fn all_leaves_out_what_does_not_fit_unless_it_is_named_too() {
        let needy = SCENARIOS.iter().filter(|scenario| scenario.needs.contains(&"nfs")).count();
        assert!(needy > 0);
        let fits = |scenario: &Scenario| !scenario.needs.contains(&"nfs");
        assert_eq!(select(&["all"], fits).unwrap().len(), SCENARIOS.len() - needy);
        assert_eq!(select(&["all", "nfs4-dhcp"], fits).unwrap().len(), SCENARIOS.len() - needy + 1);
        assert_eq!(names(&select(&["nfs4-dhcp"], fits).unwrap()), ["nfs4-dhcp"]);
        for need in SCENARIOS.iter().flat_map(|scenario| scenario.needs) {
            assert!(crate::analysis::needs::named(need).is_ok(), "{need}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest() {
        let message = select(&["ext4-uid"], |_| true).unwrap_err().to_string();
        let expected =
            "there is no root scenario \"ext4-uid\" (did you mean \"ext4-uuid\"?); `ocinitrd boot --list` shows all";
        assert_eq!(message, expected);
        assert!(!select(&["something-else"], |_| true).unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn list_has_every_name_and_summary() {
        let list = list();
        for scenario in SCENARIOS {
            assert!(list.contains(scenario.name) && list.contains(scenario.summary), "{list}");
        }
        let short = list.lines().find(|line| line.starts_with("plain ")).unwrap();
        assert!(short.ends_with("  short for ext4-uuid"), "{list}");
    }

    #[test]
    fn names_are_unique_and_none_is_a_short_one() {
        let mut seen: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).chain([PLAIN.0, ALL]).collect();
        seen.sort_unstable();
        let count = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    /// Those of every root file system.
    const ROOT_UUID: &str = "0c1d2d00-e4f5-4a6b-8c7d-e8f90a1b2c3d";
    const ROOT_LABEL: &str = "ocinitrdroot";

    /// The command line and the script each spell the identifiers: this keeps them together.
    #[test]
    fn a_root_that_should_be_found_is_made_by_its_disk_set() {
        let functions = include_str!("../guest/disks.sh");
        assert!(functions.contains(&format!("{ROOT_UUID} {ROOT_LABEL} ")));
        let local = |scenario: &&Scenario| matches!(scenario.network, Network::None);
        let booting = |scenario: &&Scenario| matches!(scenario.expects, Expectation::Target(_));
        for scenario in SCENARIOS.iter().filter(local).filter(booting) {
            let root = scenario.command_line.split(' ').find_map(|word| word.strip_prefix("root="));
            let partitions = scenario.disks.disks.iter().flat_map(|disk| disk.partitions);
            let made = match root.map(|root| root.split_once('=').unwrap_or((root, ""))) {
                Some(("UUID", value)) => value == ROOT_UUID,
                Some(("LABEL", value)) => value == ROOT_LABEL,
                Some(("PARTUUID", value)) => partitions.map(|partition| partition.guid).any(|guid| guid == value),
                Some(("PARTLABEL", value)) => partitions.map(|partition| partition.label).any(|label| label == value),
                Some((path, _)) => path.starts_with("/dev/"),
                None => has_typed_root(scenario),
            };
            assert!(made, "{}: nothing makes {root:?}", scenario.name);
        }
    }

    /// Whether the type of a partition says that it is the root, on the disk that the firmware starts from.
    fn has_typed_root(scenario: &Scenario) -> bool {
        let (number, _) = scenario.disks.efi_system_partition().unwrap().unwrap();
        let mut partitions = scenario.disks.disks[number].partitions.iter();
        partitions.any(|partition| partition.type_guid == partition::ROOT_X86_64)
    }

    #[test]
    fn what_begins_with_uefi_has_a_disk_to_start_from() {
        for scenario in SCENARIOS.iter().filter(|scenario| scenario.firmware == Firmware::Uefi) {
            let (number, place) = scenario.disks.efi_system_partition().unwrap().expect(scenario.name);
            assert!(!scenario.without.contains(&number), "{}", scenario.name);
            assert_eq!(place, 1 << 20..513 << 20, "{}", scenario.name);
        }
    }

    /// The command line, the expectation and the script each spell the server's address: this keeps them together.
    #[test]
    fn a_root_on_a_server_is_that_of_the_server_script() {
        const SERVER: &str = "192.0.2.1";
        let functions = include_str!("../guest/server.sh");
        assert!(functions.contains(&format!("ip address add {SERVER}/24 ")) && functions.contains("/srv/target"));
        for scenario in SCENARIOS.iter().filter(|scenario| !matches!(scenario.network, Network::None)) {
            assert!(scenario.command_line.contains(SERVER) && scenario.command_line.contains("/target"));
            match scenario.expects {
                Expectation::Target(facts) => assert!(facts[0].1.starts_with(&format!("{SERVER}:/target / nfs"))),
                Expectation::Failure { names, .. } => assert_eq!(names, format!("{SERVER}:/target")),
            }
            assert!(
                !scenario.hibernates && scenario.without.is_empty() && scenario.disks.tpm == Tpm::None,
                "{}",
                scenario.name
            );
        }
    }

    #[test]
    fn a_run_of_all_scenarios_finds_its_disks_in_the_cache_the_next_time() {
        let sets: std::collections::BTreeSet<_> = SCENARIOS.iter().map(|scenario| scenario.disks.name).collect();
        assert!(sets.len() < super::super::cache::KEPT_ENTRIES, "{}", sets.len());
    }

    #[test]
    fn disks_that_are_missing_are_disks_of_the_set() {
        for scenario in SCENARIOS {
            assert!(scenario.without.iter().all(|number| *number < scenario.disks.disks.len()), "{}", scenario.name);
        }
    }
}
