//! `ocinitrd kernel-install setup`: a machine in a directory, and one with the real kernel-install and dracut of Debian 13, that move
//! over from dracut and back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::boot_menu::{self, FALLBACK};
use crate::container_host::{Configuration, Host};
use crate::distribution::{Distribution, grub_container};
use crate::fixture::{checkout, fail, is_root, ocinitrd, stderr, stdout, succeed};
use crate::host_machine::{Machine, TOKEN, base, unpacked_kernel};

/// All that lies in a directory: modes, times and contents.
type Tree = BTreeMap<PathBuf, (u32, i64, Vec<u8>)>;

fn tree(directory: &Path) -> Tree {
    let mut found = Tree::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let facts = fs::symlink_metadata(entry.path()).unwrap();
            let (time, content) = if facts.is_dir() {
                waiting.push(entry.path());
                (0, Vec::new())
            } else if facts.is_symlink() {
                (0, fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes())
            } else {
                (facts.mtime_nsec(), fs::read(entry.path()).unwrap())
            };
            found.insert(entry.path(), (facts.mode(), time, content));
        }
    }
    found
}

/// Insists that two trees are the same, else names what is not.
fn assert_same(found: &Tree, expected: &Tree) {
    let all = found.keys().chain(expected.keys());
    let differing: Vec<&PathBuf> = all.filter(|path| found.get(*path) != expected.get(*path)).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

/// What the entry of the trial is called where the kernel's own is `TOKEN-KVER.conf`.
fn name_of_trial(kernel: &str) -> String {
    format!("{TOKEN}-0-ocinitrd_trial_{}.conf", kernel.replace(['-', '+', '~'], "_"))
}

/// A machine that runs, whose kernel has an entry, with dracut and an old kernel-install.
struct Old(Machine);

impl Old {
    fn new() -> Self {
        let machine = Machine::running();
        machine.write("etc/kernel/install.conf", "layout=bls\n");
        machine.program("etc/kernel/install.d/50-ocinitrd.install", "#!/bin/sh\n");
        machine.write("etc/machine-id", &format!("{TOKEN}\n"));
        machine.write("etc/dracut.conf.d/mine.conf", "add_drivers+=\" zram \"\ninstall_items+=\" /etc/mine \"\n");
        machine.write("etc/mine", "mine");
        machine.write("boot/EFI/systemd/systemd-bootx64.efi", "");
        machine.write("var/lib/misc", "");
        machine.program("usr/bin/kernel-install", "#!/bin/sh\n");
        machine.program("usr/bin/dracut", "#!/bin/sh\n");
        Old(machine)
    }

    fn setup(&self, words: &[&str]) -> Command {
        let mut command = ocinitrd();
        command.args(["kernel-install", "setup", "--root"]).arg(self.0.path("")).args(words);
        if !words.contains(&"--undo") && !words.contains(&"-k") {
            command.args(["-k", &self.0.kernel]);
        }
        command
    }

    /// What setup writes to.
    fn written(&self) -> Tree {
        let parts = ["etc", "var", "boot"].map(|name| tree(&self.0.path(name)));
        parts.into_iter().flatten().collect()
    }

    fn entry_of_trial(&self) -> PathBuf {
        self.0.path("boot/loader/entries").join(name_of_trial(&self.0.kernel))
    }
}

#[test]
fn a_machine_moves_over_and_back_to_the_bit() {
    let machine = Old::new();
    let before = machine.written();
    let dry = succeed(machine.setup(&["--dry-run"]).env("TMPDIR", machine.0.path("tmp")));
    assert_same(&machine.written(), &before);
    assert!(fs::read_dir(machine.0.path("tmp")).unwrap().next().is_none(), "the trial's directory is gone");
    for part in [
        "layout: bls (/etc/kernel/install.conf:1), entries in /boot",
        "/etc/dracut.conf.d/mine.conf:1  add_drivers+=\"zram\"\n    carried over: modules = [\"zram\"]",
        "/etc/dracut.conf.d/mine.conf:2  install_items: /etc/mine\n    carried over: files = [\"/etc/mine\"]",
        "/etc/kernel/install.conf, which names the generator, behind what it has",
        "    | initrd_generator=ocinitrd\n",
        &format!("bootctl set-oneshot {} &&", name_of_trial(&machine.0.kernel)),
    ] {
        assert!(dry.contains(part), "{part}: {dry}");
    }
    let told = succeed(&mut machine.setup(&[]));
    assert_eq!(told, dry, "it prints the same");

    // The trial is an initrd of ours, with an entry beside the one that is there.
    let entry = fs::read_to_string(machine.entry_of_trial()).unwrap();
    let own = fs::read_to_string(machine.0.entry()).unwrap();
    let line = |text: &str, key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert_eq!((line(&entry, "linux"), line(&entry, "options")), (line(&own, "linux"), line(&own, "options")));
    let initrd = machine.0.path(&format!("boot/ocinitrd-trial-{}.img", machine.0.kernel));
    // The boot partition is a directory and no partition: in front is where the machine was when its entry was made.
    let linux = line(&own, "linux");
    let prefix = linux.trim_start_matches("linux").trim_start().split(&format!("/{TOKEN}/")).next().unwrap();
    let expected = format!("initrd {prefix}/ocinitrd-trial-{}.img\n", machine.0.kernel);
    assert!(entry.ends_with(&expected), "{entry}");
    assert_eq!(fs::metadata(&initrd).unwrap().permissions().mode() & 0o777, 0o600);
    let listed = succeed(ocinitrd().args(["inspect", "--list"]).arg(&initrd));
    assert!(listed.contains("/zram.ko") && listed.contains("etc/mine\n"), "{listed}");

    // kernel-install makes it the same.
    let output = machine.0.add();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fs::read(machine.0.initrd()).unwrap() == fs::read(&initrd).unwrap());
    let json: Value = serde_json::from_str(&succeed(&mut machine.setup(&["--json"]))).unwrap();
    assert_eq!(json["trial"]["initrd"], format!("/boot/ocinitrd-trial-{}.img", machine.0.kernel));
    assert_eq!((&json["problem"], &json["survey"]["systemd"]), (&Value::Null, &Value::Null));
    assert!(
        json["findings"][0]["outcome"] == "carried-over" && json["files"][0]["path"] == "/etc/ocinitrd/50-setup.toml",
        "{json}"
    );

    let undone = succeed(&mut machine.setup(&["--undo"]));
    assert!(undone.contains("put back: /etc/kernel/install.conf\n"), "{undone}");
    // kernel-install has made the machine's own entry anew, of the same kernel, and recorded what went in.
    let record = machine.0.record();
    let of_entry = |path: &Path| path.starts_with(machine.0.path("boot")) || record.starts_with(path) || path == record;
    let rest = |tree: &Tree| -> Tree {
        tree.iter().filter(|(path, _)| !of_entry(path)).map(|(path, value)| (path.clone(), value.clone())).collect()
    };
    assert_same(&rest(&machine.written()), &rest(&before));
    let in_boot = |tree: &Tree| -> Vec<PathBuf> {
        tree.keys().filter(|path| path.starts_with(machine.0.path("boot"))).cloned().collect()
    };
    assert_eq!(in_boot(&machine.written()), in_boot(&before));
    assert!(fail(&mut machine.setup(&["--undo"])).contains("there is nothing to undo"));
}

/// Where every later `kernel-install add` would fail, nothing is written.
#[test]
fn where_nobody_would_make_an_entry_the_generator_stays() {
    for (layout, says) in [("other", "nothing makes a boot entry"), ("uki", "90-uki-copy.install")] {
        let machine = Old::new();
        machine.0.write("etc/kernel/install.conf", &format!("layout={layout}\n"));
        let before = machine.written();
        let error = fail(&mut machine.setup(&[]));
        assert!(error.contains("nothing was changed") && error.contains(says), "{error}");
        assert_same(&machine.written(), &before);
    }
}

/// A machine that boots as Fedora does: GRUB reads the entries, and `/boot` is a partition of its own.
fn fedora_layout() -> Old {
    let machine = Old::new();
    let kernel = &machine.0.kernel;
    fs::remove_dir_all(machine.0.path("boot/EFI")).unwrap();
    machine.0.write("boot/grub2/grub.cfg", "blscfg\n");
    machine.0.write("etc/default/grub", "GRUB_ENABLE_BLSCFG=true\n");
    machine.0.write("boot/loader/entries.srel", "other\n");
    machine.0.write("etc/kernel/install.conf", "# nothing is said\n");
    machine.0.write(&format!("boot/vmlinuz-{kernel}"), "kernel");
    machine.0.write(&format!("boot/initramfs-{kernel}.img"), "of dracut");
    fs::remove_file(machine.0.entry()).unwrap();
    machine.0.write(
        &format!("boot/loader/entries/{TOKEN}-{kernel}.conf"),
        &format!(
            "title Fedora Linux ({kernel}) 44\nversion {kernel}\nlinux /vmlinuz-{kernel}\n\
             initrd /initramfs-{kernel}.img $tuned_initrd\noptions root=UUID=1 ro $tuned_params\ngrub_class fedora\n"
        ),
    );
    machine
}

/// What GRUB's image holds of its modules.
const GRUB_MODULES: [&str; 12] = [
    "part_msdos",
    "fat",
    "search",
    "search_fs_file",
    "configfile",
    "normal",
    "linux",
    "blsuki",
    "serial",
    "terminal",
    "test",
    "echo",
];

#[test]
fn grub_s_menu_shows_the_trial_below_the_kernel_s_own_entry() {
    let machine = fedora_layout();
    let kernel = &machine.0.kernel;
    succeed(&mut machine.setup(&[]));
    let menu = boot_menu::copy(&machine.0.path("boot"));
    let menu = menu.path();
    // GRUB itself says whether it finds the files of the entry.
    let entry = fs::read_to_string(menu.join("loader/entries").join(name_of_trial(kernel))).unwrap();
    let file = |key: &str| entry.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    let (linux, initrd) = (file("linux "), file("initrd "));
    for (name, text) in [
        ("early.cfg", "search --no-floppy --file --set=root /grub2/grub.cfg\nset prefix=($root)/grub2\n".to_owned()),
        (
            "grub2/grub.cfg",
            format!(
                "serial --unit=0\nterminal_output serial\nset timeout=-1\n\
                 if [ -f {linux} -a -f {initrd} ]; then echo both files are there; fi\nblscfg\n"
            ),
        ),
    ] {
        fs::write(menu.join(name), text).unwrap();
    }
    let image = format!("/out/{FALLBACK}");
    let mut words = vec!["grub-mkimage", "-O", "x86_64-efi", "-p", "/grub2", "-c", "/out/early.cfg", "-o", &image];
    words.extend(GRUB_MODULES);
    succeed(&mut grub_container(&[(menu, "/out")]).run(&words));

    let own = format!("Fedora Linux ({kernel}) 44");
    let trial = format!("Fedora Linux ({kernel}) 44 (trial of ocinitrd)");
    let shown = boot_menu::shown(menu, &["both files are there", "GNU GRUB", &own, &trial]);
    // The star is at the one that is started where nobody chooses.
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains("Fedora Linux")).map(str::trim).collect();
    assert_eq!(lines[..2], [format!("*{own}"), trial], "{shown}");
}

#[test]
fn on_fedora_s_layout_the_trial_stands_beside_dracut_s_initrd_and_the_layout_stays() {
    let machine = fedora_layout();
    let kernel = &machine.0.kernel;
    let before = machine.written();
    let told = succeed(&mut machine.setup(&[]));
    assert!(
        told.contains("layout: other (/boot/loader/entries.srel)") && told.contains("GRUB with boot loader entries"),
        "{told}"
    );
    let conf = fs::read_to_string(machine.0.path("etc/kernel/install.conf")).unwrap();
    assert!(conf.starts_with("# nothing is said\n") && conf.ends_with("\ninitrd_generator=ocinitrd\n"), "{conf}");
    assert!(!conf.contains("layout"), "{conf}");
    assert_eq!(fs::read(machine.0.path(&format!("boot/initramfs-{kernel}.img"))).unwrap(), b"of dracut");
    let entry = fs::read_to_string(machine.entry_of_trial()).unwrap();
    let expected = format!(
        "linux /vmlinuz-{kernel}\noptions root=UUID=1 ro $tuned_params\ngrub_class fedora\ninitrd /ocinitrd-trial-{kernel}.img\n"
    );
    assert!(entry.ends_with(&expected), "{entry}");
    succeed(&mut machine.setup(&["--undo"]));
    assert_same(&machine.written(), &before);
}

/// GRUB's menu, as update-grub writes it where nothing but this kernel is there.
const GRUB_MENU: &str = "\
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
\tsearch --no-floppy --fs-uuid --set=root 1
\tlinux\t/vmlinuz-KVER root=UUID=1 ro quiet
\tinitrd\t/initrd.img-KVER
}
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
fi
";

#[test]
fn debian_with_grub_moves_over_without_kernel_install_and_back_to_the_bit() {
    let machine = Old::new();
    let kernel = &machine.0.kernel;
    for path in ["boot", "etc/dracut.conf.d"] {
        fs::remove_dir_all(machine.0.path(path)).unwrap();
    }
    for path in [
        "usr/bin/dracut",
        "usr/bin/kernel-install",
        "etc/kernel/install.d/50-ocinitrd.install",
        "etc/kernel/install.conf",
    ] {
        fs::remove_file(machine.0.path(path)).unwrap();
    }
    machine.0.write("var/lib/dpkg/status", "");
    machine.0.program("usr/sbin/update-initramfs", "#!/bin/sh\n");
    machine.0.program("usr/sbin/mkinitramfs", "#!/bin/sh\n");
    machine.0.write("etc/initramfs-tools/modules", "zram\n");
    machine.0.write("boot/grub/grub.cfg", &GRUB_MENU.replace("KVER", kernel));
    machine.0.write("boot/grub/custom.cfg", "# mine\n");
    machine.0.write(&format!("boot/vmlinuz-{kernel}"), "kernel");
    machine.0.write(&format!("boot/initrd.img-{kernel}"), "of initramfs-tools");
    assert!(
        fail(&mut machine.setup(&[]))
            .contains("the hooks of kernel packages are not installed, /etc/kernel/postinst.d/ocinitrd")
    );
    for hook in ["kernel/postinst.d", "kernel/postrm.d", "initramfs/post-update.d"] {
        let shipped = checkout().join(format!("packaging/debian/etc/{hook}/ocinitrd"));
        machine.0.program(&format!("etc/{hook}/ocinitrd"), &fs::read_to_string(shipped).unwrap());
    }
    let before = machine.written();
    let dry = succeed(&mut machine.setup(&["--dry-run"]));
    assert_same(&machine.written(), &before);
    let told = succeed(&mut machine.setup(&[]));
    assert_eq!(told, dry, "it prints the same");
    for part in [
        "boot loader: GRUB\n",
        "no kernel-install: hooks of kernel packages make /boot/initrd.img-KVER",
        "/etc/initramfs-tools/modules:1  zram\n    carried over: modules = [\"zram\"]",
        "/etc/kernel/install.conf, which has the hooks of kernel packages make initrds of ocinitrd's",
        "/boot/grub/custom.cfg, which shows the trial in GRUB's menu",
        &format!("`grub-reboot ocinitrd-trial-{kernel} && systemctl reboot` starts it once"),
        "`/etc/kernel/postinst.d/ocinitrd KVER` makes ours",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let menu = fs::read_to_string(machine.0.path("boot/grub/custom.cfg")).unwrap();
    let expected =
        format!("\tlinux\t/vmlinuz-{kernel} root=UUID=1 ro quiet\n\tinitrd\t/ocinitrd-trial-{kernel}.img\n}}\n");
    assert!(menu.starts_with("# mine\n") && menu.contains(&expected), "{menu}");
    // Run again, it says and leaves the same.
    let written = machine.written();
    assert_eq!(succeed(&mut machine.setup(&[])), told);
    assert_eq!(written.keys().collect::<Vec<_>>(), machine.written().keys().collect::<Vec<_>>());
    assert_eq!(fs::read_to_string(machine.0.path("boot/grub/custom.cfg")).unwrap(), menu);

    // From now on its hook makes the same as the trial.
    let mut hook = ocinitrd();
    hook.args(["kernel-install", "hook", "postinst", kernel, "--root"]).arg(machine.0.path(""));
    succeed(&mut hook);
    let initrd = machine.0.path(&format!("boot/initrd.img-{kernel}"));
    assert_eq!(
        fs::read(&initrd).unwrap(),
        fs::read(machine.0.path(&format!("boot/ocinitrd-trial-{kernel}.img"))).unwrap()
    );
    let undone = succeed(&mut machine.setup(&["--undo"]));
    assert!(
        undone.contains("until `update-initramfs -u -k KVER` or `dracut --force /boot/initrd.img-KVER KVER`"),
        "{undone}"
    );
    // initramfs-tools makes its own again, which our other hook is told of: what was recorded of ours goes.
    machine.0.write(&format!("boot/initrd.img-{kernel}"), "of initramfs-tools");
    let mut hook = ocinitrd();
    hook.args(["kernel-install", "hook", "post-update", kernel, &format!("/boot/initrd.img-{kernel}"), "--root"]);
    succeed(hook.arg(machine.0.path("")));
    // Its time is another, and the directory of records and the lock's are there now.
    let rest = |tree: &Tree| -> Tree {
        let is_kept = |path: &Path| path != initrd && !path.starts_with(machine.0.path("var"));
        tree.iter().filter(|(path, _)| is_kept(path)).map(|(path, value)| (path.clone(), value.clone())).collect()
    };
    assert_same(&rest(&machine.written()), &rest(&before));
}

#[test]
fn what_cannot_be_done_changes_nothing_and_says_why() {
    let machine = Old::new();
    let check = |words: &[&str], part: &str| {
        let before = machine.written();
        let told = fail(&mut machine.setup(words));
        assert!(told.contains(part) && told.contains("error: "), "{part}: {told}");
        assert_same(&machine.written(), &before);
    };
    let bases = machine.0.path("usr/lib/ocinitrd/bases");
    fs::rename(&bases, machine.0.path("bases")).unwrap();
    machine.0.write("etc/os-release", "ID=fedora\nVERSION_ID=44\n");
    machine.0.write("usr/share/ocinitrd/images/fedora-44.toml", "");
    check(&[], "there is no base in ");
    check(&["--dry-run"], "build one with `ocinitrd build fedora-44 -t base -O /var/lib/ocinitrd/bases/fedora-44`");
    machine.0.write("etc/ocinitrd/host.toml", "build = \"fedora-44\"\n");
    let before = machine.written();
    let told = succeed(&mut machine.setup(&["--dry-run"]));
    assert!(
        told.contains("no trial: there is no base in ") && told.contains("one of fedora-44 is built first"),
        "{told}"
    );
    assert_same(&machine.written(), &before);
    fs::remove_file(machine.0.path("etc/ocinitrd/host.toml")).unwrap();
    fs::rename(machine.0.path("bases"), &bases).unwrap();

    let conf = machine.0.path("etc/kernel/install.conf");
    fs::rename(&conf, machine.0.path("etc/kernel/other.conf")).unwrap();
    symlink("other.conf", &conf).unwrap();
    check(&[], "is a symlink to other.conf, which setup does not replace");
    fs::remove_file(&conf).unwrap();
    fs::rename(machine.0.path("etc/kernel/other.conf"), &conf).unwrap();

    fs::write(&conf, "layout=ostree\n").unwrap();
    check(&[], "the layout is ostree (/etc/kernel/install.conf:1)");
    fs::write(&conf, "layout=bls\n").unwrap();

    machine.0.write("etc/dracut.conf.d/bad.conf", "hostonly=\0");
    check(&["--dry-run"], "it holds NUL bytes");
    let bad = machine.0.path("etc/dracut.conf.d/bad.conf");
    fs::File::create(&bad).unwrap().set_len(17 << 20).unwrap();
    let told = fail(&mut machine.setup(&[]));
    assert!(told.contains("bad.conf: correct it or move it away") && told.contains("the most that is read"), "{told}");
    fs::remove_file(&bad).unwrap();
    succeed(Command::new("mkfifo").arg(&bad));
    assert!(fail(&mut machine.setup(&[])).contains("it is a FIFO"));
    fs::remove_file(&bad).unwrap();

    // The machine needs what its kernel has not.
    let module = machine.0.module_path("kernel/drivers/block/virtio_blk.ko.xz");
    fs::remove_file(&module).unwrap();
    check(&[], "virtio_blk");
    check(&["-k", "6.0"], "the kernel 6.0 is not installed");
}

#[test]
fn a_machine_without_kernel_install_or_its_plugin_is_told_what_to_install() {
    let machine = Old::new();
    fs::remove_file(machine.0.path("etc/kernel/install.d/50-ocinitrd.install")).unwrap();
    let told = machine.setup(&["--json"]).output().unwrap();
    assert_eq!(told.status.code(), Some(1));
    let json: Value = serde_json::from_str(&stdout(&told)).unwrap();
    assert!(json["problem"].as_str().unwrap().contains("50-ocinitrd.install"), "{json}");
    assert!(stderr(&told).contains("the package ocinitrd-kernel-install"), "{}", stderr(&told));
    fs::remove_file(machine.0.path("usr/bin/kernel-install")).unwrap();
    assert!(fail(&mut machine.setup(&[])).contains("kernel-install(8) is not installed"));
}

#[test]
fn what_was_edited_since_is_left_alone() {
    let machine = Old::new();
    succeed(&mut machine.setup(&[]));
    machine.0.write("etc/ocinitrd/50-setup.toml", "modules = [\"zram\", \"loop\"]\n");
    let edited = machine.written();
    for words in [&["--undo"][..], &[]] {
        let told = fail(&mut machine.setup(words));
        assert!(told.contains("etc/ocinitrd/50-setup.toml was edited since setup wrote it"), "{told}");
        assert_same(&machine.written(), &edited);
    }
    fs::remove_file(machine.0.path("etc/ocinitrd/50-setup.toml")).unwrap();
    succeed(&mut machine.setup(&["--undo"]));
    assert_eq!(fs::read_to_string(machine.0.path("etc/kernel/install.conf")).unwrap(), "layout=bls\n");
}

#[test]
fn no_trial_and_no_entry_are_said() {
    let machine = Old::new();
    let told = succeed(&mut machine.setup(&["--no-trial"]));
    assert!(told.contains("made and checked, not kept") && !machine.entry_of_trial().exists(), "{told}");
    fs::remove_file(machine.0.path("boot/EFI/systemd/systemd-bootx64.efi")).unwrap();
    let told = succeed(&mut machine.setup(&[]));
    assert!(told.contains("no entry: the boot loader reads no entries"), "{told}");
    assert!(machine.0.path(&format!("boot/ocinitrd-trial-{}.img", machine.0.kernel)).exists());
}

#[test]
fn a_read_only_etc_and_a_user_without_rights_are_told() {
    let machine = Old::new();
    let before = machine.written();
    let mut command = Command::new("unshare");
    let script = "mount --bind $ETC $ETC && mount -o remount,bind,ro $ETC && exec \"$@\"";
    command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]).env("ETC", machine.0.path("etc"));
    let setup = machine.setup(&[]);
    let told = fail(command.arg(setup.get_program()).args(setup.get_args()));
    assert!(told.contains("is on a file system that is read-only"), "{told}");
    assert_same(&machine.written(), &before);

    let mut command = Command::new(if is_root() { "setpriv" } else { "env" });
    if is_root() {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    }
    let program = machine.0.path("ocinitrd");
    fs::copy(ocinitrd().get_program(), &program).unwrap();
    fs::set_permissions(machine.0.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let told = fail(command.arg(program).args(["kernel-install", "setup"]));
    assert!(told.contains("run it as root, or with --dry-run"), "{told}");
}

/// A machine with the kernel-install of systemd 257 and dracut 106, which moves over.
fn trixie() -> Host {
    let machine = Host::new(Distribution::Trixie, Configuration::Written);
    machine.add_plugins();
    machine.add_base();
    fs::create_dir_all(machine.path("boot/EFI/systemd")).unwrap();
    fs::write(machine.path("boot/EFI/systemd/systemd-bootx64.efi"), "").unwrap();
    fs::write(machine.path("kernel/cmdline"), "root=LABEL=root rw rd.luks.allow-discards\n").unwrap();
    fs::write(machine.path("dracut.conf.d/generic.conf"), "hostonly=\"no\"\n").unwrap();
    machine
}

/// `kernel-install add`; returns the initrd of the entry.
fn added(machine: &Host) -> Vec<u8> {
    let output = machine.add();
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    fs::read(machine.path("boot").join(TOKEN).join(unpacked_kernel().1).join("initrd")).unwrap()
}

/// Everything but times: kernel-install writes its files anew. What was installed is recorded.
fn state(machine: &Host) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let all = tree(&machine.path("")).into_iter();
    let all = all.filter(|(path, _)| !path.starts_with(machine.path("lib/installed")));
    all.map(|(path, (mode, _, content))| (path, (mode, content))).collect()
}

/// Insists that bootctl(1) lists an entry below the kernel's own, which is the default, and that the files of both are there.
fn assert_listed_below(machine: &Host, own: &str, other: &str) {
    let words = ["bootctl", "--esp-path=/boot", "--boot-path=/boot", "--no-pager", "--json=short", "list"];
    let entries: Vec<Value> = serde_json::from_str(&machine.succeed(&words)).unwrap();
    let names: Vec<&str> = entries.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert_eq!(names, [own, other]);
    let defaults: Vec<bool> = entries.iter().map(|entry| entry["isDefault"].as_bool().unwrap()).collect();
    assert_eq!(defaults, [true, false]);
    for entry in entries {
        assert_eq!(entry["root"], "/boot");
        let files = entry["initrd"].as_array().unwrap().iter().chain([&entry["linux"]]);
        for file in files.map(|file| file.as_str().unwrap().trim_start_matches('/')) {
            assert!(machine.path("boot").join(file).is_file(), "{file}: {entry}");
        }
    }
}

/// Insists that systemd-boot itself shows the trial, below the kernel's own entry.
fn assert_in_menu_of_systemd_boot(machine: &Host) {
    let menu = boot_menu::copy(&machine.path("boot"));
    fs::write(menu.path().join("loader/loader.conf"), "timeout menu-force\n").unwrap();
    let words = ["cp", "/usr/lib/systemd/boot/efi/systemd-bootx64.efi", &format!("/out/{FALLBACK}")];
    succeed(&mut Distribution::Trixie.container(&[(menu.path(), "/out")]).run(&words));
    const OWN: &str = "Debian GNU/Linux 13 (trixie)";
    const TRIAL: &str = "Debian GNU/Linux 13 (trixie) (trial of ocinitrd)";
    let shown = boot_menu::shown(menu.path(), &[OWN, TRIAL, "Reboot Into Firmware Interface"]);
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains(OWN)).map(str::trim).collect();
    assert!(!lines[0].contains(TRIAL) && lines.iter().any(|line| line.contains(TRIAL)), "{shown}");
}

#[test]
fn with_the_real_kernel_install_and_dracut_of_debian_a_machine_moves_over_and_back() {
    let machine = trixie();
    let version = unpacked_kernel().1;
    let of_dracut = added(&machine);
    let before = state(&machine);
    let setup = ["ocinitrd", "kernel-install", "setup", "-k", version];
    let dry = machine.succeed(&[&setup[..], &["--dry-run"]].concat());
    assert!(state(&machine) == before, "a dry run changes nothing");
    for part in [
        "systemd: 257\n",
        "boot loader: systemd-boot\n",
        "generators of initrds: dracut\n",
        "/etc/kernel/cmdline  rd.luks.allow-discards\n    by hand: say rd.luks.options=discard",
        "/etc/kernel/install.conf.d/90-ocinitrd.conf, which has kernel-install ask ocinitrd",
        "    | scope = \"generic\"\n",
    ] {
        assert!(dry.contains(part), "{part}: {dry}");
    }
    assert_eq!(machine.succeed(&setup), dry);
    assert_listed_below(&machine, &format!("{TOKEN}-{version}.conf"), &name_of_trial(version));
    assert_in_menu_of_systemd_boot(&machine);
    assert_eq!(
        fs::read(machine.path("boot").join(TOKEN).join(version).join("initrd")).unwrap(),
        of_dracut,
        "dracut's stays"
    );

    // From now on ours are made, and twice is as once.
    let ours = added(&machine);
    assert!(ours.starts_with(&fs::read(base().join("base.cpio.zst")).unwrap()), "it is not ours");
    assert_eq!(ours, fs::read(machine.path(&format!("boot/ocinitrd-trial-{version}.img"))).unwrap());
    machine.succeed(&setup);

    let undone = machine.succeed(&["ocinitrd", "kernel-install", "setup", "--undo"]);
    assert!(undone.contains("put back: /etc/kernel/install.conf.d/90-ocinitrd.conf"), "{undone}");
    assert!(added(&machine) == of_dracut, "dracut makes it again");
    let after = state(&machine);
    let differing: Vec<&PathBuf> =
        before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path)).collect();
    assert!(differing.is_empty(), "{differing:?}");
}
