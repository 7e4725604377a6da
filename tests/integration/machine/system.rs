//! The system of the machines: packages of the offline repository, its two newest kernels, the program with a base, and scripts.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::fixture::{checkout, names, ocinitrd, offline_directory, succeed};
use crate::host_machine::{PLUGINS, base};

/// A system for a disk.
pub const DEFINITION: &str = r#"
include = ["../../offline/builder.toml"]
releasever = "44"
# The first may find /run/lock being mounted under it, and there is nothing that either would have to watch.
mask_units = ["lvm2-monitor.service", "mdmonitor.service"]

[packages]
install = [
    "fedora-release-common", "basesystem", "systemd", "systemd-udev", "bash", "coreutils", "grep", "sed", "kmod", "util-linux",
    "cryptsetup", "lvm2", "mdadm", "dosfstools", "e2fsprogs", "systemd-boot-unsigned",
]
remove_files = [
    "/usr/share/{doc,info,man,locale,i18n,licenses}", "/usr/lib64/gconv", "/usr/lib/udev/hwdb.d", "/usr/lib/systemd/catalog",
]

[output]
compression = "none"
"#;

/// Where the program lies on the machine, with the libraries of the host that it was built on.
const PROGRAM: &str = "usr/lib/ocinitrd-program";

/// The system in a form that a kernel unpacks, which copies itself.
pub struct System {
    /// The archive.
    pub initrd: PathBuf,
    /// The kernel that it is installed with, as `uname -r` prints it.
    pub first: String,
    /// The kernel that it installs.
    pub second: String,
    /// The image of the first.
    pub vmlinuz: PathBuf,
}

impl System {
    /// Where it lies, and its machines.
    pub fn directory(&self) -> &Path {
        self.initrd.parent().unwrap()
    }
}

/// Built once a run of the tests.
pub fn system() -> &'static System {
    static SYSTEM: OnceLock<System> = OnceLock::new();
    SYSTEM.get_or_init(|| System::new("machine", DEFINITION, |_| ()))
}

impl System {
    /// Builds one in a directory of that name, of these packages, and of what is added to its tree.
    pub fn new(name: &str, definition: &str, add_more: impl Fn(&Path)) -> Self {
        let directory = checkout().join("target/test-output").join(name);
        let _ = fs::remove_dir_all(&directory);
        let tree = directory.join("tree");
        fs::create_dir_all(&tree).unwrap();
        fs::write(directory.join("machine.toml"), definition).unwrap();
        let packages = directory.join("packages");
        succeed(ocinitrd().arg("build").arg(directory.join("machine.toml")).args(["-t", "base", "-O"]).arg(&packages));

        let [first, second] = add_kernels(&tree);
        add_program(&tree);
        add_scripts(&tree, &first, &second);
        add_more(&tree);
        let bases = tree.join("var/lib/ocinitrd/bases");
        fs::create_dir_all(&bases).unwrap();
        succeed(Command::new("cp").arg("-r").arg(base()).arg(bases.join("offline")));

        let archive = directory.join("tree.cpio");
        let mut pack = Command::new("bsdtar");
        pack.args(["--format", "newc", "--uid", "0", "--gid", "0", "-cf"]).arg(&archive).arg("-C").arg(&tree);
        succeed(pack.args(["etc", "usr", "var"]));
        let initrd = directory.join("initrd");
        let mut file = File::create_new(&initrd).unwrap();
        for part in [packages.join("base.cpio"), archive] {
            io::copy(&mut File::open(&part).unwrap(), &mut file).unwrap();
            fs::remove_file(part).unwrap();
        }
        let vmlinuz = tree.join("usr/lib/modules").join(&first).join("vmlinuz");
        System { initrd, first, second, vmlinuz }
    }
}

/// Unpacks the two newest kernels of the repository, as rpm would. Returns their versions, the older first.
pub fn add_kernels(tree: &Path) -> [String; 2] {
    let packages = offline_directory().join("repo/Packages");
    let files = fs::read_dir(&packages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let numbers = |version: &str| {
        version
            .split(|character: char| !character.is_ascii_digit())
            .map(|part| part.parse().unwrap_or(0))
            .collect::<Vec<u64>>()
    };
    let mut versions: Vec<String> =
        files.filter_map(|name| name.strip_prefix("kernel-core-").map(str::to_owned)).collect();
    versions.sort_by_key(|version| numbers(version));
    let newest = versions.split_off(versions.len().checked_sub(2).expect("the repository has two kernels"));
    for (package, version) in
        newest.iter().flat_map(|version| ["core", "modules-core"].map(|package| (package, version)))
    {
        let file = packages.join(format!("kernel-{package}-{version}"));
        succeed(Command::new("bsdtar").arg("-xf").arg(file).arg("-C").arg(tree).arg("./usr/lib/modules"));
    }
    let mut kernels = names(&tree.join("usr/lib/modules"));
    kernels.sort_by_key(|kernel| numbers(kernel));
    let kernels: [String; 2] = kernels.try_into().unwrap();
    // That of the other is made where it is installed.
    succeed(Command::new("depmod").arg("-b").arg(tree.join("usr")).arg(&kernels[0]));
    kernels
}

/// The program under test, with its libraries: the machine has others.
pub fn add_program(tree: &Path) {
    let directory = tree.join(PROGRAM);
    fs::create_dir_all(&directory).unwrap();
    let program = PathBuf::from(ocinitrd().get_program());
    succeed(Command::new("strip").arg("-o").arg(directory.join("ocinitrd")).arg(&program));
    let libraries = succeed(Command::new("ldd").arg(&program));
    let mut loader = None;
    for library in libraries.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
        let name = library.file_name().unwrap();
        fs::copy(library, directory.join(name)).unwrap();
        loader = Some(name).filter(|name| name.to_string_lossy().starts_with("ld-")).or(loader);
    }
    let loader = loader.expect("the program has a loader").to_string_lossy();
    write_program(
        &tree.join("usr/bin/ocinitrd"),
        &format!("#!/bin/sh\nexec /{PROGRAM}/{loader} --library-path /{PROGRAM} /{PROGRAM}/ocinitrd \"$@\"\n"),
    );
}

fn add_scripts(tree: &Path, first: &str, second: &str) {
    let source = checkout().join("tests/integration/machine");
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    let common = format!("first={first} second={second}\n{}", read(source.join("common.sh")));
    write_program(&tree.join("usr/lib/machine/common"), &common);
    write_program(&tree.join("usr/lib/machine/install"), &read(source.join("install.sh")));
    write_program(&tree.join("usr/lib/machine/step"), &read(source.join("step.sh")));
    let units = tree.join("etc/systemd/system");
    fs::create_dir_all(units.join("multi-user.target.wants")).unwrap();
    fs::copy(source.join("machine.service"), units.join("machine.service")).unwrap();
    symlink("../machine.service", units.join("multi-user.target.wants/machine.service")).unwrap();
    for plugin in PLUGINS {
        let text = read(checkout().join("packaging/kernel-install").join(plugin));
        write_program(&tree.join("etc/kernel/install.d").join(plugin), &text);
    }
}

pub fn write_program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
