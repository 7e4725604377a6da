//! Boots of the real result: each way to name a root device, and the failures that must be short and clear.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use ocinitrd::analysis::inspect;
use ocinitrd_format::cpio::{Header, Writer};
use serde_json::Value;

use crate::fixture::{disk_maker_output, nfs_output, ocinitrd, offline_output, offline_variant, stderr, stdout};

/// For a busy machine without KVM.
const LONG: &str = "600";

/// `ocinitrd boot OUT`, its consoles kept apart from those of other tests.
fn boot(output: &Path, test: &str) -> Command {
    let mut command = ocinitrd();
    command.arg("boot").arg(output).arg("--log-dir").arg(output.join("boot").join(test));
    command
}

fn run(command: &mut Command, expected_code: i32) -> Output {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(expected_code), "{command:?}:\n{}{}", stdout(&output), stderr(&output));
    output
}

fn answer(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

#[test]
fn every_scenario_comes_out_as_it_must_and_every_file_is_unpacked_as_it_is_in_the_initrd() {
    let mut command = boot(&offline_output(), "all");
    command.arg("--disks-by").arg(disk_maker_output()).args(["--root", "all", "--timeout", LONG, "--json"]);
    let output = command.arg("--verify-contents").output().unwrap();
    let answer = answer(&output);
    let boots = answer["boots"].as_array().unwrap();
    let failed: Vec<&Value> = boots.iter().filter(|report| report["ok"] != true).collect();
    assert!(failed.is_empty() && output.status.success(), "{failed:#?}\n{}", stderr(&output));
    assert!(answer["contents"]["files"].as_u64().unwrap() > 100, "{answer}");
    assert!(answer["contents"]["failure"].is_null(), "{answer}");
    let listed = stdout(&run(ocinitrd().args(["boot", "--list"]), 0));
    let needs = ["nfs", "sysext", "a unified kernel image"];
    let is_needy = |line: &&str| needs.iter().any(|need| line.ends_with(&format!(" (needs {need})")));
    let needy = listed.lines().filter(is_needy).count();
    assert_eq!(boots.len(), listed.lines().count() - needy - 2, "two of the names are short ones");
    let left_out = "left out: nfs3-dhcp, nfs3-static, nfs4-dhcp, nfs4-static, nfs-dead-server; this initrd lacks what comes with the profile nfs";
    assert!(stderr(&output).contains(left_out), "{}", stderr(&output));
    let name = |report: &Value| report["scenario"].as_str().unwrap().to_owned();
    // One that wakes up goes on where it fell asleep.
    let starts = |report: &&Value| report["failure"].is_null() && !name(report).starts_with("hibernation");
    for report in boots.iter().filter(starts) {
        assert_eq!(report["errors"], Value::Array(Vec::new()), "{report}");
        let seconds = |milestone: &str| report["seconds"][milestone].as_f64().unwrap();
        assert!(0.0 < seconds("unpacked") && seconds("unpacked") < seconds("device"), "{report}");
        assert!(seconds("device") < seconds("switch_root") && seconds("switch_root") <= seconds("target"), "{report}");
        let console = fs::read_to_string(report["log"].as_str().unwrap()).unwrap();
        assert!(!console.contains("Initramfs unpacking failed") && !console.contains("[FAILED]"), "{console}");
        assert!(console.contains("ocinitrd: fact root /dev/"), "{console}");
        let asked = console.contains("Please enter passphrase");
        assert_eq!(asked, ["luks-passphrase", "luks-detached-header"].contains(&name(report).as_str()));
    }
}

#[test]
fn contents_that_cannot_be_listed_name_the_program_that_is_missing() {
    let output = offline_variant("no-sha256sum", "[packages]\nremove_files = [\"/usr/bin/sha256sum\"]");
    let mut command = boot(&output, "no-sha256sum");
    let text = stdout(&run(command.args(["--verify-contents", "--timeout", LONG]), 1));
    let reason = "the initrd has no program sha256sum; `programs` in its definition keeps what it names";
    assert!(text.contains(reason), "{text}");
}

#[test]
fn roots_on_servers_come_out_as_they_must() {
    const ROOTS: [&str; 5] = ["nfs3-dhcp", "nfs3-static", "nfs4-dhcp", "nfs4-static", "nfs-dead-server"];
    let mut command = boot(&nfs_output(), "nfs");
    command.arg("--disks-by").arg(disk_maker_output()).args(["--timeout", LONG, "--json"]);
    let output = command.args(["--root", &ROOTS.join(",")]).output().unwrap();
    let answer = answer(&output);
    let boots = answer["boots"].as_array().unwrap();
    let failed: Vec<&Value> = boots.iter().filter(|report| report["ok"] != true).collect();
    assert!(failed.is_empty() && output.status.success(), "{failed:#?}\n{}", stderr(&output));
    let console = |report: &Value| fs::read_to_string(report["log"].as_str().unwrap()).unwrap();
    let (dead, served) = boots.split_last().unwrap();
    assert_eq!(served.iter().map(|report| report["scenario"].as_str().unwrap()).collect::<Vec<_>>(), ROOTS[..4]);
    for report in served {
        assert!(!console(report).contains("[FAILED]"), "{}", console(report));
        // The locks of NFSv3 take programs that nothing else starts.
        let locks = report["scenario"] == "nfs3-static";
        // What starts them has systemctl tell on standard error what it did: that counts as an error, and is none.
        let errors = report["errors"].as_array().unwrap();
        let told = |error: &Value| error.as_str().unwrap().contains(": Created symlink '/run/systemd/system/remote-fs");
        assert!(errors.iter().all(|error| locks && told(error)), "{report}");
        assert_eq!(console(report).contains("Started rpc-statd.service"), locks, "{}", console(report));
    }
    // The generator of NFS roots must not keep others from theirs.
    let mut local = boot(&nfs_output(), "nfs-local");
    local.arg("--disks-by").arg(disk_maker_output()).args(["--root", "gpt-auto", "--timeout", LONG]);
    run(&mut local, 0);
    let reason = dead["failure"]["reason"].as_str().unwrap();
    assert!(reason.contains("mount.nfs4: ") && reason.ends_with(" for 192.0.2.1:/target on /sysroot"), "{reason}");
}

/// What cannot be served is told apart from what cannot be mounted.
#[test]
fn a_server_without_programs_is_a_failure_of_its_own_that_names_what_is_missing() {
    let mut command = boot(&nfs_output(), "no-server");
    command.arg("--disks-by").arg(offline_output()).args(["--root", "nfs4-static", "--timeout", LONG]);
    let text = stdout(&run(&mut command, 1));
    assert!(
        text.starts_with(
            "nfs4-static: failed in stage server: the initrd has no program ip; --disks-by OUT serves with "
        ),
        "{text}"
    );
}

#[test]
fn an_initrd_without_the_module_that_its_root_needs_says_so() {
    let output = offline_variant("no-xfs", "[kernel]\nmodules = [\"-xfs\"]");
    let mut command = boot(&output, "no-xfs");
    command.arg("--disks-by").arg(disk_maker_output()).args(["--root", "xfs", "--timeout", LONG]);
    let started = Instant::now();
    let text = stdout(&run(&mut command, 1));
    assert!(started.elapsed().as_secs() < 400);
    assert!(text.starts_with("xfs: failed in stage mount: ") && text.contains("xfs"), "{text}");
}

#[test]
fn an_absent_root_fails_in_bounded_time_and_names_the_device() {
    let mut command = boot(&offline_output(), "absent");
    command.args(["--append", "root=LABEL=nowhere systemd.default_device_timeout_sec=15", "--timeout", LONG]);
    let started = Instant::now();
    let output = run(&mut command, 1);
    assert!(started.elapsed().as_secs() < 400);
    let text = stdout(&output);
    assert!(text.starts_with("ext4-uuid: failed in stage device: Timed out waiting for device "), "{text}");
    assert!(text.contains("/dev/disk/by-label/nowhere"), "{text}");
    let console = stderr(&output);
    assert!(console.contains("the console's last lines, all of it in "), "{console}");
    assert!(console.contains("  | You are in emergency mode."), "{console}");
}

#[test]
fn each_answer_is_one_line_and_a_scenario_that_must_fail_is_ok_when_it_does() {
    let mut command = boot(&offline_output(), "lines");
    let text =
        stdout(&run(command.args(["--root", "plain", "--root", "absent-root", "--timeout", LONG, "--jobs", "1"]), 0));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    assert!(lines[3].starts_with("scenario ") && lines[4].starts_with("ext4-uuid    ok "), "{text}");
    assert!(
        lines[0].starts_with("ext4-uuid: ok, switch-root ") && lines[0].contains(" s after kernel start ("),
        "{text}"
    );
    assert!(lines[1].starts_with("absent-root: ok, fails as it must in stage device: Timed out waiting"), "{text}");
}

#[test]
fn a_clock_that_counts_instructions_is_the_one_that_the_target_reads() {
    let mut command = boot(&offline_output(), "counting");
    command.args(["--count-instructions", "--timeout", LONG, "--json"]);
    let report = answer(&run(&mut command, 0))["boots"][0].clone();
    assert_eq!(report["accelerator"], "TCG, counting instructions");
    let (uptime, target) = (&report["uptime_seconds"], &report["seconds"]["target"]);
    assert!((uptime.as_f64().unwrap() - target.as_f64().unwrap()).abs() < 0.1, "{report}");
}

/// The initrd of an output, whose init says that it needs a processor with these levels of x86-64.
fn with_levels(output: &Path, levels: u8) -> Vec<u8> {
    let mut initrd = fs::read(output.join("initrd")).unwrap();
    let mut init = Vec::new();
    inspect::extract(Cursor::new(&initrd), b"usr/lib/systemd/systemd", &mut init).unwrap();
    // GNU_PROPERTY_X86_ISA_1_NEEDED, of four bytes: the baseline.
    let note = [0x02, 0x80, 0x00, 0xc0, 4, 0, 0, 0, 1];
    let place = init.windows(note.len()).position(|bytes| bytes == note).expect("what it was linked with has the note");
    init[place + note.len() - 1] = levels;
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    let mut archive = Writer::new(initrd);
    let header = Header {
        path: b"usr/lib/systemd/systemd",
        mode: 0o100_755,
        links: 1,
        size_bytes: init.len().try_into().unwrap(),
        ..Header::default()
    };
    archive.append(&header, &init[..]).unwrap();
    archive.finish().unwrap()
}

#[test]
fn programs_get_the_processor_that_they_need() {
    let (output, directory) = (offline_output(), tempfile::tempdir().unwrap());
    let initrd = directory.path().join("initrd");
    let boot = |levels: u8, code| {
        fs::write(&initrd, with_levels(&output, levels)).unwrap();
        let mut command = ocinitrd();
        command.arg("boot").arg("--kernel").arg(output.join("vmlinuz")).arg("--initrd").arg(&initrd);
        run(command.arg("--log-dir").arg(directory.path().join("log")).args(["--timeout", LONG]), code)
    };
    // glibc ends what needs x86-64-v3 at once on a processor without.
    let text = stdout(&boot(0b111, 0));
    if text.contains("TCG") {
        let console = fs::read_to_string(directory.path().join("log/ext4-uuid.log")).unwrap();
        assert!(
            console.contains(" clearcpuid=141"),
            "the kernel may use the instruction that is translated wrongly: {console}"
        );
        // Nothing translates AVX-512.
        let error = stderr(&boot(0b1111, 1));
        assert!(error.contains("the programs of the initrd need a processor with x86-64-v4"), "{error}");
    }
}

#[test]
fn a_panic_before_the_initrd_is_tried_again_twice_and_told() {
    let output = run(boot(&offline_output(), "panic").args(["--append", "mem=96M"]), 1);
    let text = stdout(&output);
    assert!(text.starts_with("ext4-uuid: failed in stage kernel: Kernel panic - not syncing"), "{text}");
    assert!(text.ends_with(", tried again 2 times after panics before the initrd\n"), "{text}");
    assert_eq!(stderr(&output).matches("panicked before it unpacked the initrd; trying again").count(), 2);
}

#[test]
fn a_truncated_initrd_fails_in_the_stage_in_which_it_is_unpacked() {
    let whole = offline_output();
    let directory = tempfile::tempdir().unwrap();
    fs::copy(whole.join("vmlinuz"), directory.path().join("vmlinuz")).unwrap();
    let initrd = fs::read(whole.join("initrd")).unwrap();
    fs::write(directory.path().join("initrd"), &initrd[..initrd.len() / 2]).unwrap();
    let text = stdout(&run(boot(directory.path(), "truncated").args(["--timeout", LONG]), 1));
    assert!(text.starts_with("ext4-uuid: failed in stage unpack: Initramfs unpacking failed"), "{text}");
}

/// What an initrd without programs cannot do for itself, another can do for it.
#[test]
fn an_initrd_without_programs_is_told_apart_from_one_that_does_not_start() {
    let whole = offline_output();
    let directory = tempfile::tempdir().unwrap();
    fs::copy(whole.join("vmlinuz"), directory.path().join("vmlinuz")).unwrap();
    fs::write(directory.path().join("initrd"), Writer::new(Vec::new()).finish().unwrap()).unwrap();
    let text = stdout(&run(boot(directory.path(), "empty").args(["--timeout", LONG]), 1));
    assert!(
        text.starts_with("ext4-uuid: failed in stage disks: the initrd has no program bash; --disks-by "),
        "{text}"
    );
    let mut command = boot(directory.path(), "empty");
    let text = stdout(&run(command.args(["--timeout", LONG, "--disks-by"]).arg(&whole), 1));
    assert!(text.starts_with("ext4-uuid: failed in stage unpack: "), "{text}");
}

#[test]
fn a_boot_that_takes_too_long_is_ended_and_says_where_it_was() {
    let output = run(boot(&offline_output(), "timeout").args(["--timeout", "1"]), 1);
    let text = stdout(&output);
    assert!(text.starts_with("ext4-uuid: failed in stage kernel: nothing more within 1 s (--timeout)"), "{text}");
}

/// Neither scenario keeps the other from being tried.
#[test]
fn without_uefi_firmware_each_boot_that_begins_with_it_fails_and_says_what_to_install() {
    let hidden = tempfile::tempdir().unwrap();
    let own = hidden.path().join("qemu/firmware");
    fs::create_dir_all(&own).unwrap();
    // An empty descriptor hides that of the same name.
    for descriptor in fs::read_dir("/usr/share/qemu/firmware").unwrap() {
        fs::write(own.join(descriptor.unwrap().file_name()), "").unwrap();
    }
    let mut command = boot(&offline_output(), "no-firmware");
    command.env("XDG_CONFIG_HOME", hidden.path()).args(["--root", "gpt-auto", "--root", "gpt-auto-luks"]);
    let output = run(&mut command, 1);
    let text = stdout(&output);
    for name in ["gpt-auto", "gpt-auto-luks"] {
        let line = text.lines().find(|line| line.starts_with(&format!("{name}: "))).unwrap();
        assert!(line.starts_with(&format!("{name}: failed in stage firmware: no UEFI firmware for QEMU")), "{text}");
        assert!(line.contains("apt-get install ovmf") && line.contains("dnf install edk2-ovmf"), "{text}");
    }
    assert!(!stderr(&output).contains("last lines"), "there was no console: {}", stderr(&output));
}

#[test]
fn a_boot_loader_that_is_not_there_is_named_with_the_package_that_has_it() {
    let text = stdout(&run(boot(&offline_output(), "no-loader").args(["--root", "gpt-auto"]), 1));
    assert!(
        text.starts_with(
            "gpt-auto: failed in stage disks: taking systemd-boot, of the package systemd-boot-unsigned, out of "
        ),
        "{text}"
    );
    assert!(text.contains("--disks-by OUT") && text.contains("systemd-bootx64.efi"), "{text}");
}

#[test]
fn a_kernel_that_the_boot_loader_cannot_start_is_a_failure_of_stage_firmware() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("vmlinuz"), "no kernel").unwrap();
    fs::copy(offline_output().join("initrd"), directory.path().join("initrd")).unwrap();
    let mut command = boot(directory.path(), "no-kernel");
    command.arg("--disks-by").arg(disk_maker_output()).args(["--root", "gpt-auto", "--timeout", LONG]);
    let text = stdout(&run(&mut command, 1));
    assert!(
        text.starts_with("gpt-auto: failed in stage firmware: ") && text.contains("vmlinuz: Unsupported"),
        "{text}"
    );
}

#[test]
fn an_initrd_that_does_not_fit_into_the_efi_system_partition_is_named() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("vmlinuz"), "no kernel").unwrap();
    fs::File::create(directory.path().join("initrd")).unwrap().set_len(600 << 20).unwrap();
    let mut command = boot(directory.path(), "too-large");
    command.arg("--disks-by").arg(disk_maker_output()).args(["--root", "gpt-auto", "--timeout", LONG]);
    let text = stdout(&run(&mut command, 1));
    assert!(text.starts_with("gpt-auto: failed in stage firmware: writing the EFI system partition of "), "{text}");
    assert!(text.contains("writing initrd: ") && text.contains("629145600 bytes do not fit"), "{text}");
}

#[test]
fn what_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let message = stderr(&run(&mut boot(directory.path(), "missing"), 1));
    assert!(message.contains("vmlinuz: give the output directory of `ocinitrd build`"), "{message}");
    fs::write(directory.path().join("vmlinuz"), "no kernel").unwrap();
    fs::write(directory.path().join("initrd"), "no initrd").unwrap();
    let message = stderr(&run(boot(directory.path(), "missing").args(["--root", "ext5"]), 1));
    assert!(message.contains("there is no root scenario \"ext5\""), "{message}");
    let without_qemu = run(boot(directory.path(), "missing").env("PATH", directory.path()), 1);
    let message = stderr(&without_qemu);
    assert!(message.contains("apt-get install qemu-system-x86") && message.contains("dnf install"), "{message}");
}

#[test]
fn of_several_kernels_one_is_chosen_and_its_files_are_those_of_the_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out");
    let json = fs::read_to_string(offline_output().join("manifest.json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&json).unwrap();
    let kernel = manifest["kernels"][0].clone();
    let of_version = |version: &str, initrd: serde_json::Value| {
        let mut kernel = kernel.clone();
        kernel["version"] = version.into();
        kernel["image"] = format!("vmlinuz-{version}").into();
        kernel["initrd"] = initrd;
        kernel["segments"] = serde_json::json!([]);
        kernel
    };
    manifest["kernels"] =
        vec![of_version("6.1", "initrd-6.1".into()), of_version("6.2", serde_json::Value::Null)].into();
    manifest["outputs"] = ["initrd-6.1", "vmlinuz-6.1", "vmlinuz-6.2"]
        .map(|path| serde_json::json!({"path": path, "size_bytes": 0, "sha256": manifest["inputs"]}))
        .to_vec()
        .into();
    fs::create_dir(&output).unwrap();
    fs::write(output.join("manifest.json"), manifest.to_string()).unwrap();
    let error = |arguments: &[&str]| stderr(&run(boot(&output, "missing").args(arguments), 1));
    assert!(error(&[]).contains("choose a kernel with --kernel-version: "), "{}", error(&[]));
    assert!(
        error(&["-k", "6.3"]).contains("there is no kernel 6.3") && error(&["-k", "6.3"]).contains("holds 6.1, 6.2")
    );
    assert!(error(&["-k", "6.1"]).contains("there is no file") && error(&["-k", "6.1"]).contains("vmlinuz-6.1"));
    assert!(error(&["-k", "6.2"]).contains("holds no initrd"), "{}", error(&["-k", "6.2"]));
}

#[test]
fn list_describes_every_scenario() {
    let text = stdout(&run(ocinitrd().args(["boot", "--list"]), 0));
    for name in ["ext4-uuid", "ext4-label", "ext4-partuuid", "gpt-auto", "absent-root", "plain", "all"] {
        assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{text}");
    }
}
