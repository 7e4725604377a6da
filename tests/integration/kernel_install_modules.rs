//! The plugins of kernel-install(8), called by the real one: what the machine's configuration of its modules does to the initrd.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::fixture::{ocinitrd, stderr, succeed};
use crate::host_machine::{Machine, TOKEN};

/// What is done to a machine, what is said of it then, and a file that is in the initrd.
type Case<'a> = (&'a dyn Fn(&Machine), &'a str, &'a str);

/// The machine with an entry of another kernel beside its own.
fn with_other_entry() -> Machine {
    let machine = Machine::running();
    let other = machine.path(&format!("boot/{TOKEN}/other"));
    fs::create_dir(&other).unwrap();
    fs::copy(machine.initrd(), other.join("initrd")).unwrap();
    machine
}

/// A file of an initrd.
fn held(initrd: &Path, path: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let unpacked = directory.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    // Segments of early microcode and of the base come first; what is asked for is in plain ones.
    let bytes = fs::read(initrd).unwrap();
    for begin in begins(&bytes) {
        let part = directory.path().join("part");
        fs::write(&part, &bytes[begin..]).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "cpio --quiet -idu <\"$1\" 2>/dev/null || true", "sh"]).arg(&part).current_dir(&unpacked);
        succeed(&mut command);
    }
    fs::read_to_string(unpacked.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Where plain archives begin.
fn begins(bytes: &[u8]) -> Vec<usize> {
    let is_first = |at: &usize| *at == 0 || bytes[..*at].ends_with(&[0; 4]);
    let starts = bytes.windows(6).enumerate().filter(|(_, window)| *window == b"070701").map(|(at, _)| at);
    starts.filter(|at| at % 4 == 0 && is_first(at)).collect()
}

/// Our program, called as the plugin calls it, with `-v`.
fn verbose(machine: &Machine, staging: &Path) -> Output {
    let mut command = ocinitrd();
    command.env("KERNEL_INSTALL_INITRD_GENERATOR", "ocinitrd").env("KERNEL_INSTALL_LAYOUT", "bls");
    command.env("KERNEL_INSTALL_STAGING_AREA", staging);
    command.args(["-v", "kernel-install", "initrd", "add", &machine.kernel, "entry", "--root"]).arg(machine.path(""));
    command.output().unwrap()
}

#[test]
fn odd_configuration_of_modules_is_reported_and_nothing_is_lost_by_it() {
    let cases: &[Case<'_>] = &[
        (
            &|machine| machine.write("etc/depmod.d/x.conf", "search updates\nnonsense\u{1b} here\n"),
            "/etc/depmod.d/x.conf:2: the line that begins with \"nonsense\\x1b\" does not count, since depmod cannot read it",
            "/virtio_blk.ko",
        ),
        (
            &|machine| {
                machine.write("etc/modprobe.d/x.conf", "softdep virtio_blk pre: ext4\nsoftdep ext4 post: virtio-blk\n");
            },
            "soft dependencies run in a circle, ext4 -> virtio_blk -> ext4, by /etc/modprobe.d/x.conf:2",
            "etc/modprobe.d/x.conf\n",
        ),
        (
            &|machine| {
                machine.write(
                    "etc/modprobe.d/x.conf",
                    "# mine\ninstall virtio-blk \\\n  /bin/sh -c 'modprobe -i virtio_blk'\n",
                );
            },
            "the module virtio_blk, which the machine needs, may not be loaded in the initrd: /etc/modprobe.d/x.conf:2 has a shell run \
             \"/bin/sh -c 'modprobe -i virtio_blk'\"",
            "etc/modprobe.d/x.conf\n",
        ),
        (
            &|machine| machine.write("usr/lib/modprobe.d/x.conf", "install ext4 /bin/true\n"),
            "the module ext4, which the machine needs, is not loaded in the initrd: /usr/lib/modprobe.d/x.conf:1",
            "usr/lib/modprobe.d/x.conf\n",
        ),
        (
            &|machine| {
                machine.write("etc/ocinitrd/host.toml", "modules = [\"aic94xx\"]\n");
                machine.link("usr/lib/firmware/aic94xx-seq.fw", "/opt/none.fw");
            },
            "the firmware /usr/lib/firmware/aic94xx-seq.fw is a symlink that leads nowhere, to \"/opt/none.fw\"; the module aic94xx may \
             ask for it: install its package again, or remove the link",
            "/aic94xx.ko",
        ),
        (
            &|machine| machine.write("etc/kernel/cmdline", "root=LABEL=root rw firmware_class.path=/opt/none\n"),
            "firmware_class.path=/opt/none on the kernel's command line names no directory",
            "/ext4.ko",
        ),
    ];
    for (make_odd, said, held) in cases {
        let machine = with_other_entry();
        let before = machine.boot_files();
        make_odd(&machine);
        let output = machine.add();
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{said}: {error}");
        assert!(error.contains(&format!("warning: {said}")), "{said}\n---\n{error}");
        let listed = machine.listed();
        assert!(listed.contains(held), "{held}: {listed}");
        for (path, content) in before.iter().filter(|(path, _)| path.to_string_lossy().contains("/other/")) {
            assert_eq!(fs::read(path).unwrap(), *content, "{}", path.display());
        }
    }
}

#[test]
fn what_goes_in_of_the_configuration_is_said_and_noted_in_the_initrd() {
    let machine = Machine::running();
    let from = machine.module_path("kernel/fs/mbcache.ko.xz");
    let mine = machine.path("opt/modules/mbcache.ko.xz");
    fs::create_dir_all(mine.parent().unwrap()).unwrap();
    fs::copy(from, &mine).unwrap();
    machine.write("etc/depmod.d/mine.conf", "search external updates built-in\nexternal * /opt/modules\n");
    machine.write(
        "etc/modprobe.d/mine.conf",
        "options virtio_blk queue_depth=64\nsoftdep ext4 pre: loop\nblacklist loop\n",
    );
    machine.write("etc/modules-load.d/mine.conf", "# for the root\nbtrfs\nno_such_module\n");
    let staging = machine.path("staging");
    fs::create_dir(&staging).unwrap();
    let output = verbose(&machine, &staging);
    let error = stderr(&output);
    assert!(output.status.success(), "{error}");
    for said in [
        "the module mbcache is /opt/modules/mbcache.ko.xz, in place of kernel/fs/mbcache.ko.xz, as depmod prefers it",
        "the module loop comes by /etc/modprobe.d/mine.conf:2 for ext4",
        "the module loop is blacklisted by /etc/modprobe.d/mine.conf:3",
        "/etc/modprobe.d/mine.conf goes in: it is about ext4, loop, virtio_blk",
        "/etc/modules-load.d/mine.conf goes in: it loads btrfs",
    ] {
        assert!(error.contains(said), "{said}\n---\n{error}");
    }
    let initrd = staging.join("initrd");
    assert_eq!(held(&initrd, "etc/modules-load.d/mine.conf"), "btrfs\n");
    let manifest: Value = serde_json::from_str(&held(&initrd, "usr/lib/ocinitrd/manifest.json")).unwrap();
    assert_eq!(manifest["kernel"], machine.kernel.as_str());
    assert_eq!(manifest["modules"]["mbcache"]["path"], "/opt/modules/mbcache.ko.xz");
    assert_eq!(manifest["modules"]["mbcache"]["in_place_of"][0], "kernel/fs/mbcache.ko.xz");
    assert_eq!(manifest["modules"]["loop"]["blacklisted"], "/etc/modprobe.d/mine.conf:3");
    assert_eq!(manifest["modules_load"][0]["lines"][0], "/etc/modules-load.d/mine.conf:2");
    assert_eq!(manifest["modprobe"][0]["path"], "/etc/modprobe.d/mine.conf");
    let dependencies = held(&initrd, &format!("usr/lib/modules/{}/modules.dep", machine.kernel));
    let ext4 = dependencies.lines().find(|line| line.starts_with("kernel/fs/ext4/ext4.ko")).unwrap();
    assert!(ext4.contains(" /opt/modules/mbcache.ko.xz") && !ext4.contains("kernel/fs/mbcache"), "{ext4}");
}
