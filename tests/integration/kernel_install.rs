//! The plugins of kernel-install(8), called by the real one, with a machine in a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use crate::fixture::{
    checkout, fail, ocinitrd, offline_directory, offline_output, stderr, stdout, succeed, variant_definition,
};

/// What the entries are called.
const TOKEN: &str = "0c1d2d00000040008000000000000001";
/// Those of systemd 252 that make entries.
const LOADER_ENTRY: &str = "/usr/lib/kernel/install.d/90-loaderentry.install";

/// The base of the offline image, built once a run of the tests.
fn base() -> PathBuf {
    static OUTPUT: OnceLock<PathBuf> = OnceLock::new();
    OUTPUT
        .get_or_init(|| {
            let definition = variant_definition("base", "");
            let output = definition.with_file_name("out");
            succeed(ocinitrd().arg("build").arg(&definition).args(["-t", "base", "-O"]).arg(&output));
            output
        })
        .clone()
}

/// A machine with a kernel of the offline repository, a base, and a place for boot entries.
struct Machine {
    root: tempfile::TempDir,
    kernel: String,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        // The kernel that the offline image is built for, unpacked as rpm would.
        let manifest = fs::read(offline_output().join("manifest.json")).unwrap();
        let locked = serde_json::from_slice::<Value>(&manifest).unwrap()["kernels"][0].take();
        for package in locked["packages"].as_array().unwrap() {
            let part = |name: &str| package[name].as_str().unwrap();
            let file = format!("{}-{}-{}.{}.rpm", part("name"), part("version"), part("release"), part("arch"));
            let file = offline_directory().join("repo/Packages").join(file);
            succeed(Command::new("bsdtar").arg("-xf").arg(file).arg("-C").arg(root.path()));
        }
        let kernel = locked["version"].as_str().unwrap().to_owned();
        let machine = Machine { root, kernel };
        machine.write("etc/ocinitrd/host.toml", "scope = \"generic\"\n");
        machine.write("etc/kernel/cmdline", "root=LABEL=root\nrw\n");
        machine.write("etc/kernel/install.conf", "layout=bls\ninitrd_generator=ocinitrd\n");
        machine.write("etc/os-release", "ID=test\nPRETTY_NAME=Test\n");
        fs::create_dir_all(machine.path("boot").join(TOKEN)).unwrap();
        let bases = machine.path("usr/lib/ocinitrd/bases");
        fs::create_dir_all(&bases).unwrap();
        succeed(Command::new("cp").arg("-r").arg(base()).arg(bases.join("offline")));
        machine.plugin("50-ocinitrd.install");
        machine.plugin("60-ocinitrd.install");
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, path: &str, text: &str) {
        self.write(path, text);
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The shipped plugin, which is told where the machine is.
    fn plugin(&self, name: &str) {
        let text = fs::read_to_string(checkout().join("packaging/kernel-install").join(name)).unwrap();
        let program = format!("{} ", ocinitrd().get_program().to_str().unwrap());
        let told = text.replace("exec ocinitrd ", &format!("exec {program}"));
        assert_ne!(told, text);
        let told = told.replace("\"$@\"", &format!("\"$@\" --root {}", self.root.path().display()));
        self.program(&format!("plugins/{name}"), &told);
    }

    fn kernel_install(&self, arguments: &[&str]) -> Output {
        let plugins = ["plugins/50-ocinitrd.install", "plugins/60-ocinitrd.install"].map(|name| self.path(name));
        let plugins = plugins.iter().map(|path| path.to_str().unwrap()).chain([LOADER_ENTRY]);
        let mut command = Command::new("kernel-install");
        command.env("KERNEL_INSTALL_PLUGINS", plugins.collect::<Vec<_>>().join(" "));
        command.env("KERNEL_INSTALL_CONF_ROOT", self.path("etc/kernel")).env("BOOT_ROOT", self.path("boot"));
        command.env("MACHINE_ID", TOKEN).args(arguments).output().unwrap()
    }

    fn add(&self) -> Output {
        let image = self.path(&format!("usr/lib/modules/{}/vmlinuz", self.kernel));
        self.kernel_install(&["add", &self.kernel, image.to_str().unwrap()])
    }

    fn entry(&self) -> PathBuf {
        self.path(&format!("boot/loader/entries/{TOKEN}-{}.conf", self.kernel))
    }

    fn initrd(&self) -> PathBuf {
        self.path(&format!("boot/{TOKEN}/{}/initrd", self.kernel))
    }

    /// A plugin, called as a newer kernel-install calls it for a unified kernel image.
    fn plugin_for_uki(&self, name: &str, staging_area: &Path) -> Command {
        let mut command = Command::new(self.path(&format!("plugins/{name}")));
        command.env("KERNEL_INSTALL_LAYOUT", "uki").env("KERNEL_INSTALL_INITRD_GENERATOR", "ocinitrd");
        command.env("KERNEL_INSTALL_UKI_GENERATOR", "ocinitrd").env("KERNEL_INSTALL_IMAGE_TYPE", "pe");
        command.env("KERNEL_INSTALL_STAGING_AREA", staging_area).env("KERNEL_INSTALL_BOOT_ROOT", self.path("boot"));
        command.args(["add", &self.kernel]).arg(self.path("boot/entry"));
        command.arg(self.path(&format!("usr/lib/modules/{}/vmlinuz", self.kernel)));
        command
    }
}

#[test]
fn a_kernel_that_is_installed_gets_our_initrd_and_leaves_nothing_when_it_goes() {
    let machine = Machine::new();
    let output = machine.add();
    assert!(output.status.success(), "{}", stderr(&output));
    let entry = fs::read_to_string(machine.entry()).unwrap();
    assert!(entry.contains(&format!("/{}/initrd", machine.kernel)) && entry.contains("root=LABEL=root"), "{entry}");
    let listed = succeed(ocinitrd().args(["inspect", "--list"]).arg(machine.initrd()));
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
fn what_cannot_be_made_is_told_and_the_entry_that_was_there_stays() {
    let machine = Machine::new();
    assert!(machine.add().status.success());
    let before = (fs::read(machine.initrd()).unwrap(), fs::read(machine.entry()).unwrap());
    let unchanged = || assert!((fs::read(machine.initrd()).unwrap(), fs::read(machine.entry()).unwrap()) == before);
    let refused = |expected: &str| {
        let output = machine.add();
        assert!(!output.status.success() && stderr(&output).contains(expected), "{expected}: {}", stderr(&output));
        unchanged();
    };
    machine.write("etc/kernel/install.conf", "layout=other\ninitrd_generator=ocinitrd\n");
    refused("say layout=bls or layout=uki");
    machine.write("etc/kernel/install.conf", "layout=bls\ninitrd_generator=ocinitrd\n");

    machine.write("etc/crypttab", "root UUID=1 /etc/gone.key x-initrd.attach\n");
    refused("the volume root of /etc/crypttab");
    fs::remove_file(machine.path("etc/crypttab")).unwrap();

    let segment = machine.path("usr/lib/ocinitrd/bases/offline/base.cpio.zst");
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, &whole[..whole.len() / 2]).unwrap();
    refused("is not what its manifest says");
    fs::write(&segment, whole).unwrap();

    fs::rename(machine.path("usr/lib/ocinitrd"), machine.path("usr/lib/other")).unwrap();
    refused("there is no base in /usr/lib/ocinitrd/bases");
    // dracut is to make one then: here a program stands for its plugin.
    machine.write("etc/ocinitrd/host.toml", "on_failure = \"dracut\"\n");
    refused("dracut is not installed");
    machine.program(
        "usr/lib/kernel/install.d/50-dracut.install",
        "#!/bin/sh\n[ \"$KERNEL_INSTALL_INITRD_GENERATOR\" = dracut ] && echo \"dracut's for $2\" >\"$KERNEL_INSTALL_STAGING_AREA/initrd\"\n",
    );
    let output = machine.add();
    assert!(output.status.success() && stderr(&output).contains("dracut makes one instead"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(machine.initrd()).unwrap(), format!("dracut's for {}\n", machine.kernel));
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

#[test]
fn a_unified_kernel_image_has_the_machine_s_options_and_the_initrd_that_was_made() {
    let machine = Machine::new();
    let staging = machine.path("staging");
    fs::create_dir(&staging).unwrap();
    succeed(&mut machine.plugin_for_uki("50-ocinitrd.install", &staging));
    succeed(&mut machine.plugin_for_uki("60-ocinitrd.install", &staging));
    let image: Value =
        serde_json::from_str(&succeed(ocinitrd().args(["uki", "inspect", "--json"]).arg(staging.join("uki.efi"))))
            .unwrap();
    let section = |name: &str| {
        image["sections"].as_array().unwrap().iter().find(|section| section["name"] == name).unwrap().clone()
    };
    assert_eq!(section(".cmdline")["text"], "root=LABEL=root rw");
    assert!(section(".osrel")["text"].as_str().unwrap().contains("PRETTY_NAME=Test"));
    assert_eq!(section(".uname")["text"], machine.kernel.as_str());
    let digest = stdout(&Command::new("sha256sum").arg(staging.join("initrd")).output().unwrap());
    assert_eq!(section(".initrd")["sha256"], format!("sha256:{}", digest.split(' ').next().unwrap()));

    // Without an initrd it would not boot.
    fs::remove_file(staging.join("initrd")).unwrap();
    let error = fail(&mut machine.plugin_for_uki("60-ocinitrd.install", &staging));
    assert!(error.contains("there is no initrd for it"), "{error}");
    fs::write(staging.join("initrd"), "somebody's").unwrap();

    // Without a file that says them, the options are the running kernel's, and that is said.
    fs::remove_file(machine.path("etc/kernel/cmdline")).unwrap();
    machine.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda ro\n");
    let output = machine.plugin_for_uki("60-ocinitrd.install", &staging).output().unwrap();
    assert!(stderr(&output).contains("the options of the running kernel, root=/dev/vda ro"), "{}", stderr(&output));
    machine.write("proc/cmdline", "\n");
    let error = fail(&mut machine.plugin_for_uki("60-ocinitrd.install", &staging));
    assert!(error.contains("etc/kernel/cmdline"), "{error}");
}
