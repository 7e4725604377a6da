//! The plugins of kernel-install(8) where GRUB's plugin makes the boot entries: `/boot/initramfs-KVER.img` comes whole or not at all.
//!
//! The machine is a directory, kernel-install the real one. GRUB's plugin and dracut's are stand-ins, in the directory grub.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use crate::fixture::{checkout, names, ocinitrd, sha256, stderr, succeed};
use crate::host_machine::{Machine, TOKEN};

/// All that is in `/boot`, files with what is in them.
type Boot = BTreeMap<PathBuf, Vec<u8>>;

/// A machine with GRUB, which says no more than what docs/host.md tells it to.
pub struct GrubMachine(pub Machine);

impl GrubMachine {
    /// One with an empty /boot.
    pub fn new() -> Self {
        let machine = Machine::running();
        fs::remove_dir_all(machine.path("boot")).unwrap();
        fs::create_dir(machine.path("boot")).unwrap();
        machine.write("etc/kernel/install.conf", "initrd_generator=ocinitrd\n");
        for plugin in ["20-grub.install", "50-dracut.install"] {
            let text = fs::read_to_string(checkout().join("tests/integration/grub").join(plugin)).unwrap();
            machine.program(&format!("plugins/{plugin}"), &text);
        }
        GrubMachine(machine)
    }

    /// One whose kernel is installed.
    fn installed() -> Self {
        let machine = GrubMachine::new();
        machine.added();
        machine
    }

    fn command(&self, plugins: &[&str], arguments: &[&str]) -> Command {
        let path = |name: &&str| self.0.path("plugins").join(name).to_str().unwrap().to_owned();
        self.0.kernel_install_with(&plugins.iter().map(path).collect::<Vec<_>>(), arguments)
    }

    fn add_command(&self, plugins: &[&str]) -> Command {
        self.command(plugins, &["add", &self.0.kernel, self.0.image().to_str().unwrap()])
    }

    fn add(&self) -> Output {
        self.add_command(&PLUGINS).output().unwrap()
    }

    fn added(&self) {
        let output = self.add();
        assert!(output.status.success(), "{}", stderr(&output));
        self.assert_whole();
    }

    fn initrd(&self) -> PathBuf {
        self.0.path(&format!("boot/initramfs-{}.img", self.0.kernel))
    }

    fn kernel(&self) -> PathBuf {
        self.0.path(&format!("boot/vmlinuz-{}", self.0.kernel))
    }

    fn entry(&self) -> PathBuf {
        self.0.path(&format!("boot/loader/entries/{TOKEN}-{}.conf", self.0.kernel))
    }

    fn boot(&self) -> Boot {
        self.0.boot_files()
    }

    /// The initrd is ours, complete and only root's, and an entry has it; nothing else is there.
    fn assert_whole(&self) {
        let initrd = self.initrd();
        assert_eq!(fs::metadata(&initrd).unwrap().permissions().mode() & 0o7777, 0o600);
        let listed = succeed(ocinitrd().args(["inspect", "--list"]).arg(&initrd));
        assert!(listed.contains("/virtio_blk.ko") && listed.contains("usr/lib/systemd/systemd\n"), "{listed}");
        let entry = fs::read_to_string(self.entry()).unwrap();
        assert!(entry.contains(&format!("/initramfs-{}.img\n", self.0.kernel)), "{entry}");
        let found: Vec<PathBuf> = self.boot().into_keys().collect();
        assert_eq!(found, [initrd, self.entry(), self.kernel()]);
        self.assert_recorded();
    }

    /// The record is that of the initrd which is there.
    fn assert_recorded(&self) {
        let text = fs::read_to_string(self.0.record()).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["sha256"], sha256(&self.initrd()), "{text}");
    }
}

/// All of them in the order of their names.
const PLUGINS: [&str; 6] = [
    "10-ocinitrd.install",
    "20-grub.install",
    "50-dracut.install",
    "50-ocinitrd.install",
    "60-ocinitrd.install",
    "99-ocinitrd.install",
];

#[test]
fn an_entry_of_grub_s_gets_our_initrd_and_leaves_nothing_when_its_kernel_goes() {
    let machine = GrubMachine::installed();
    let output = machine.command(&PLUGINS, &["remove", &machine.0.kernel]).output().unwrap();
    assert!(output.status.success() && machine.boot().is_empty(), "{}", stderr(&output));
    // The plugin removes it even if the program is gone, and leaves what is another kernel's.
    machine.added();
    let other = machine.0.path(&format!("boot/initramfs-{}-debug.img", machine.0.kernel));
    fs::write(&other, "another's").unwrap();
    let plugin = machine.0.path("plugins/50-ocinitrd.install");
    let text = fs::read_to_string(&plugin).unwrap();
    fs::write(&plugin, text.replace("exec ", "exec /none")).unwrap();
    let output = machine.command(&PLUGINS, &["remove", &machine.0.kernel]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(machine.boot().into_keys().collect::<Vec<_>>(), [other]);
}

#[test]
fn plugins_may_run_in_any_order() {
    let ours = ["10-ocinitrd.install", "50-ocinitrd.install"];
    let orders: [&[&str]; 5] = [
        &[ours[0], "20-grub.install", ours[1], "50-dracut.install"],
        &[ours[0], ours[1], "20-grub.install"],
        &["20-grub.install", "50-dracut.install", ours[0], ours[1]],
        // Without the one that comes first.
        &["20-grub.install", ours[1]],
        &[ours[1], "50-dracut.install", "20-grub.install"],
    ];
    let machine = GrubMachine::new();
    // GRUB's plugin removes an initrd that is older than the kernel: here the clock went back since that was made.
    let later = SystemTime::now() + Duration::from_secs(3600);
    for (order, time) in orders.iter().flat_map(|order| [(order, SystemTime::now()), (order, later)]) {
        File::options().append(true).open(machine.0.image()).unwrap().set_modified(time).unwrap();
        let plugins = [order, &["99-ocinitrd.install"][..]].concat();
        for what in ["the first time", "again"] {
            let output = machine.add_command(&plugins).output().unwrap();
            assert!(output.status.success(), "{order:?} {what}: {}", stderr(&output));
            machine.assert_whole();
        }
        succeed(&mut machine.command(&plugins, &["remove", &machine.0.kernel]));
        assert!(machine.boot().is_empty(), "{order:?}");
    }
}

#[test]
fn a_dracut_that_asks_nobody_is_replaced_or_reported() {
    let machine = GrubMachine::new();
    let output = machine.add_command(&PLUGINS).env("ASKS_NOBODY", "1").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    machine.assert_whole();
    // Where it has the last word, that is said.
    let order = ["20-grub.install", "50-ocinitrd.install", "50-dracut.install", "99-ocinitrd.install"];
    let output = machine.add_command(&order).env("ASKS_NOBODY", "1").output().unwrap();
    let said = "is not the initrd that was made: a plugin that runs later wrote another";
    assert!(output.status.success() && stderr(&output).contains(said), "{}", stderr(&output));
}

#[test]
fn dracut_makes_what_cannot_be_made_in_its_own_place_or_in_the_staging_area() {
    let machine = GrubMachine::new();
    fs::remove_dir_all(machine.0.path("usr/lib/ocinitrd")).unwrap();
    machine.0.write("etc/ocinitrd/host.toml", "on_failure = \"dracut\"\n");
    let place = "usr/lib/kernel/install.d/50-dracut.install";
    let fedora_s = fs::read_to_string(machine.0.path("plugins/50-dracut.install")).unwrap();
    let upstream_s = "#!/bin/sh\necho \"dracut's for $2\" >\"$KERNEL_INSTALL_STAGING_AREA/initrd\"\n";
    for plugin in [&*fedora_s, upstream_s] {
        machine.0.program(place, plugin);
        let output = machine.add();
        let said = stderr(&output);
        assert!(output.status.success() && said.matches("dracut makes one instead").count() == 1, "{said}");
        assert_eq!(fs::read_to_string(machine.initrd()).unwrap(), format!("dracut's for {}\n", machine.0.kernel));
        fs::remove_file(machine.initrd()).unwrap();
    }
    // One that succeeds and makes nothing is no success, and the older initrd stays.
    machine.0.program(place, "#!/bin/sh\n");
    fs::write(machine.initrd(), "older").unwrap();
    let time = SystemTime::now() - Duration::from_secs(60);
    File::options().append(true).open(machine.initrd()).unwrap().set_modified(time).unwrap();
    let output = machine.add();
    let said = format!("dracut's plugin made no {}", machine.initrd().display());
    assert!(output.status.code() == Some(1) && stderr(&output).contains(&said), "{}", stderr(&output));
    assert_eq!(fs::read(machine.initrd()).unwrap(), b"older");
    fs::remove_file(machine.0.path(place)).unwrap();
    let output = machine.add();
    assert!(output.status.code() == Some(1) && stderr(&output).contains("dracut is not installed"));
}

/// What is done to a machine, and what is said of it then.
type Case<'a> = (&'a str, &'a dyn Fn(&GrubMachine), &'a [&'a str]);

#[test]
fn what_is_in_the_way_is_told_before_anything_is_written() {
    let without_grub = |machine: &GrubMachine| fs::remove_file(machine.entry()).unwrap();
    let cases: &[Case<'_>] = &[
        (
            "a link",
            &|machine| {
                fs::rename(machine.initrd(), machine.0.path("boot/mine")).unwrap();
                symlink("mine", machine.initrd()).unwrap();
            },
            &["/boot/initramfs-", ".img is a link", "remove it"],
        ),
        (
            "a directory",
            &|machine| {
                fs::remove_file(machine.initrd()).unwrap();
                fs::create_dir(machine.initrd()).unwrap();
            },
            &["/boot/initramfs-", ".img is there and is not a file: move it away"],
        ),
        (
            "no mount",
            &|machine| machine.0.write("etc/fstab", "/dev/vda2 /boot ext4 defaults 1 2\n"),
            &["/boot is not mounted, and /etc/fstab says that it is to be: mount it"],
        ),
        (
            "the directory of another boot loader",
            &|machine| {
                without_grub(machine);
                machine.0.write(&format!("boot/{TOKEN}/{}/linux", machine.0.kernel), "");
                machine.0.write("etc/kernel/install.conf", "layout=other\ninitrd_generator=ocinitrd\n");
            },
            &["is there, and so GRUB's plugin makes no entry: remove that directory"],
        ),
        (
            "a layout of somebody's",
            &|machine| machine.0.write("etc/kernel/install.conf", "layout=mine\ninitrd_generator=ocinitrd\n"),
            &["with layout=mine in install.conf nothing puts an initrd into the boot entry", "layout=other for GRUB"],
        ),
        (
            "no base",
            &|machine| fs::remove_dir_all(machine.0.path("usr/lib/ocinitrd")).unwrap(),
            &["there is no base in /usr/lib/ocinitrd/bases"],
        ),
    ];
    for (name, spoil, says) in cases {
        let machine = GrubMachine::installed();
        spoil(&machine);
        let (before, recorded) = (machine.boot(), fs::read(machine.0.record()).unwrap());
        // Another kernel of that name, which GRUB's plugin would put in place of the one that is there.
        fs::write(machine.0.image(), "of the same name").unwrap();
        let output = machine.add();
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {error}");
        assert!(says.iter().all(|text| error.contains(text)), "{name}: {error}");
        assert!(machine.boot() == before && fs::read(machine.0.record()).unwrap() == recorded, "{name}");
        assert!(names(&machine.0.path("tmp")).is_empty(), "{name}");
    }
}

#[test]
fn without_grub_s_plugin_an_entry_by_hand_is_enough_and_nothing_is_not() {
    let machine = GrubMachine::new();
    let plugins: Vec<&str> = PLUGINS.into_iter().filter(|name| *name != "20-grub.install").collect();
    let output = machine.add_command(&plugins).output().unwrap();
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    for says in ["nothing makes a boot entry", "20-grub.install", "/boot/loader/entries", "install GRUB's plugin"] {
        assert!(error.contains(says), "{says}: {error}");
    }
    assert!(machine.boot().is_empty());

    let by_hand = format!("title mine\nlinux /mine\ninitrd /ucode.img /initramfs-{}.img $more\n", machine.0.kernel);
    machine.0.write("boot/loader/entries/mine.conf", &by_hand);
    succeed(&mut machine.add_command(&plugins));
    let entry = machine.0.path("boot/loader/entries/mine.conf");
    assert_eq!(machine.boot().into_keys().collect::<Vec<_>>(), [machine.initrd(), entry.clone()]);
    assert_eq!(fs::read_to_string(entry).unwrap(), by_hand);
}

#[test]
fn an_entry_that_names_another_initrd_is_no_success() {
    let machine = GrubMachine::new();
    let plugin = machine.0.path("plugins/20-grub.install");
    let text = fs::read_to_string(&plugin).unwrap();
    fs::write(
        &plugin,
        text.replace("initramfs-$2.img\"\n        echo \"options", "mine.img\"\n        echo \"options"),
    )
    .unwrap();
    let output = machine.add();
    let says = ["no entry in ", "/boot/loader/entries names initramfs-", "GRUB's plugin made none"];
    assert!(
        output.status.code() == Some(1) && says.iter().all(|text| stderr(&output).contains(text)),
        "{}",
        stderr(&output)
    );
    // An initrd that a later plugin removes is none either.
    fs::write(&plugin, text).unwrap();
    machine.0.program("plugins/70-last.install", "#!/bin/sh\nrm \"$KERNEL_INSTALL_ROOT/boot/initramfs-$2.img\"\n");
    let plugins = [&PLUGINS[..5], &["70-last.install", "99-ocinitrd.install"]].concat();
    let output = machine.add_command(&plugins).output().unwrap();
    assert!(output.status.code() == Some(1) && stderr(&output).contains("a plugin removed "), "{}", stderr(&output));
}

#[test]
fn a_boot_that_is_full_or_read_only_is_told_and_left_as_it_is() {
    let machine = GrubMachine::installed();
    let size = |path: PathBuf| fs::metadata(path).unwrap().len();
    let megabytes = (2 * size(machine.initrd()) + size(machine.kernel())) >> 20;
    // The older one stays until the new one is complete, so there has to be room for both.
    for (megabytes, is_read_only, says) in [
        (megabytes - 2, false, "and the kernel with its initrd takes"),
        (400, true, "is mounted read-only: mount it writable"),
    ] {
        let output = machine.0.with_boot_of(megabytes, is_read_only, &machine.add_command(&PLUGINS));
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
        fs::remove_dir_all(machine.0.path("kept")).unwrap();
    }
    let output = machine.0.with_boot_of(megabytes + 4, false, &machine.add_command(&PLUGINS));
    assert!(output.status.code() == Some(99) || output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_second_kernel_of_the_same_version_replaces_the_first_with_its_initrd() {
    let machine = GrubMachine::installed();
    let before = machine.boot();
    let second = machine.0.path("second");
    fs::copy(machine.0.image(), &second).unwrap();
    File::options().append(true).open(&second).unwrap().set_len(fs::metadata(&second).unwrap().len() + 512).unwrap();
    machine.0.write("etc/ocinitrd/more.toml", "modules = [\"loop\"]\n");
    let add = || machine.command(&PLUGINS, &["add", &machine.0.kernel, second.to_str().unwrap()]).output().unwrap();
    // While it has no initrd, the first one stays as well.
    machine.0.write("etc/ocinitrd/wrong.toml", "files = [\"/none\"]\n");
    assert_eq!(add().status.code(), Some(1));
    assert!(machine.boot() == before);
    fs::remove_file(machine.0.path("etc/ocinitrd/wrong.toml")).unwrap();
    assert!(add().status.success());
    machine.assert_whole();
    let after = machine.boot();
    assert!([machine.initrd(), machine.kernel()].iter().all(|path| after[path] != before[path]));
}

#[test]
fn after_a_kill_at_any_call_that_changes_boot_what_is_there_is_old_or_new_and_whole() {
    let machine = GrubMachine::installed();
    let old = machine.boot();
    machine.0.write("etc/ocinitrd/more.toml", "modules = [\"loop\"]\n");
    let staging = machine.0.path("staging");
    fs::create_dir(&staging).unwrap();
    let product = |product: &str| machine.0.program_of_plugin(product, &staging, Some("other"));
    succeed(&mut product("prepare"));
    let new = fs::read(staging.join("initrd")).unwrap();
    assert!(new != old[&machine.initrd()]);
    for calls in ["rename,renameat,renameat2", "linkat", "fsync", "copy_file_range,write", "utimensat"] {
        let mut n = 1;
        loop {
            fs::write(machine.initrd(), &old[&machine.initrd()]).unwrap();
            let command = product("initrd");
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
            strace.args(["-e", &format!("inject={calls}:signal=KILL:when={n}"), "--"]);
            strace.arg(command.get_program()).args(command.get_args()).env_remove("LD_LIBRARY_PATH");
            strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let status = strace.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            let is_killed = status.signal().is_some() || status.code() == Some(137);
            let found = fs::read(machine.initrd()).unwrap();
            assert!(found == old[&machine.initrd()] || found == new, "{calls} {n}");
            if !is_killed {
                assert!(status.success() && found == new, "{calls} {n}: {status}");
                break;
            }
            n += 1;
        }
        assert!(n > 1, "{calls}: it never comes to that");
    }
    // What a kill left is gone.
    machine.assert_whole();
}

#[test]
fn two_at_once_leave_a_whole_initrd() {
    let machine = GrubMachine::installed();
    let whole = fs::read(machine.initrd()).unwrap();
    let start = || machine.add_command(&PLUGINS).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let both = [start(), start()];
    let ended: Vec<bool> = both.into_iter().map(|mut child| child.wait().unwrap().success()).collect();
    assert!(ended.contains(&true));
    assert!(fs::read(machine.initrd()).unwrap() == whole);
    let left: Vec<String> = names(&machine.0.path("boot")).into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_directory_that_has_the_initrd_s_name_stays_when_the_kernel_goes() {
    let machine = GrubMachine::installed();
    fs::remove_file(machine.initrd()).unwrap();
    fs::create_dir(machine.initrd()).unwrap();
    let output = machine.command(&PLUGINS, &["remove", &machine.0.kernel]).output().unwrap();
    assert!(output.status.success() && stderr(&output).contains("is a directory and stays"), "{}", stderr(&output));
    assert!(machine.initrd().is_dir() && !machine.entry().exists());
}

/// Whoever removes unified kernel images alone, or has another layout, keeps it.
#[test]
fn an_initrd_of_grub_s_stays_where_it_is_not_its_entry_that_goes() {
    let machine = GrubMachine::installed();
    let remove = |name: &str, value: &str| {
        let mut command = Command::new(machine.0.path("plugins/50-ocinitrd.install"));
        command.env("KERNEL_INSTALL_INITRD_GENERATOR", "ocinitrd").env("KERNEL_INSTALL_ROOT", machine.0.path(""));
        command.env("KERNEL_INSTALL_LAYOUT", "other").env(name, value);
        succeed(command.args(["remove", &machine.0.kernel]).arg(Path::new("/none")));
        machine.initrd().exists()
    };
    assert!(remove("KERNEL_INSTALL_LAYOUT", "bls") && remove("KERNEL_INSTALL_BOOT_ENTRY_TYPE", "type2"));
    assert!(remove("KERNEL_INSTALL_INITRD_GENERATOR", "dracut"));
    assert!(!remove("KERNEL_INSTALL_BOOT_ENTRY_TYPE", "type1"));
}
