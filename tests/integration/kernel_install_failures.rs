//! The plugins of kernel-install(8), called by the real one: what they refuse, and that nothing is lost by it or by a kill.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::fixture::{is_root, names, ocinitrd, stderr, succeed};
use crate::host_machine::{Machine, TOKEN};

/// What is done to a machine, and what is said of it then.
type Case<'a> = (&'a str, &'a dyn Fn(&Machine), &'a [&'a str]);

const BASE: &str = "usr/lib/ocinitrd/bases/offline";

/// Replaces a text of a file.
fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn what_cannot_be_made_is_told_and_the_entry_that_was_there_stays() {
    let manifest = format!("{BASE}/manifest.json");
    let crypttab = "root UUID=1 /etc/root.key x-initrd.attach\n";
    let cases: &[Case<'_>] = &[
        (
            "layout",
            &|machine| machine.write("etc/kernel/install.conf", "layout=other\ninitrd_generator=ocinitrd\n"),
            &["say layout=bls or layout=uki"],
        ),
        (
            "no base",
            &|machine| fs::remove_dir_all(machine.path("usr/lib/ocinitrd")).unwrap(),
            &["there is no base in /usr/lib/ocinitrd/bases", "ocinitrd build IMAGE -t base", "build = \"IMAGE\""],
        ),
        (
            "a root that only initramfs-tools opens",
            &|machine| {
                machine.put_root_on_luks("dm_crypt-0");
                machine.write("etc/crypttab", "dm_crypt-0 UUID=0c1d2d00-1111-4000-8000-000000000001 none luks\n");
            },
            &["would not find the root", "/dev/mapper/dm_crypt-0", "x-initrd.attach", "rd.luks.name=0c1d2d00-1111-"],
        ),
        (
            "no base of that name",
            &|machine| machine.write("etc/ocinitrd/host.toml", "base = \"mine\"\n"),
            &["there is no base \"mine\"; there are: offline", "build = \"IMAGE\""],
        ),
        (
            "base of another architecture",
            &|machine| edit(&machine.path(&manifest), "\"architecture\": \"", "\"architecture\": \"not-"),
            &["is for not-", "and this machine is", "build = \"IMAGE\""],
        ),
        (
            "damaged base",
            &|machine| {
                let segment = machine.path(BASE).join("base.cpio.zst");
                let whole = fs::read(&segment).unwrap();
                fs::write(&segment, &whole[..whole.len() / 2]).unwrap();
            },
            &["base.cpio.zst is not what its manifest says", "build = \"IMAGE\""],
        ),
        (
            "old base",
            &|machine| {
                machine.write("etc/ocinitrd/host.toml", "max_age_days = 30\n");
                succeed(Command::new("touch").args(["-d", "40 days ago"]).arg(machine.path(&manifest)));
            },
            &["is 40 days old, and max_age_days of /etc/ocinitrd is 30", "build = \"IMAGE\""],
        ),
        (
            "no modules",
            &|machine| fs::remove_dir_all(machine.module_path("kernel")).unwrap(),
            &["no modules of kernel"],
        ),
        (
            "half removed",
            &|machine| fs::remove_file(machine.module_path("modules.builtin")).unwrap(),
            &["has no modules.builtin", "half removed or half installed"],
        ),
        (
            "a module that a needed one needs is gone",
            &|machine| fs::remove_file(machine.module_path("kernel/fs/mbcache.ko.xz")).unwrap(),
            &["the module ext4 of kernel", "which the machine needs, cannot be loaded: it needs mbcache"],
        ),
        (
            "no key",
            &|machine| machine.write("etc/crypttab", crypttab),
            &["the volume root of /etc/crypttab, which the initrd opens, needs it", "/etc/root.key"],
        ),
        (
            "key that is a directory",
            &|machine| {
                machine.write("etc/crypttab", crypttab);
                fs::create_dir(machine.path("etc/root.key")).unwrap();
            },
            &["the volume root of /etc/crypttab", "/etc/root.key is no file"],
        ),
        (
            "configuration of modules that is no file",
            &|machine| {
                fs::create_dir_all(machine.path("etc/modprobe.d")).unwrap();
                succeed(Command::new("mkfifo").arg(machine.path("etc/modprobe.d/x.conf")));
            },
            &["reading /etc/modprobe.d/x.conf", "FIFO"],
        ),
        (
            "configuration of modules without an end",
            &|machine| machine.write("etc/depmod.d/x.conf", &"# longer than any text\n".repeat(800_000)),
            &["reading /etc/depmod.d/x.conf", "the most that is read of such a file"],
        ),
        (
            "file of the configuration that is not there",
            &|machine| machine.write("etc/ocinitrd/host.toml", "files = [\"/etc/none\"]\n"),
            &["/etc/none is named in files of /etc/ocinitrd"],
        ),
    ];
    for (name, spoil, says) in cases {
        let machine = Machine::running();
        let before = machine.boot_files();
        assert!(before.contains_key(&machine.initrd()) && before.contains_key(&machine.entry()));
        spoil(&machine);
        let output = machine.add();
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {error}");
        assert!(says.iter().all(|text| error.contains(text)), "{name}: {error}");
        assert!(machine.boot_files() == before, "{name}: the entry is not as it was");
        assert!(names(&machine.path("tmp")).is_empty(), "{name}: {:?}", names(&machine.path("tmp")));
    }
}

#[test]
fn a_key_that_may_not_be_read_is_told_with_its_volume() {
    let machine = Machine::running();
    machine.write("etc/crypttab", "root UUID=1 /etc/root.key x-initrd.attach\n");
    machine.write("etc/root.key", "secret");
    fs::set_permissions(machine.path("etc/root.key"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything: there somebody else has to try.
    let mut words = vec!["env".to_owned(), "KERNEL_INSTALL_INITRD_GENERATOR=ocinitrd".to_owned()];
    words.extend(["KERNEL_INSTALL_LAYOUT=bls".to_owned(), "KERNEL_INSTALL_STAGING_AREA=/tmp".to_owned()]);
    let program = machine.path("ocinitrd");
    fs::copy(ocinitrd().get_program(), &program).unwrap();
    words.push(program.to_str().unwrap().to_owned());
    words.extend(["kernel-install", "initrd", "add", &machine.kernel, "entry", "--root"].map(str::to_owned));
    words.push(machine.path("").to_str().unwrap().to_owned());
    for (path, mode) in [("", 0o755), (&format!("{BASE}/base.cpio.zst"), 0o644)] {
        fs::set_permissions(machine.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new(if is_root() { "runuser" } else { "env" });
    if is_root() {
        command.args(["-u", "nobody", "--"]);
    }
    let output = command.args(words).current_dir("/").output().unwrap();
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let says = ["the volume root of /etc/crypttab", "/etc/root.key: Permission denied"];
    assert!(says.iter().all(|text| error.contains(text)), "{error}");
}

#[test]
fn a_place_for_entries_that_is_full_or_read_only_is_told_and_left_as_it_is() {
    let machine = Machine::running();
    for (megabytes, is_read_only, says) in
        [(40, false, "and the kernel with its initrd takes"), (400, true, "is mounted read-only: mount it writable")]
    {
        // The files that are there take the place of an entry of another kernel.
        let entries = machine.path(&format!("boot/{TOKEN}"));
        if !is_read_only {
            fs::rename(entries.join(&machine.kernel), entries.join("other")).unwrap();
        }
        let output = machine.with_boot_of(megabytes, is_read_only, &machine.add_command());
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
        assert!(names(&machine.path("tmp")).is_empty());
        fs::remove_dir_all(machine.path("kept")).unwrap();
        if !is_read_only {
            fs::rename(entries.join("other"), entries.join(&machine.kernel)).unwrap();
        }
    }
}

#[test]
fn after_a_kill_at_any_moment_other_entries_are_whole_and_the_next_try_succeeds() {
    let machine = Machine::running();
    let whole = fs::read(machine.initrd()).unwrap();
    // What is there becomes the entry of another kernel.
    let entries = machine.path(&format!("boot/{TOKEN}"));
    fs::rename(entries.join(&machine.kernel), entries.join("other")).unwrap();
    edit(&machine.entry(), &machine.kernel, "other");
    fs::rename(machine.entry(), machine.path(&format!("boot/loader/entries/{TOKEN}-other.conf"))).unwrap();
    let before = machine.boot_files();

    let begin = Instant::now();
    assert!(machine.add().status.success());
    let duration = begin.elapsed();
    for part in 0..8_u32 {
        assert!(machine.kernel_install(&["remove", &machine.kernel]).status.success());
        assert!(machine.boot_files() == before);
        let mut command = machine.add_command();
        let mut child = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(duration * part / 7);
        let group = rustix::process::Pid::from_child(&child);
        // The last has ended by itself.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        child.wait().unwrap();
        let after = machine.boot_files();
        assert!(before.iter().all(|(path, content)| after.get(path) == Some(content)), "in part {part}");
    }
    let output = machine.add();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fs::read(machine.initrd()).unwrap() == whole);
    let made = [machine.entry(), machine.initrd(), machine.initrd().with_file_name("linux")];
    let expected = before.keys().cloned().chain(made).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(machine.boot_files().into_keys().collect::<std::collections::BTreeSet<_>>(), expected);
}

#[test]
fn two_at_once_make_what_one_makes() {
    let machine = Machine::running();
    let whole = fs::read(machine.initrd()).unwrap();
    assert!(machine.kernel_install(&["remove", &machine.kernel]).status.success());
    // The other kernel is the same by another name.
    let other = "other".to_owned();
    let modules = machine.path("usr/lib/modules");
    succeed(Command::new("cp").arg("-a").arg(modules.join(&machine.kernel)).arg(modules.join(&other)));
    let image = machine.image();
    let start = |kernel: &str| {
        let mut command = machine.kernel_install_command(&["add", kernel, image.to_str().unwrap()]);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let both = [start(&machine.kernel), start(&other)];
    assert!(both.into_iter().all(|mut child| child.wait().unwrap().success()));
    assert!(fs::read(machine.initrd()).unwrap() == whole);
    let listed = machine.listed();
    let of_other =
        succeed(ocinitrd().args(["inspect", "--list"]).arg(machine.path(&format!("boot/{TOKEN}/other/initrd"))));
    assert_eq!(listed.lines().count(), of_other.lines().count());
    // Of the same kernel one may find the other's files in its way, since kernel-install does not wait; what is there is whole.
    let both = [start(&machine.kernel), start(&machine.kernel)];
    let succeeded = both.into_iter().filter_map(|mut child| child.wait().unwrap().success().then_some(())).count();
    assert!(succeeded > 0 && fs::read(machine.initrd()).unwrap() == whole);
}
