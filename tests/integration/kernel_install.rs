//! The plugins of kernel-install(8), called by the real one, with a machine in a directory: what they make.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::fixture::{ocinitrd, offline_output, stderr, succeed};
use crate::host_machine::Machine;

#[test]
fn a_kernel_that_is_installed_gets_our_initrd_and_leaves_nothing_when_it_goes() {
    let machine = Machine::new();
    let output = machine.add();
    assert!(output.status.success(), "{}", stderr(&output));
    let entry = fs::read_to_string(machine.entry()).unwrap();
    assert!(entry.contains(&format!("/{}/initrd", machine.kernel)) && entry.contains("root=LABEL=root"), "{entry}");
    assert!(!machine.module_path("modules.dep").exists(), "it is made without what depmod makes");
    let listed = machine.listed();
    assert!(listed.contains("/virtio_blk.ko") && listed.contains("usr/lib/systemd/systemd\n"), "{listed}");
    // The modules are those that a build for this kernel has.
    let count = |listed: &str| listed.lines().filter(|line| line.contains(".ko")).count();
    let built = offline_output();
    assert_eq!(count(&listed), count(&succeed(ocinitrd().args(["inspect", "--list"]).arg(built.join("initrd")))));

    let output = machine.kernel_install(&["remove", &machine.kernel]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!machine.entry().exists() && !machine.initrd().exists());
}

#[test]
fn nothing_is_made_where_another_generator_is_named_or_none() {
    let machine = Machine::new();
    for configuration in ["layout=bls\ninitrd_generator=dracut\n", "layout=bls\n"] {
        machine.write("etc/kernel/install.conf", configuration);
        let output = machine.add();
        assert!(output.status.success(), "{}", stderr(&output));
        let entry = fs::read_to_string(machine.entry()).unwrap();
        assert!(!machine.initrd().exists() && !entry.contains("\ninitrd"), "{entry}");
    }
}

#[test]
fn dracut_makes_what_cannot_be_made_where_that_is_said() {
    let machine = Machine::running();
    fs::remove_dir_all(machine.path("usr/lib/ocinitrd")).unwrap();
    machine.write("etc/ocinitrd/host.toml", "on_failure = \"dracut\"\n");
    let before = machine.boot_files();
    let output = machine.add();
    assert!(!output.status.success() && stderr(&output).contains("dracut is not installed"), "{}", stderr(&output));
    assert!(machine.boot_files() == before);
    // Here a program stands for its plugin.
    machine.program(
        "usr/lib/kernel/install.d/50-dracut.install",
        "#!/bin/sh\n[ \"$KERNEL_INSTALL_INITRD_GENERATOR\" = dracut ] && echo \"dracut's for $2\" >\"$KERNEL_INSTALL_STAGING_AREA/initrd\"\n",
    );
    let output = machine.add();
    assert!(output.status.success() && stderr(&output).contains("dracut makes one instead"), "{}", stderr(&output));
    let made = format!("dracut's for {}\n", machine.kernel);
    assert_eq!(fs::read_to_string(machine.initrd()).unwrap(), made);
    // Hidden from kernel-install, so that it never makes one beside ours, it is asked all the same.
    machine.link("etc/kernel/install.d/50-dracut.install", "/dev/null");
    let output = machine.add();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(machine.initrd()).unwrap(), made);
}

#[test]
fn a_machine_s_own_keys_are_staged_so_that_only_root_reads_them() {
    let machine = Machine::new();
    machine.write("etc/crypttab", "root UUID=1 /etc/root.key x-initrd.attach\n");
    machine.write("etc/root.key", "secret");
    machine.write("etc/ocinitrd/more.toml", "files = [\"/etc/mine\"]\nmodules = [\"zram\"]\n");
    machine.write("etc/mine", "mine");
    let staging = machine.path("staging");
    fs::create_dir(&staging).unwrap();
    let mut plugin = machine.plugin_for_uki("50-ocinitrd.install", &staging);
    succeed(&mut plugin);
    let initrd = staging.join("initrd");
    assert_eq!(fs::metadata(&initrd).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = succeed(ocinitrd().args(["inspect", "--list"]).arg(&initrd));
    for path in ["etc/crypttab", "etc/root.key", "etc/mine", "/zram.ko"] {
        assert!(listed.contains(path), "{path}: {listed}");
    }
}

/// A module of the kernel, decompressed and then compressed by that program, if by any.
fn recompressed(machine: &Machine, module: &str, path: &str, program: &[&str]) {
    let from = machine.module_path(module);
    let target = machine.module_path(path);
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    let words = [&["xz -dc \"$1\""][..], program].concat().join(" | ");
    succeed(Command::new("sh").args(["-c", &format!("{words} >\"$2\""), "sh"]).arg(&from).arg(&target));
}

#[test]
fn modules_are_taken_however_they_are_compressed_and_wherever_they_lie() {
    let machine = Machine::running();
    let names = ["drivers/block/loop", "drivers/block/zram/zram", "drivers/md/dm-mod", "fs/mbcache"];
    let path = |name: &str| format!("kernel/{name}.ko.xz");
    for (name, ending, program) in
        [(names[0], "", &[][..]), (names[1], ".gz", &["gzip -c"]), (names[2], ".zst", &["zstd -qc"])]
    {
        recompressed(&machine, &path(name), &format!("kernel/{name}.ko{ending}"), program);
        fs::remove_file(machine.module_path(&path(name))).unwrap();
    }
    // One that takes the place of the kernel's own, one that is somebody's, and one that was built for another kernel.
    recompressed(&machine, &path(names[3]), "updates/mbcache.ko.gz", &["gzip -c"]);
    recompressed(&machine, &path("drivers/block/virtio_blk"), "extra/somebody-s.ko", &[]);
    machine.write("usr/lib/modules/other/modules.builtin", "");
    let other = machine.path("usr/lib/modules/other/extra/far.ko.xz");
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    fs::copy(machine.module_path(&path("fs/jbd2/jbd2")), &other).unwrap();
    machine.link(&format!("usr/lib/modules/{}/weak-updates/far.ko.xz", machine.kernel), "../../other/extra/far.ko.xz");
    machine.write(
        "etc/ocinitrd/host.toml",
        "modules = [\"loop\", \"zram\", \"dm-mod\", \"somebody-s\", \"far\", \"aic94xx\"]\n",
    );
    let output = machine.add();
    assert!(output.status.success(), "{}", stderr(&output));
    let listed = machine.listed();
    for path in [
        "kernel/drivers/block/loop.ko",
        "kernel/drivers/block/zram/zram.ko.gz",
        "kernel/drivers/md/dm-mod.ko.zst",
        "kernel/fs/ext4/ext4.ko.xz",
        "updates/mbcache.ko.gz",
        "extra/somebody-s.ko",
        "weak-updates/far.ko.xz",
    ] {
        let path = format!(" usr/lib/modules/{}/{path}\n", machine.kernel);
        assert!(listed.contains(&path), "{path}: {listed}");
    }
    assert!(!listed.contains("kernel/fs/mbcache.ko.xz"), "another takes its place: {listed}");
    // Firmware that is not there is missed by its name and that of the module that may ask for it.
    let missed = "the module aic94xx may ask for firmware that is not there: aic94xx-seq.fw";
    assert!(stderr(&output).contains(missed), "{}", stderr(&output));
}

#[test]
fn the_console_gets_the_keymap_that_the_machine_names_and_what_is_missing_is_said() {
    let machine = Machine::running();
    machine.write("etc/vconsole.conf", "KEYMAP=de\nFONT=none-such\n");
    machine.write("usr/lib/kbd/keymaps/i386/qwertz/de.map", "include \"bare\"\n");
    machine.write("usr/lib/kbd/keymaps/i386/include/bare.inc", "keycode 1 = Escape\n");
    succeed(Command::new("gzip").arg(machine.path("usr/lib/kbd/keymaps/i386/qwertz/de.map")));
    let output = machine.add();
    assert!(output.status.success(), "{}", stderr(&output));
    let listed = machine.listed();
    for path in ["etc/vconsole.conf", "keymaps/i386/qwertz/de.map", "keymaps/i386/include/bare.inc"] {
        assert!(listed.contains(&format!("{path}\n")), "{path}: {listed}");
    }
    // Debian's systemd, which the offline image has, does nothing for consoles.
    let said = "KEYMAP=de of /etc/vconsole.conf does not count in the initrd, since the base has no \
                /usr/lib/systemd/systemd-vconsole-setup and no /usr/bin/loadkeys";
    assert!(stderr(&output).contains(said) && stderr(&output).contains("FONT=none-such"), "{}", stderr(&output));
}

#[test]
fn a_machine_s_own_files_and_all_of_a_kind_in_use_go_in_and_are_recorded_until_the_entry_goes() {
    let machine = Machine::running();
    machine.write("etc/hostname", "myhost\n");
    machine.write("etc/crypttab", "data UUID=1 /etc/data.key x-initrd.attach,token-timeout=10s\n");
    machine.write("etc/data.key", "secret");
    machine.write("etc/lvm/lvm.conf", "# nothing here lies on LVM\n");
    let plain = machine.add();
    assert!(plain.status.success(), "{}", stderr(&plain));
    let listed = machine.listed();
    let module = |listed: &str, name: &str| listed.contains(&format!("/{name}.ko"));
    assert!(!listed.contains("etc/hostname") && !module(&listed, "raid1"), "nothing asks for it: {listed}");
    assert!(
        module(&listed, "ahci") && module(&listed, "btrfs"),
        "the disk may move, the root be another file system: {listed}"
    );

    machine.put_root_on_array("md0");
    machine.write("etc/modprobe.d/raid.conf", "options raid1 debug=1\n");
    machine.write("etc/modules-load.d/raid.conf", "raid10\n");
    let earlier = fs::read_to_string(machine.record()).unwrap();
    machine.program("plugins/85-failing.install", "#!/bin/sh\nexit 1\n");
    let plugins = ["50-ocinitrd", "85-failing"].map(|name| machine.path(&format!("plugins/{name}.install")));
    let plugins = plugins.map(|path| path.to_str().unwrap().to_owned());
    let mut command =
        machine.kernel_install_with(&plugins, &["add", &machine.kernel, machine.image().to_str().unwrap()]);
    assert!(!command.output().unwrap().status.success(), "no entry is made");
    assert_eq!(fs::read_to_string(machine.record()).unwrap(), earlier, "the initrd is the one before");
    let mut command =
        machine.kernel_install_command(&["-v", "add", &machine.kernel, machine.image().to_str().unwrap()]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    for line in ["/etc/hostname: read by systemd", "/etc/data.key: a key", "for the levels of md: "] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let listed = machine.listed();
    for name in ["raid1", "raid10", "raid456"] {
        assert!(module(&listed, name), "{name}: {listed}");
    }
    assert!(listed.contains("etc/hostname\n"), "{listed}");
    let told = succeed(ocinitrd().arg("check").arg(machine.initrd()).arg("--host").arg(machine.path("")));
    assert!(told.contains("the file /etc/hostname (for /dev/md0 below /): ok"), "{told}");

    let text = fs::read_to_string(machine.record()).unwrap();
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let of = |path: &str| record["files"].as_array().unwrap().iter().find(|file| file["path"] == path).unwrap().clone();
    assert!(of("/etc/hostname")["sha256"].is_string() && of("/etc/hostname")["secret"].is_null(), "{text}");
    assert!(of("/etc/data.key")["sha256"].is_null() && of("/etc/data.key")["secret"] == true, "{text}");
    for path in ["/etc/modprobe.d/raid.conf", "/etc/modules-load.d/raid.conf"] {
        assert!(of(path)["sha256"].is_string() && of(path)["reason"].as_str().unwrap().contains("raid1"), "{text}");
    }
    assert!(text.contains("for the levels of md: "), "{text}");
    assert!(record["modules"].as_array().unwrap().iter().any(|name| name == "raid456"), "{text}");
    assert_eq!(fs::metadata(machine.record()).unwrap().permissions().mode() & 0o777, 0o600);
    // Whoever is named by then.
    machine.write("etc/kernel/install.conf", "layout=bls\ninitrd_generator=dracut\n");
    let output = machine.kernel_install(&["remove", &machine.kernel]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!machine.record().exists());
}
