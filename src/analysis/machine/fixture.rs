//! A directory that stands in for a machine, for tests: `/proc`, `/sys`, `/dev` and `/etc` as far as they are read here.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::root::Root;

/// A machine that is made up. What is made goes with it.
pub struct Fixture {
    directory: TempDir,
    /// The kernel's names of its devices: the place of one is its minor number.
    devices: RefCell<Vec<String>>,
}

impl Fixture {
    pub fn new() -> Self {
        let fixture = Fixture { directory: tempfile::tempdir().unwrap(), devices: RefCell::default() };
        fixture.write("sys/bus/usb/devices/usb1/uevent", "");
        fixture
    }

    /// Takes its USB bus from the machine.
    pub fn without_usb(&self) -> &Self {
        std::fs::remove_dir_all(self.path().join("sys/bus/usb")).unwrap();
        self
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn root(&self) -> Root {
        Root::open(self.path()).unwrap()
    }

    pub fn directory(&self, path: &str) -> &Self {
        fs::create_dir_all(self.path().join(path)).unwrap();
        self
    }

    pub fn write(&self, path: &str, text: &str) -> &Self {
        self.directory(path.rsplit_once('/').map_or("", |(directory, _)| directory));
        fs::write(self.path().join(path), text).unwrap();
        self
    }

    /// A file that can be executed.
    pub fn program(&self, path: &str, text: &str) -> &Self {
        self.write(path, text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.path().join(path), mode).unwrap();
        self
    }

    pub fn link(&self, path: &str, target: &str) -> &Self {
        self.directory(path.rsplit_once('/').map_or("", |(directory, _)| directory));
        symlink(target, self.path().join(path)).unwrap();
        self
    }

    /// A link to a path of the machine, relative as all of those in `/sys` are.
    fn link_to(&self, path: &str, target: &str) -> &Self {
        self.link(path, &format!("{}{target}", "../".repeat(path.matches('/').count())))
    }

    /// Gives the device at `place` below `/sys/devices` a driver; one without a module is built in.
    pub fn driver(&self, place: &str, driver: &str, module: &str) -> &Self {
        let of_driver = format!("sys/bus/any/drivers/{driver}-{module}/{driver}");
        self.directory(&of_driver);
        if !module.is_empty() && !self.path().join(&of_driver).join("module").is_symlink() {
            self.link_to(&format!("{of_driver}/module"), &format!("sys/module/{module}"));
            self.write(&format!("sys/module/{module}/initstate"), "live\n");
        }
        self.link_to(&format!("sys/devices/{place}/driver"), &of_driver)
    }

    /// A disk at `place` below `/sys/devices`, which has these drivers: `driver:module`.
    pub fn disk(&self, name: &str, place: &str, drivers: &[&str]) -> &Self {
        for driver in drivers {
            let (driver, module) = driver.split_once(':').unwrap();
            self.driver(place, driver, module);
        }
        self.block(name, &format!("sys/devices/{place}/block/{name}"))
    }

    pub fn partition(&self, disk: &str, name: &str) -> &Self {
        let disk = self.path().join("sys/class/block").join(disk).canonicalize().unwrap();
        let below = disk.strip_prefix(self.path().canonicalize().unwrap()).unwrap().join(name);
        let below = below.to_str().unwrap();
        self.block(name, below).write(&format!("{below}/partition"), "1\n")
    }

    pub fn virtual_block(&self, name: &str, slaves: &[&str]) -> &Self {
        let directory = format!("sys/devices/virtual/block/{name}");
        self.block(name, &directory);
        for slave in slaves {
            self.link_to(&format!("{directory}/slaves/{slave}"), &format!("sys/class/block/{slave}"));
        }
        self
    }

    pub fn mapped(&self, kernel_name: &str, uuid: &str, name: &str, slaves: &[&str]) -> &Self {
        let directory = format!("sys/devices/virtual/block/{kernel_name}/dm");
        self.virtual_block(kernel_name, slaves);
        self.write(&format!("{directory}/uuid"), &format!("{uuid}\n"));
        self.write(&format!("{directory}/name"), &format!("{name}\n"))
    }

    pub fn array(&self, name: &str, level: &str, slaves: &[&str]) -> &Self {
        self.virtual_block(name, slaves);
        self.write(&format!("sys/devices/virtual/block/{name}/md/level"), &format!("{level}\n"))
    }

    /// A btrfs over these devices.
    pub fn btrfs(&self, uuid: &str, devices: &[&str]) -> &Self {
        for device in devices {
            self.link_to(&format!("sys/fs/btrfs/{uuid}/devices/{device}"), &format!("sys/class/block/{device}"));
        }
        self
    }

    /// `MAJOR:MINOR` of a device.
    pub fn number(&self, name: &str) -> String {
        let minor = self.devices.borrow().iter().position(|device| device == name).unwrap();
        format!("8:{minor}")
    }

    /// Mounts, each as its point, type, source and options. On a device of the kernel's name `source` it has its number,
    /// else one that the kernel made up.
    pub fn mounts(&self, mounts: &[(&str, &str, &str, &str)]) -> &Self {
        let lines = mounts.iter().enumerate().map(|(id, (point, kind, source, options))| {
            let name = source.strip_prefix("/dev/").unwrap_or(source);
            let is_block = *kind != "btrfs" && self.devices.borrow().iter().any(|device| device == name);
            let device = if is_block { self.number(name) } else { format!("0:{id}") };
            format!("{} 1 {device} / {point} rw - {kind} {source} {options}\n", id + 20)
        });
        self.write("proc/1/mountinfo", &lines.collect::<String>())
    }

    fn block(&self, name: &str, directory: &str) -> &Self {
        self.devices.borrow_mut().push(name.to_owned());
        self.directory(directory);
        self.link_to(&format!("sys/class/block/{name}"), directory);
        self.link_to(&format!("sys/dev/block/{}", self.number(name)), directory)
    }
}
