//! A temporary directory is the machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;

const MOUNTS_HYBRID: &str = "\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
const MOUNTS_UNIFIED: &str = "30 20 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max processes             96365                unlimited            processes
Max open files            1024                 20000                files
";

/// A Debian machine on which a user without root rights can build.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Machine(tempfile::tempdir().unwrap());
        machine.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/home/ana:/bin/sh\n");
        machine.write("/etc/subuid", "bob:100000:65536\nana:165536:65536\n");
        machine.write("/etc/subgid", "bob:100000:65536\n1000:165536:65536\n");
        machine.write("/proc/self/mountinfo", MOUNTS_UNIFIED);
        machine.write("/proc/self/limits", LIMITS);
        machine.write("/proc/cpuinfo", "flags\t\t: fpu sse vmx\n");
        machine.write("/dev/kvm", "");
        machine.write("/usr/share/OVMF/OVMF_CODE.fd", "");
        machine.write("/usr/share/OVMF/OVMF_VARS.fd", "");
        for program in ["apt-get", "newuidmap", "newgidmap", "crun", "qemu-system-x86_64"] {
            machine.install(program);
        }
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    fn install(&self, program: &str) {
        let path = format!("/usr/bin/{program}");
        self.write(&path, "");
        fs::set_permissions(self.path(&path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    fn host(&self, user_id: u32) -> Host {
        Host {
            root: self.0.path().to_owned(),
            user_id,
            search_path: vec![PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")],
            cache: PathBuf::from("/home/ana/.cache/ocinitrd"),
            temporary: PathBuf::from("/tmp"),
            configuration: Some(PathBuf::from("/home/ana/.config")),
            architecture: "x86_64".to_owned(),
        }
    }
}

fn engine(rootless: bool) -> EngineFacts {
    EngineFacts {
        description: "podman 4.3.1 at unix:///run/podman/podman.sock (root), the system's default socket".to_owned(),
        identity: Identity {
            product: "podman".to_owned(),
            version: "4.3.1".to_owned(),
            rootless,
            storage_driver: "overlay".to_owned(),
            graph_root: "/var/lib/containers/storage".to_owned(),
            oci_runtime: "crun".to_owned(),
        },
        local: true,
    }
}

/// What is not as it should be, as `state subject: detail [cure]`.
fn complaints(host: &Host, engine: Result<&EngineFacts, &NoEngine>) -> Vec<String> {
    let findings = examine(host, engine).unwrap();
    let complaints = findings.iter().filter(|finding| finding.state != State::Ok && finding.subject != "disk");
    let line = |finding: &Finding| {
        let cure = finding.cure.as_deref().unwrap_or("no cure");
        format!("{} {}: {} [{cure}]", finding.state, finding.subject, finding.detail)
    };
    complaints.map(line).collect()
}

fn only(mut complaints: Vec<String>) -> String {
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    complaints.remove(0)
}

#[test]
fn a_fit_machine_has_nothing_to_complain_of() {
    let machine = Machine::new();
    assert_eq!(complaints(&machine.host(1000), Ok(&engine(true))), [""; 0]);
    let subjects: Vec<&str> =
        examine(&machine.host(1000), Ok(&engine(true))).unwrap().iter().map(|finding| finding.subject).collect();
    let expected =
        ["engine", "storage", "sub-ids", "sub-ids", "cgroups", "limits", "QEMU", "UEFI", "KVM", "disk", "disk", "disk"];
    assert_eq!(subjects, expected);
    preflight(&machine.host(1000), &engine(true)).unwrap();
}

#[test]
fn missing_sub_ids_are_cured_with_a_range_that_nobody_has() {
    let machine = Machine::new();
    machine.write("/etc/subuid", "bob:100000:65536\n");
    let complaint = only(complaints(&machine.host(1000), Ok(&engine(true))));
    assert!(complaint.starts_with("problem sub-ids: /etc/subuid gives ana 0 ids"), "{complaint}");
    assert!(
        complaint.ends_with("[sudo usermod --add-subuids 165536-231071 ana && podman system migrate]"),
        "{complaint}"
    );
    assert_eq!(complaints(&machine.host(0), Ok(&engine(false))), [""; 0], "root needs none");
    machine.remove("/etc/subuid");
    let complaint = only(complaints(&machine.host(1000), Ok(&engine(true))));
    assert!(complaint.contains("--add-subuids 100000-165535 ana"), "{complaint}");
}

#[test]
fn missing_id_mappers_name_their_package() {
    let machine = Machine::new();
    // A file that cannot be executed is as good as none.
    machine.write("/usr/bin/newuidmap", "");
    fs::set_permissions(machine.path("/usr/bin/newuidmap"), fs::Permissions::from_mode(0o644)).unwrap();
    let complaint = only(complaints(&machine.host(1000), Ok(&engine(true))));
    assert!(
        complaint.contains("the program newuidmap") && complaint.ends_with("[sudo apt-get install uidmap]"),
        "{complaint}"
    );
}

#[test]
fn hybrid_cgroups_are_a_problem_for_crun_while_version_2_has_controllers() {
    let machine = Machine::new();
    machine.write("/proc/self/mountinfo", MOUNTS_HYBRID);
    machine.write("/sys/fs/cgroup/unified/cgroup.controllers", "hugetlb misc\n");
    let complaint = only(complaints(&machine.host(0), Ok(&engine(false))));
    assert!(complaint.starts_with("problem cgroups: hybrid, and version 2 still has hugetlb, misc"), "{complaint}");
    let repair = "[mkdir -p /sys/fs/cgroup/hugetlb && mount -t cgroup -o hugetlb none /sys/fs/cgroup/hugetlb && \
                  mkdir -p /sys/fs/cgroup/misc && mount -t cgroup -o misc none /sys/fs/cgroup/misc]";
    assert!(complaint.ends_with(repair), "{complaint}");
    let complaint = only(complaints(&machine.host(1000), Ok(&engine(true))));
    assert!(complaint.contains("[sudo sh -c 'mkdir -p /sys/fs/cgroup/hugetlb && "), "{complaint}");

    let mut with_runc = engine(false);
    with_runc.identity.oci_runtime = "runc".to_owned();
    assert_eq!(complaints(&machine.host(0), Ok(&with_runc)), [""; 0]);
    machine.write("/sys/fs/cgroup/unified/cgroup.controllers", "\n");
    assert_eq!(complaints(&machine.host(0), Ok(&engine(false))), [""; 0]);
}

#[test]
fn a_build_fails_with_the_doctors_words_about_problems_only() {
    let machine = Machine::new();
    machine.write("/proc/self/mountinfo", MOUNTS_HYBRID);
    machine.write("/sys/fs/cgroup/unified/cgroup.controllers", "hugetlb\n");
    machine.remove("/dev/kvm");
    let findings = examine(&machine.host(0), Ok(&engine(false))).unwrap();
    let problem = findings.iter().find(|finding| finding.state == State::Problem).unwrap();
    let message = preflight(&machine.host(0), &engine(false)).unwrap_err().to_string();
    assert!(message.contains(&problem.detail) && message.contains(problem.cure.as_ref().unwrap()), "{message}");
    assert!(!message.contains("KVM"), "{message}");
}

#[test]
fn a_remote_engines_machine_is_not_judged_by_ours() {
    let machine = Machine::new();
    machine.write("/proc/self/mountinfo", "");
    machine.write("/etc/subuid", "");
    let remote = EngineFacts { local: false, ..engine(true) };
    assert_eq!(complaints(&machine.host(1000), Ok(&remote)), [""; 0]);
    let findings = examine(&machine.host(1000), Ok(&remote)).unwrap();
    assert!(!findings.iter().any(|finding| finding.detail.contains("/var/lib/containers/storage at")), "{findings:?}");
}

#[test]
fn no_engine_is_a_problem_with_the_cure_for_this_machine() {
    let machine = Machine::new();
    let mut missing = NoEngine {
        tried: vec![(
            "unix:///run/podman/podman.sock (the system's default socket)".to_owned(),
            "no such file".to_owned(),
        )],
        named: false,
        installed: false,
    };
    let cure = |missing: &NoEngine, user| only(complaints(&machine.host(user), Err(missing)));
    assert!(cure(&missing, 1000).ends_with("[sudo apt-get install podman uidmap]"));
    assert!(cure(&missing, 1000).contains("/run/podman/podman.sock (the system's default socket): no such file"));
    missing.installed = true;
    assert!(cure(&missing, 0).ends_with("[systemctl start podman.socket]"));
    assert!(cure(&missing, 1000).ends_with("[systemctl --user start podman.socket]"));
    missing.named = true;
    assert!(cure(&missing, 1000).contains("[start the engine that listens there"));
    machine.remove("/usr/bin/apt-get");
    machine.install("dnf");
    missing = NoEngine { named: false, installed: false, ..missing };
    assert!(cure(&missing, 0).ends_with("[dnf install podman]"));
}

#[test]
fn without_qemu_and_kvm_a_build_works_and_a_warning_says_what_does_not() {
    let machine = Machine::new();
    machine.remove("/usr/bin/qemu-system-x86_64");
    machine.remove("/dev/kvm");
    let complaints_found = complaints(&machine.host(0), Ok(&engine(false)));
    assert!(complaints_found[0].starts_with("warning QEMU: qemu-system-x86_64 is missing"), "{complaints_found:?}");
    assert!(complaints_found[0].ends_with("[apt-get install qemu-system-x86]"), "{complaints_found:?}");
    assert!(complaints_found[1].ends_with("[modprobe --all kvm_intel kvm_amd]"), "{complaints_found:?}");
    machine.write("/proc/cpuinfo", "flags\t\t: fpu sse\n");
    let complaints_found = complaints(&machine.host(0), Ok(&engine(false)));
    assert!(complaints_found[1].ends_with("[no cure]"), "{complaints_found:?}");
    preflight(&machine.host(0), &engine(false)).unwrap();
}

#[test]
fn without_uefi_firmware_a_warning_says_which_boots_do_not_work() {
    let machine = Machine::new();
    machine.write("/home/ana/.config/qemu/firmware/50.json", "");
    let complaint = only(complaints(&machine.host(1000), Ok(&engine(true))));
    assert!(complaint.starts_with("warning UEFI: QEMU has no UEFI firmware: the boots of "), "{complaint}");
    assert!(complaint.ends_with("[sudo apt-get install ovmf]"), "{complaint}");
}

#[test]
fn a_kvm_device_without_the_processors_support_is_no_kvm() {
    let machine = Machine::new();
    machine.write("/proc/cpuinfo", "flags\t\t: fpu sse\n");
    let complaint = only(complaints(&machine.host(0), Ok(&engine(false))));
    assert!(complaint.starts_with("warning KVM: the processor offers no virtualisation"), "{complaint}");
}

#[test]
fn the_vfs_driver_is_a_warning() {
    let machine = Machine::new();
    let mut slow = engine(true);
    slow.identity.storage_driver = "vfs".to_owned();
    let complaint = only(complaints(&machine.host(1000), Ok(&slow)));
    assert!(complaint.starts_with("warning storage: vfs at /var/lib/containers/storage"), "{complaint}");
}

#[test]
fn low_limits_are_told() {
    let machine = Machine::new();
    machine.write("/proc/self/limits", &LIMITS.replace("20000", "256  "));
    let complaint = only(complaints(&machine.host(0), Ok(&engine(false))));
    assert!(complaint.contains("256 open files") && complaint.contains("ulimit -n 1024"), "{complaint}");
    let limit = machine.host(0).limit("Max processes").unwrap();
    assert_eq!(limit, Limit { soft: Some(96365), hard: None });
}

#[test]
fn free_space_is_asked_of_the_nearest_directory_that_exists() {
    let machine = Machine::new();
    let host = machine.host(0);
    let free_bytes = |path| host.free_bytes(Path::new(path)).unwrap();
    // Others write to the same file system meanwhile.
    assert!(free_bytes("/no/such/directory").abs_diff(free_bytes("/")) < 1 << 30);
}
