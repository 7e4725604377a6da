//! A machine in a directory, with a kernel, a base and a place for boot entries: what the plugins of kernel-install(8) work on.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use crate::fixture::{checkout, ocinitrd, offline_directory, offline_output, stderr, succeed, variant_definition};

/// What the entries are called.
pub const TOKEN: &str = "0c1d2d00000040008000000000000001";
/// That of systemd 252 that makes entries.
const LOADER_ENTRY: &str = "/usr/lib/kernel/install.d/90-loaderentry.install";
/// Ours, in the order in which they run.
pub const PLUGINS: [&str; 4] =
    ["10-ocinitrd.install", "50-ocinitrd.install", "60-ocinitrd.install", "99-ocinitrd.install"];
/// That of systemd 253 and newer that puts unified kernel images into their places, which is not run here.
const UKI_COPY: &str = "/usr/lib/kernel/install.d/90-uki-copy.install";
/// The options that say the machine's root.
const COMMAND_LINE: &str = "root=LABEL=root\nrw\n";

/// The definition of the base, with its lock beside it.
pub fn base_definition() -> PathBuf {
    base().with_file_name("base.toml")
}

/// The base of the offline image, built once a run of the tests.
pub fn base() -> PathBuf {
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

/// The kernel that the offline image is built for: what `uname -r` says of it, and the rpms of its packages by their names.
pub fn locked_kernel() -> (String, BTreeMap<String, String>) {
    let manifest = fs::read(offline_output().join("manifest.json")).unwrap();
    let locked = serde_json::from_slice::<Value>(&manifest).unwrap()["kernels"][0].take();
    let rpms = locked["packages"].as_array().unwrap().iter().map(|package| {
        let part = |name: &str| package[name].as_str().unwrap();
        let rpm = format!("{}-{}-{}.{}.rpm", part("name"), part("version"), part("release"), part("arch"));
        (part("name").to_owned(), rpm)
    });
    (locked["version"].as_str().unwrap().to_owned(), rpms.collect())
}

/// Unpacks packages of that kernel as rpm would; returns its version.
fn unpack_kernel(root: &Path, is_wanted: impl Fn(&str) -> bool) -> String {
    let (version, rpms) = locked_kernel();
    for (_, rpm) in rpms.iter().filter(|(name, _)| is_wanted(name)) {
        let rpm = offline_directory().join("repo/Packages").join(rpm);
        succeed(Command::new("bsdtar").arg("-xf").arg(rpm).arg("-C").arg(root));
    }
    version
}

/// That kernel, unpacked once a run of the tests, as rpm and depmod leave it. Returns its root and its version.
pub fn unpacked_kernel() -> (PathBuf, &'static str) {
    static VERSION: OnceLock<String> = OnceLock::new();
    let root = checkout().join("target/test-output/kernel");
    let version = VERSION.get_or_init(|| {
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let version = unpack_kernel(&root, |_| true);
        symlink("usr/lib", root.join("lib")).unwrap();
        succeed(Command::new("depmod").arg("-b").arg(&root).arg(&version));
        version
    });
    (root, version)
}

/// A machine.
pub struct Machine {
    root: tempfile::TempDir,
    /// Its kernel, as `uname -r` prints it.
    pub kernel: String,
}

impl Machine {
    /// One with all modules of the offline repository's kernel, which may be any machine.
    pub fn new() -> Self {
        let machine = Machine::with_packages(|_| true);
        machine.write("etc/ocinitrd/host.toml", "scope = \"generic\"\n");
        machine
    }

    /// One that runs, with few modules loaded, whose kernel has an entry already.
    pub fn running() -> Self {
        static TEMPLATE: OnceLock<Machine> = OnceLock::new();
        let template = TEMPLATE.get_or_init(|| {
            let machine = Machine::with_packages(|name| name != "kernel-modules");
            machine.run();
            let output = machine.add();
            assert!(output.status.success(), "{}", stderr(&output));
            machine
        });
        let machine = Machine { root: tempfile::tempdir().unwrap(), kernel: template.kernel.clone() };
        for entry in fs::read_dir(template.path("")).unwrap() {
            // Modules, which are many, are the same files; nobody writes into them.
            let entry = entry.unwrap();
            let options = if entry.file_name() == "usr" { "-al" } else { "-a" };
            succeed(Command::new("cp").arg(options).arg(entry.path()).arg(machine.path("")));
        }
        // Into the kernel's image and a base somebody may.
        fs::remove_file(machine.image()).unwrap();
        succeed(Command::new("cp").arg("-a").arg(template.image()).arg(machine.image()));
        let bases = "usr/lib/ocinitrd/bases";
        fs::remove_dir_all(machine.path(bases)).unwrap();
        succeed(Command::new("cp").arg("-a").arg(template.path(bases)).arg(machine.path(bases)));
        machine.add_plugins();
        machine
    }

    /// One with those packages of the kernel that the offline image is built for, unpacked as rpm would.
    fn with_packages(is_wanted: impl Fn(&str) -> bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let kernel = unpack_kernel(root.path(), is_wanted);
        let machine = Machine { root, kernel };
        machine.write("etc/kernel/cmdline", COMMAND_LINE);
        machine.write("etc/kernel/install.conf", "layout=bls\ninitrd_generator=ocinitrd\n");
        machine.write("etc/os-release", "ID=test\nPRETTY_NAME=Test\n");
        fs::create_dir_all(machine.path("boot").join(TOKEN)).unwrap();
        fs::create_dir_all(machine.path("tmp")).unwrap();
        let bases = machine.path("usr/lib/ocinitrd/bases");
        fs::create_dir_all(&bases).unwrap();
        succeed(Command::new("cp").arg("-r").arg(base()).arg(bases.join("offline")));
        machine.add_plugins();
        machine
    }

    /// What a machine shows whose root is an ext4 on a virtual disk.
    fn run(&self) {
        let disk = "devices/pci0000:00/0000:00:04.0/virtio1/block/vda";
        self.write(&format!("sys/{disk}/vda1/partition"), "1\n");
        self.write("sys/module/virtio_blk/initstate", "live\n");
        self.link("sys/dev/block/254:1", &format!("../../{disk}/vda1"));
        self.link("sys/class/block/vda", &format!("../../{disk}"));
        self.link("sys/class/block/vda1", &format!("../../{disk}/vda1"));
        self.link("sys/bus/virtio/drivers/virtio_blk/module", "../../../../module/virtio_blk");
        self.link("sys/devices/pci0000:00/0000:00:04.0/virtio1/driver", "../../../../bus/virtio/drivers/virtio_blk");
        self.write("proc/1/mountinfo", "20 1 254:1 / / rw - ext4 /dev/vda1 rw\n");
        self.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro\n");
        self.write("proc/modules", "virtio_blk 1 0 - Live 0x0\next4 1 0 - Live 0x0\n");
        self.write("proc/cpuinfo", "processor : 0\nvendor_id : Unknown\n");
    }

    /// Has the machine that runs show a root on an array of md by that name, whose disk is the same.
    pub fn put_root_on_array(&self, name: &str) {
        let array = format!("devices/virtual/block/{name}");
        self.write(&format!("sys/{array}/md/level"), "raid1\n");
        self.link(&format!("sys/{array}/slaves/vda1"), "../../../../../class/block/vda1");
        self.link(&format!("sys/class/block/{name}"), &format!("../../{array}"));
        self.link("sys/dev/block/9:0", &format!("../../{array}"));
        self.write("proc/1/mountinfo", &format!("20 1 9:0 / / rw - ext4 /dev/{name} rw\n"));
        self.write("proc/cmdline", &format!("root=/dev/{name} ro\n"));
    }

    /// Has the machine that runs show a root on a LUKS volume by that name, whose disk is the same.
    pub fn put_root_on_luks(&self, name: &str) {
        let volume = "devices/virtual/block/dm-0";
        self.write(&format!("sys/{volume}/dm/name"), &format!("{name}\n"));
        self.write(&format!("sys/{volume}/dm/uuid"), &format!("CRYPT-LUKS2-0c1d2d00111140008000000000000001-{name}\n"));
        self.link(&format!("sys/{volume}/slaves/vda1"), "../../../../../class/block/vda1");
        self.link("sys/class/block/dm-0", &format!("../../{volume}"));
        self.link("sys/dev/block/253:0", &format!("../../{volume}"));
        self.write("proc/1/mountinfo", &format!("20 1 253:0 / / rw - ext4 /dev/mapper/{name} rw\n"));
        self.write("proc/cmdline", &format!("root=/dev/mapper/{name} ro\n"));
    }

    /// What was recorded of the initrd of the kernel's entry.
    pub fn record(&self) -> PathBuf {
        self.path(&format!("var/lib/ocinitrd/installed/{TOKEN}-{}.json", self.kernel))
    }

    /// A path of the machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// A path below the directory of its kernel's modules.
    pub fn module_path(&self, path: &str) -> PathBuf {
        self.path(&format!("usr/lib/modules/{}", self.kernel)).join(path)
    }

    /// The kernel's image.
    pub fn image(&self) -> PathBuf {
        self.module_path("vmlinuz")
    }

    /// Writes a file, in a directory that is made if need be.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes a symlink.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Writes a program.
    pub fn program(&self, path: &str, text: &str) {
        self.write(path, text);
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn add_plugins(&self) {
        PLUGINS.iter().for_each(|name| self.plugin(name));
    }

    /// The shipped plugin, which is told where the machine is.
    fn plugin(&self, name: &str) {
        let text = fs::read_to_string(checkout().join("packaging/kernel-install").join(name)).unwrap();
        let program = format!("{} ", ocinitrd().get_program().to_str().unwrap());
        let told = text.replace("ocinitrd kernel-install ", &format!("{program}kernel-install "));
        assert_ne!(told, text);
        let told = told.replace("${KERNEL_INSTALL_ROOT-}", self.root.path().to_str().unwrap());
        let told = told.replace("\"$@\"", &format!("\"$@\" --root {}", self.root.path().display()));
        self.program(&format!("plugins/{name}"), &told);
    }

    /// kernel-install, not yet started.
    pub fn kernel_install_command(&self, arguments: &[&str]) -> Command {
        let [first @ .., last] = PLUGINS.map(|name| self.path("plugins").join(name).to_str().unwrap().to_owned());
        let mut plugins = first.to_vec();
        plugins.extend([LOADER_ENTRY.to_owned(), last]);
        self.kernel_install_with(&plugins, arguments)
    }

    /// kernel-install with these plugins, in this order, not yet started.
    pub fn kernel_install_with(&self, plugins: &[String], arguments: &[&str]) -> Command {
        let mut command = Command::new("kernel-install");
        command.env("KERNEL_INSTALL_PLUGINS", plugins.join(" ")).env("KERNEL_INSTALL_ROOT", self.root.path());
        command.env("KERNEL_INSTALL_CONF_ROOT", self.path("etc/kernel")).env("BOOT_ROOT", self.path("boot"));
        command.env("MACHINE_ID", TOKEN).env("TMPDIR", self.path("tmp")).args(arguments);
        command
    }

    /// kernel-install, run to its end.
    pub fn kernel_install(&self, arguments: &[&str]) -> Output {
        self.kernel_install_command(arguments).output().unwrap()
    }

    /// What installs the kernel.
    pub fn add_command(&self) -> Command {
        self.kernel_install_command(&["add", &self.kernel, self.image().to_str().unwrap()])
    }

    /// Installs the kernel.
    pub fn add(&self) -> Output {
        self.add_command().output().unwrap()
    }

    /// The file of the kernel's entry.
    pub fn entry(&self) -> PathBuf {
        self.path(&format!("boot/loader/entries/{TOKEN}-{}.conf", self.kernel))
    }

    /// The initrd of the kernel's entry.
    pub fn initrd(&self) -> PathBuf {
        self.path(&format!("boot/{TOKEN}/{}/initrd", self.kernel))
    }

    /// What the initrd of the kernel's entry holds, a line a file.
    pub fn listed(&self) -> String {
        succeed(ocinitrd().args(["inspect", "--list"]).arg(self.initrd()))
    }

    /// All files where entries are, with what is in them.
    pub fn boot_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        add_files(&mut files, &self.path("boot"));
        files
    }

    /// A plugin, called as a newer kernel-install calls it for a unified kernel image.
    pub fn plugin_for_uki(&self, name: &str, staging_area: &Path) -> Command {
        let mut command = Command::new(self.path(&format!("plugins/{name}")));
        command.env("KERNEL_INSTALL_LAYOUT", "uki").env("KERNEL_INSTALL_INITRD_GENERATOR", "ocinitrd");
        command.env("KERNEL_INSTALL_UKI_GENERATOR", "ocinitrd").env("KERNEL_INSTALL_IMAGE_TYPE", "pe");
        command.env("KERNEL_INSTALL_STAGING_AREA", staging_area).env("KERNEL_INSTALL_BOOT_ROOT", self.path("boot"));
        command.env("KERNEL_INSTALL_ENTRY_TOKEN", TOKEN).env("KERNEL_INSTALL_MACHINE_ID", TOKEN);
        command.env("KERNEL_INSTALL_CONF_ROOT", self.path("etc/kernel")).env("TMPDIR", self.path("tmp"));
        command.env("KERNEL_INSTALL_PLUGINS", UKI_COPY);
        command.args(["add", &self.kernel]).arg(self.path("boot/entry")).arg(self.image());
        command
    }

    /// The program as the plugin of initrds starts it for a product, with another layout than that of unified kernel images if one is
    /// named.
    pub fn program_of_plugin(&self, product: &str, staging_area: &Path, layout: Option<&str>) -> Command {
        let plugin = self.plugin_for_uki("50-ocinitrd.install", staging_area);
        let mut command = ocinitrd();
        command.args(["kernel-install", product]).args(plugin.get_args()).arg("--root").arg(self.path(""));
        command.envs(plugin.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.envs(layout.map(|layout| ("KERNEL_INSTALL_LAYOUT", layout)));
        command
    }

    /// Runs a command with a file system of that many megabytes where entries are, with the files that are there. Fails with 99
    /// if it changes one of them.
    pub fn with_boot_of(&self, megabytes: u64, is_read_only: bool, command: &Command) -> Output {
        let script = format!(
            "set -e; cp -a $BOOT $KEPT; mount -t tmpfs -o size={megabytes}m,mode=755 none $BOOT; cp -a $KEPT/. $BOOT; \
             {}sums() {{ (cd $BOOT; find . -type f -exec sha256sum {{}} + | sort); }}; sums >$KEPT.before; \
             rc=0; \"$@\" || rc=$?; sums >$KEPT.after; cmp $KEPT.before $KEPT.after || exit 99; exit $rc",
            if is_read_only { "mount -o remount,bind,ro $BOOT; " } else { "" }
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--map-root-user", "sh", "-c", &script, "sh"]);
        unshare.arg(command.get_program()).args(command.get_args());
        unshare.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        unshare.env("BOOT", self.path("boot")).env("KEPT", self.path("kept")).output().unwrap()
    }
}

fn add_files(files: &mut BTreeMap<PathBuf, Vec<u8>>, directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => add_files(files, &path),
            false => _ = files.insert(path.clone(), fs::read(&path).unwrap()),
        }
    }
}
