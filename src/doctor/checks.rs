//! The doctor's single checks: facts in, findings out, each problem with the command that cures it.

use std::path::Path;

use anyhow::Result;
use indicatif::DecimalBytes;

use super::host::{Cgroups, Host, IdRange};
use super::{EngineFacts, Finding, NoEngine, State, cure_for};
use crate::boot::uefi;

/// Fewer sub-ids than this cannot hold the users and groups of a distribution (their `nobody` is 65534).
const SUB_IDS: u64 = 65_536;
/// A build of a whole initrd keeps the builder image, the packages, the installed tree and the layers.
const ROOMY_BYTES: u64 = 5 << 30;
/// Less than this is not enough for the smallest build.
const LEAST_BYTES: u64 = 1 << 30;
/// What dnf needs to have a few repositories, packages and pipes open.
const LEAST_OPEN_FILES: u64 = 1024;
/// Processes of one build, with room for what else the user runs.
const LEAST_PROCESSES: u64 = 512;

pub(super) fn engine(host: &Host, engine: Result<&EngineFacts, &NoEngine>) -> Vec<Finding> {
    let facts = match engine {
        Ok(facts) => facts,
        Err(missing) => return vec![Finding::problem("engine", missing.to_string(), cure_for(host, missing))],
    };
    let identity = &facts.identity;
    let mut findings = vec![Finding::ok("engine", &facts.description)];
    let place = format!("{} at {}", identity.storage_driver, identity.graph_root);
    // podman 4.3.1 picks vfs for users without a storage.conf, also where overlay works.
    findings.push(if identity.storage_driver == "vfs" {
        let detail = format!("{place}: every container is a whole copy of its image, slower and larger but correct");
        let directory = if identity.rootless { "~/.config/containers" } else { "/etc/containers" };
        let cure = format!(
            "mkdir -p {directory} && printf '[storage]\\ndriver = \"overlay\"\\n' >{directory}/storage.conf && \
             podman system reset # asks first: it removes all images and containers of this user"
        );
        Finding::warning("storage", detail, cure)
    } else {
        Finding::ok("storage", place)
    });
    findings
}

/// Sub-ids matter where the engine runs as the user.
pub(super) fn sub_ids(host: &Host, engine: Option<&EngineFacts>) -> Result<Vec<Finding>> {
    let rootless = engine.map_or(host.user_id != 0, |engine| engine.identity.rootless);
    if !rootless || host.user_id == 0 {
        return Ok(Vec::new());
    }
    let user = host.user_name()?;
    let mut findings = Vec::new();
    for (file, option) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        let ranges = host.id_ranges(file)?;
        let own = |range: &&IdRange| range.owner == user || range.owner == host.user_id.to_string();
        let count: u64 = ranges.iter().filter(own).map(|range| range.count).sum();
        findings.push(if count >= SUB_IDS {
            Finding::ok("sub-ids", format!("{file} gives {user} {count} ids"))
        } else {
            let start = ranges.iter().map(|range| range.start + range.count).max().unwrap_or(0).max(100_000);
            Finding::problem(
                "sub-ids",
                format!("{file} gives {user} {count} ids, and a distribution's users and groups need {SUB_IDS}"),
                format!("sudo usermod {option} {start}-{} {user} && podman system migrate", start + SUB_IDS - 1),
            )
        });
    }
    for program in ["newuidmap", "newgidmap"] {
        if host.find(program).is_none() {
            findings.push(Finding::problem(
                "sub-ids",
                format!("the program {program}, which hands out sub-ids, is missing"),
                host.install_command("uidmap", "shadow-utils"),
            ));
        }
    }
    Ok(findings)
}

pub(super) fn cgroups(host: &Host, engine: Option<&EngineFacts>) -> Result<Finding> {
    const SUBJECT: &str = "cgroups";
    // Of the low-level programs only crun objects to both versions at once.
    let with_crun = match engine.map(|engine| engine.identity.oci_runtime.as_str()) {
        Some("") | None => host.find("crun").is_some(),
        Some(runtime) => runtime == "crun",
    };
    Ok(match host.cgroups()? {
        Cgroups::Unified => Finding::ok(SUBJECT, "version 2"),
        Cgroups::Legacy => Finding::ok(SUBJECT, "version 1"),
        Cgroups::Hybrid { controllers, directory } if with_crun && !controllers.is_empty() => Finding::problem(
            SUBJECT,
            format!(
                "hybrid, and version 2 still has {}: crun starts no container (\"cgroups in hybrid mode not supported, \
                 drop all controllers from cgroupv2\")",
                controllers.join(", ")
            ),
            hybrid_repair(host, &controllers, &directory),
        ),
        Cgroups::Hybrid { .. } => Finding::ok(SUBJECT, "hybrid, with all controllers in version 1"),
        Cgroups::Absent => Finding::problem(
            SUBJECT,
            "none are mounted, and no container starts without",
            format!("{}mount -t cgroup2 none /sys/fs/cgroup", host.sudo()),
        ),
    })
}

/// Mounting a controller as a version 1 hierarchy takes it away from version 2.
fn hybrid_repair(host: &Host, controllers: &[String], directory: &Path) -> String {
    let commands = controllers.iter().map(|controller| {
        let place = directory.join(controller);
        format!("mkdir -p {0} && mount -t cgroup -o {controller} none {0}", place.display())
    });
    let commands = commands.collect::<Vec<_>>().join(" && ");
    if host.user_id == 0 { commands } else { format!("sudo sh -c '{commands}'") }
}

pub(super) fn limits(host: &Host) -> Result<Finding> {
    const SUBJECT: &str = "limits";
    let mut parts = Vec::new();
    let mut low = Vec::new();
    for (name, unit, option, least) in [
        ("Max open files", "open files", "-n", LEAST_OPEN_FILES),
        ("Max processes", "processes", "-u", LEAST_PROCESSES),
    ] {
        let limit = host.limit(name)?.hard;
        parts.push(limit.map_or(format!("{unit} unlimited"), |limit| format!("{limit} {unit}")));
        if limit.is_some_and(|limit| limit < least) {
            low.push(format!("ulimit {option} {least}"));
        }
    }
    let detail = format!("{} at most", parts.join(", "));
    Ok(if low.is_empty() {
        Finding::ok(SUBJECT, detail)
    } else {
        let detail = format!("{detail}: too few for dnf and its scriptlets");
        Finding::warning(SUBJECT, detail, format!("as root, before starting this user's shell: {}", low.join("; ")))
    })
}

pub(super) fn qemu(host: &Host) -> Finding {
    const SUBJECT: &str = "QEMU";
    let program = format!("qemu-system-{}", host.architecture);
    match host.find(&program) {
        Some(path) => Finding::ok(SUBJECT, path.display().to_string()),
        None => {
            let (debian, fedora) = match host.architecture.as_str() {
                "x86_64" => ("qemu-system-x86", "qemu-system-x86-core"),
                _ => ("qemu-system-arm", "qemu-system-aarch64-core"),
            };
            let detail = format!("{program} is missing: ocinitrd boot does not work, building does");
            Finding::warning(SUBJECT, detail, host.install_command(debian, fedora))
        }
    }
}

pub(super) fn uefi(host: &Host) -> Finding {
    const SUBJECT: &str = "UEFI";
    let configuration = host.configuration.as_ref().map(|directory| host.path(directory));
    match uefi::find(&host.root, configuration.as_deref(), uefi::Boot::Any) {
        Some(firmware) => Finding::ok(SUBJECT, firmware.code.path.display().to_string()),
        None => {
            let detail =
                "QEMU has no UEFI firmware: the boots of ocinitrd boot that begin with it do not work, all others do";
            Finding::warning(SUBJECT, detail, host.install_command("ovmf", "edk2-ovmf"))
        }
    }
}

pub(super) fn kvm(host: &Host) -> Result<Finding> {
    const SUBJECT: &str = "KVM";
    const SLOWER: &str = "QEMU computes every instruction itself, and boots take some ten times as long";
    Ok(match host.access("/dev/kvm") {
        // A device without the processor's support answers and then fails at the first guest.
        _ if !host.has_virtualisation()? => Finding {
            subject: SUBJECT,
            state: State::Warning,
            detail: format!("the processor offers no virtualisation to this machine: {SLOWER}"),
            // Nothing on this machine can change it.
            cure: None,
        },
        Ok(()) => Finding::ok(SUBJECT, "/dev/kvm is there and ours to use"),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Finding::warning(
            SUBJECT,
            format!("/dev/kvm may not be opened by {}: {SLOWER}", host.user_name()?),
            format!("sudo usermod --append --groups kvm {} and log in again", host.user_name()?),
        ),
        Err(_) => Finding::warning(
            SUBJECT,
            format!("/dev/kvm is missing: {SLOWER}"),
            format!("{}modprobe --all kvm_intel kvm_amd", host.sudo()),
        ),
    })
}

/// Where a build puts much. `graph_root` is known of an engine on this machine only.
pub(super) fn disk(host: &Host, graph_root: Option<&Path>) -> Result<Vec<Finding>> {
    let places = [
        (graph_root, "podman system prune"),
        (Some(host.cache.as_path()), "free some, or set XDG_CACHE_HOME to a directory on a larger file system"),
        (Some(host.temporary.as_path()), "free some, or set TMPDIR to a directory on a larger file system"),
    ];
    let names = ["the engine's storage", "the cache", "temporary files"];
    let mut findings = Vec::new();
    for ((place, cure), name) in places.into_iter().zip(names) {
        let Some(place) = place else { continue };
        let free = host.free_bytes(place)?;
        let detail = format!("{} free for {name} at {}", DecimalBytes(free), place.display());
        findings.push(match free {
            0..LEAST_BYTES => Finding::problem("disk", format!("{detail}: no build fits into that"), cure),
            LEAST_BYTES..ROOMY_BYTES => Finding::warning("disk", format!("{detail}: a large image may not fit"), cure),
            _ => Finding::ok("disk", detail),
        });
    }
    Ok(findings)
}
