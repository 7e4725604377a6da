//! The drivers between a device and the processor: its directory in `/sys/devices` in, their modules out.
//!
//! A device's directory lies in that of the device it is attached to: a disk in its controller, that on its bus, up to the
//! root of PCI. Each that has a driver has a link to it, and the driver one to its module. Of a driver that is built in the
//! kernel may show a module too; only one that was loaded has a state.

use anyhow::Result;

use super::root::Root;

/// A driver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Driver {
    /// Of this kernel module.
    Module(String),
    /// Built into the running kernel, which calls it so.
    BuiltIn(String),
}

/// The drivers of a device.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Drivers {
    /// From the device up.
    pub(super) drivers: Vec<Driver>,
    /// The module that reaches it on another machine.
    pub(super) remote: Option<&'static str>,
}

impl Drivers {
    /// Those of the device in `directory` and of all that it is attached to.
    pub(super) fn above(root: &Root, directory: &str) -> Result<Self> {
        let mut all = Drivers::default();
        all.add(root, directory)?;
        Ok(all)
    }

    fn add(&mut self, root: &Root, directory: &str) -> Result<()> {
        let mut directory = directory;
        while let Some((parent, name)) = directory.rsplit_once('/').filter(|_| directory != "/sys/devices") {
            if let Some(driver) = driver_of(root, directory)?.filter(|driver| !self.drivers.contains(driver)) {
                self.drivers.push(driver);
            }
            self.remote = self.remote.or(remote_of(root, directory, name)?);
            if name.starts_with("nvme-subsys") {
                self.add_controllers(root, directory)?;
            }
            directory = parent;
        }
        Ok(())
    }

    /// Where several controllers may lead to an NVMe disk, it lies in none of them, but beside links to all.
    fn add_controllers(&mut self, root: &Root, subsystem: &str) -> Result<()> {
        for name in root.names(subsystem)? {
            let path = format!("{subsystem}/{name}");
            if is_numbered(&name, "nvme")
                && root.link(&path)?.is_some()
                && let Some(controller) = root.resolve(&path)?
            {
                self.add(root, &controller)?;
            }
        }
        Ok(())
    }
}

fn driver_of(root: &Root, directory: &str) -> Result<Option<Driver>> {
    let last = |target: String| target.rsplit('/').next().map(str::to_owned);
    let link = format!("{directory}/driver");
    let Some(name) = root.link(&link)?.and_then(last) else { return Ok(None) };
    let module = root.link(&format!("{link}/module"))?.and_then(last);
    let loaded = module.filter(|module| root.has(&format!("/sys/module/{module}/initstate")));
    Ok(Some(loaded.map_or(Driver::BuiltIn(name), Driver::Module)))
}

fn remote_of(root: &Root, directory: &str, name: &str) -> Result<Option<&'static str>> {
    if is_numbered(name, "session") && root.has(&format!("{directory}/iscsi_session")) {
        return Ok(Some("iscsi_tcp"));
    }
    if !is_numbered(name, "nvme") {
        return Ok(None);
    }
    Ok(match root.attribute(&format!("{directory}/transport"))?.as_deref() {
        Some("tcp") => Some("nvme_tcp"),
        Some("rdma") => Some("nvme_rdma"),
        Some("fc") => Some("nvme_fc"),
        _ => None,
    })
}

/// Whether a name is that prefix and a number.
pub(super) fn is_numbered(name: &str, prefix: &str) -> bool {
    let number = name.strip_prefix(prefix).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    fn modules(names: &[&str]) -> Vec<Driver> {
        names.iter().map(|name| Driver::Module((*name).to_owned())).collect()
    }

    #[test]
    fn every_driver_up_to_the_root_of_pci_counts_once() {
        let fixture = Fixture::new();
        let path = "pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/host6/target6:0:0/6:0:0:0";
        fixture.disk("sdc", path, &["sd:sd_mod"]);
        fixture.driver("pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0", "uas", "uas");
        fixture.driver("pci0000:00/0000:00:14.0/usb1/1-1", "usb", "usbcore");
        fixture.driver("pci0000:00/0000:00:14.0/usb1", "usb", "usbcore");
        fixture.driver("pci0000:00/0000:00:14.0", "xhci_hcd", "xhci_pci");
        let found = Drivers::above(&fixture.root(), &format!("/sys/devices/{path}/block/sdc")).unwrap();
        assert_eq!(found.drivers, modules(&["sd_mod", "uas", "usbcore", "xhci_pci"]));
        assert_eq!(found.remote, None);
    }

    #[test]
    fn a_driver_without_a_module_is_built_in() {
        let fixture = Fixture::new();
        fixture.disk("vda", "pci0000:00/0000:00:02.0/virtio1", &["virtio_blk:"]);
        fixture.driver("pci0000:00/0000:00:02.0", "virtio-pci", "virtio_pci");
        let directory = "/sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda";
        let drivers = || Drivers::above(&fixture.root(), directory).unwrap().drivers;
        let virtio_blk = Driver::BuiltIn("virtio_blk".to_owned());
        assert_eq!(drivers(), [virtio_blk.clone(), Driver::Module("virtio_pci".to_owned())]);
        std::fs::remove_file(fixture.path().join("sys/module/virtio_pci/initstate")).unwrap();
        assert_eq!(drivers(), [virtio_blk, Driver::BuiltIn("virtio-pci".to_owned())]);
    }

    #[test]
    fn an_nvme_disk_behind_several_controllers_needs_all_of_them() {
        let fixture = Fixture::new();
        fixture.driver("pci0000:00/0000:00:1d.0/0000:01:00.0", "nvme", "nvme");
        fixture.driver("pci10000:e0/10000:e0:01.0", "vmd", "vmd");
        let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
        for (controller, place) in
            [("nvme0", "pci0000:00/0000:00:1d.0/0000:01:00.0"), ("nvme1", "pci10000:e0/10000:e0:01.0")]
        {
            fixture.write(&format!("sys/devices/{place}/nvme/{controller}/transport"), "pcie\n");
            fixture.link(&format!("{subsystem}/{controller}"), &format!("../../../{place}/nvme/{controller}"));
        }
        fixture.directory(&format!("{subsystem}/nvme0n1"));
        let found = Drivers::above(&fixture.root(), &format!("/{subsystem}/nvme0n1")).unwrap();
        assert_eq!(found, Drivers { drivers: modules(&["nvme", "vmd"]), remote: None });
    }

    #[test]
    fn disks_of_other_machines_are_known_by_their_way() {
        let fixture = Fixture::new();
        let session = "sys/devices/platform/host3/session1";
        fixture.directory(&format!("{session}/iscsi_session"));
        let iscsi = format!("/{session}/target3:0:0/3:0:0:0/block/sda");
        fixture.directory(&iscsi[1..]);
        assert_eq!(Drivers::above(&fixture.root(), &iscsi).unwrap().remote, Some("iscsi_tcp"));
        fixture.write("sys/devices/virtual/nvme-fabrics/ctl/nvme0/transport", "tcp\n");
        let nvme = "/sys/devices/virtual/nvme-fabrics/ctl/nvme0/nvme0n1";
        assert_eq!(Drivers::above(&fixture.root(), nvme).unwrap().remote, Some("nvme_tcp"));
    }
}
