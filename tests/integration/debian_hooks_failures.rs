//! `ocinitrd kernel-install hook`, which hooks of Debian's kernel packages call, where something is in its way: `/boot/initrd.img-KVER` is
//! there whole, or as it was. The machine is a directory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::fixture::{names, ocinitrd, stderr, succeed};
use crate::host_machine::Machine;

/// A machine of Debian's with GRUB, whose initrd another generator has written.
struct Debian(Machine);

impl Debian {
    fn new() -> Self {
        let machine = Machine::running();
        fs::remove_dir_all(machine.path("boot")).unwrap();
        machine.write("var/lib/dpkg/status", "");
        machine.write("etc/kernel/install.conf", "initrd_generator=ocinitrd\n");
        machine.write("boot/grub/grub.cfg", "");
        let debian = Debian(machine);
        fs::copy(debian.0.image(), debian.0.path(&format!("boot/vmlinuz-{}", debian.0.kernel))).unwrap();
        fs::write(debian.initrd(), "of initramfs-tools").unwrap();
        debian
    }

    fn initrd(&self) -> PathBuf {
        self.0.path(&format!("boot/initrd.img-{}", self.0.kernel))
    }

    fn record(&self) -> PathBuf {
        self.0.path(&format!("var/lib/ocinitrd/installed/{}.json", self.0.kernel))
    }

    fn command(&self, event: &str) -> Command {
        let file = if event == "postinst" { "vmlinuz" } else { "initrd.img" };
        let mut command = ocinitrd();
        command.args(["kernel-install", "hook", event, &self.0.kernel, &format!("/boot/{file}-{}", self.0.kernel)]);
        command.arg("--root").arg(self.0.path("")).env("TMPDIR", self.0.path("tmp"));
        command.env("DEB_MAINT_PARAMS", "configure");
        command
    }

    fn call(&self, event: &str) -> Output {
        self.command(event).output().unwrap()
    }

    fn made(&self) -> Vec<u8> {
        let output = self.call("postinst");
        assert!(output.status.success(), "{}", stderr(&output));
        let listed = succeed(ocinitrd().args(["inspect", "--list"]).arg(self.initrd()));
        assert!(listed.contains("/virtio_blk.ko") && listed.contains("usr/lib/systemd/systemd\n"), "{listed}");
        fs::read(self.initrd()).unwrap()
    }
}

#[test]
fn a_machine_that_asks_gets_its_own_initrd_and_one_that_does_not_keeps_what_it_has() {
    let debian = Debian::new();
    let before = debian.0.boot_files();
    for conf in [
        "",
        "initrd_generator=dracut\n",
        "layout=bls\ninitrd_generator=ocinitrd\n",
        "layout=uki\ninitrd_generator=ocinitrd\n",
    ] {
        debian.0.write("etc/kernel/install.conf", conf);
        for event in ["postinst", "post-update"] {
            let output = debian.call(event);
            assert!(output.status.success() && stderr(&output).is_empty(), "{conf:?}: {}", stderr(&output));
        }
        assert!(debian.0.boot_files() == before, "{conf:?}");
    }
    // Whoever calls the hook by hand is told why nothing comes of it.
    let output = debian.command("postinst").env_remove("DEB_MAINT_PARAMS").output().unwrap();
    let says =
        "nothing was done: boot entries are kernel-install's here, whose layout is uki (/etc/kernel/install.conf:1)";
    assert!(output.status.success() && stderr(&output).contains(says), "{}", stderr(&output));
    // systemd-boot's package has a hook of its own, which calls kernel-install.
    debian.0.write("etc/kernel/install.conf", "initrd_generator=ocinitrd\n");
    debian.0.write("usr/share/kernel/postinst.d/zz-systemd-boot", "");
    debian.0.write("boot/efi/EFI/systemd/systemd-bootx64.efi", "");
    assert!(debian.call("postinst").status.success());
    assert_eq!(fs::read(debian.initrd()).unwrap(), b"of initramfs-tools");
    fs::remove_dir_all(debian.0.path("boot/efi")).unwrap();
    let ours = debian.made();
    assert_eq!(fs::metadata(debian.initrd()).unwrap().permissions().mode() & 0o7777, 0o600);
    // What is ours already was reported twice, and is not made again; what was written since is.
    assert!(stderr(&debian.call("post-update")).is_empty());
    fs::write(debian.initrd(), "of initramfs-tools").unwrap();
    assert!(stderr(&debian.call("post-update")).contains("initrd for "));
    assert!(fs::read(debian.initrd()).unwrap() == ours);
    // The record goes where another's has taken its place.
    debian.0.write("etc/kernel/install.conf", "");
    assert!(debian.call("post-update").status.success() && debian.record().exists());
    fs::write(debian.initrd(), "of initramfs-tools").unwrap();
    assert!(debian.call("post-update").status.success() && !debian.record().exists());
}

/// What is done to a machine, and what is said of it then.
type Case<'a> = (&'a str, &'a dyn Fn(&Debian), &'a [&'a str]);

#[test]
fn what_is_in_the_way_is_told_and_what_was_there_stays() {
    let cases: &[Case<'_>] = &[
        (
            "a link",
            &|debian| {
                fs::rename(debian.initrd(), debian.0.path("boot/mine")).unwrap();
                symlink("mine", debian.initrd()).unwrap();
            },
            &["/boot/initrd.img-", " is a link", "remove it"],
        ),
        (
            "a directory",
            &|debian| {
                fs::remove_file(debian.initrd()).unwrap();
                fs::create_dir(debian.initrd()).unwrap();
            },
            &["/boot/initrd.img-", " is there and is not a file: move it away"],
        ),
        (
            "no mount",
            &|debian| debian.0.write("etc/fstab", "/dev/vda2 /boot ext4 defaults 1 2\n"),
            &["/boot is not mounted, and /etc/fstab says that it is to be: mount it"],
        ),
        (
            "no base",
            &|debian| fs::remove_dir_all(debian.0.path("usr/lib/ocinitrd")).unwrap(),
            &["making an initrd for ", "there is no base in /usr/lib/ocinitrd/bases"],
        ),
        (
            "a file that is not there",
            &|debian| debian.0.write("etc/ocinitrd/wrong.toml", "files = [\"/none\"]\n"),
            &["/none"],
        ),
        (
            "a kernel without modules",
            &|debian| fs::rename(debian.0.module_path(""), debian.0.path("usr/lib/modules/6.0")).unwrap(),
            &["is not installed"],
        ),
        (
            "a configuration that is no text",
            &|debian| debian.0.write("etc/kernel/install.conf", "initrd_generator=ocinitrd\n\0"),
            &["install.conf: correct it or move it away: it holds NUL bytes"],
        ),
    ];
    for (name, spoil, says) in cases {
        let debian = Debian::new();
        spoil(&debian);
        let before = debian.0.boot_files();
        for event in ["postinst", "post-update"] {
            let output = debian.call(event);
            let error = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{name}: {error}");
            assert!(says.iter().all(|text| error.contains(text)), "{name}: {error}");
            assert!(debian.0.boot_files() == before, "{name}");
            assert!(names(&debian.0.path("tmp")).is_empty() && !debian.record().exists(), "{name}");
        }
    }
}

#[test]
fn a_boot_that_is_full_or_read_only_is_told_and_left_as_it_is() {
    let debian = Debian::new();
    debian.made();
    let size = |path: PathBuf| fs::metadata(path).unwrap().len();
    // The older one stays until the new one is complete, and the kernel is there already.
    let kernel = size(debian.0.path(&format!("boot/vmlinuz-{}", debian.0.kernel)));
    let megabytes = (2 * size(debian.initrd()) + kernel) >> 20;
    debian.0.write("etc/ocinitrd/more.toml", "modules = [\"loop\"]\n");
    for (megabytes, is_read_only, says) in
        [(megabytes - 1, false, "free, and the initrd takes"), (400, true, "is mounted read-only: mount it writable")]
    {
        let output = debian.0.with_boot_of(megabytes, is_read_only, &debian.command("postinst"));
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
        fs::remove_dir_all(debian.0.path("kept")).unwrap();
    }
    let output = debian.0.with_boot_of(megabytes + 6, false, &debian.command("postinst"));
    assert_eq!(output.status.code(), Some(99), "it is written: {}", stderr(&output));
}

#[test]
fn where_that_is_wanted_a_failure_leaves_another_s_initrd_and_never_ours() {
    let debian = Debian::new();
    let ours = debian.made();
    debian.0.write("etc/ocinitrd/wrong.toml", "files = [\"/none\"]\non_failure = \"dracut\"\n");
    let output = debian.call("postinst");
    assert!(output.status.code() == Some(1) && fs::read(debian.initrd()).unwrap() == ours, "{}", stderr(&output));
    assert!(debian.record().exists());
    fs::write(debian.initrd(), "of initramfs-tools").unwrap();
    let output = debian.call("postinst");
    let says = ["warning", "/none", "that another generator has written stays"];
    assert!(output.status.success() && says.iter().all(|text| stderr(&output).contains(text)), "{}", stderr(&output));
    assert!(fs::read(debian.initrd()).unwrap() == b"of initramfs-tools" && !debian.record().exists());
    fs::remove_file(debian.initrd()).unwrap();
    assert_eq!(debian.call("postinst").status.code(), Some(1), "there is nothing that could stay");
}

#[test]
fn two_at_once_leave_a_whole_initrd_and_its_record() {
    let debian = Debian::new();
    let whole = debian.made();
    fs::write(debian.initrd(), "of initramfs-tools").unwrap();
    let start = |event| debian.command(event).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for mut child in [start("postinst"), start("post-update")] {
        assert!(child.wait().unwrap().success());
    }
    assert!(fs::read(debian.initrd()).unwrap() == whole);
    assert!(fs::read_to_string(debian.record()).unwrap().contains(&crate::fixture::sha256(&debian.initrd())));
    let left: Vec<String> = names(&debian.0.path("boot")).into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}
