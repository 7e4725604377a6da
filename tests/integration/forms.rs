//! The roots of every kind, booted from every form of an initrd: ready-made or made on a machine, beside the kernel or in one image
//! with it. Ready-made ones beside the kernel are what all other boots are of.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::fixture::{disk_maker_output, ocinitrd, stderr, stdout, succeed, variant_definition};
use crate::host_machine::Machine;

/// One root of each kind that is on the machine.
const LOCAL: [&str; 5] = ["ext4-uuid", "lvm", "luks-passphrase", "md-raid1", "hibernation"];
const REMOTE: [&str; 1] = ["nfs4-dhcp"];

/// What the plugins make on a machine with a base.
struct Made {
    machine: Machine,
    staging: PathBuf,
}

impl Made {
    fn of(definition: &Path) -> Self {
        let machine = Machine::new();
        let base = machine.path("usr/lib/ocinitrd/bases/offline");
        fs::remove_dir_all(&base).unwrap();
        succeed(ocinitrd().arg("build").arg(definition).args(["-t", "base", "-O"]).arg(&base));
        // The roots bring their own options.
        machine.write("etc/kernel/cmdline", "rw\n");
        let staging = machine.path("staging");
        fs::create_dir(&staging).unwrap();
        for plugin in ["50-ocinitrd.install", "60-ocinitrd.install"] {
            succeed(&mut machine.plugin_for_uki(plugin, &staging));
        }
        Made { machine, staging }
    }

    fn initrd(&self) -> Vec<OsString> {
        let option = |name: &str, path: PathBuf| [name.into(), path.into_os_string()];
        let options = [option("--kernel", self.machine.image()), option("--initrd", self.staging.join("initrd"))];
        options.into_iter().flatten().collect()
    }

    fn unified(&self) -> Vec<OsString> {
        vec![format!("--uki={}", self.staging.join("uki.efi").display()).into()]
    }
}

fn boot(name: &str, subject: &[OsString], roots: &[&str]) {
    let mut command: Command = ocinitrd();
    command.arg("boot").args(subject).arg("--disks-by").arg(disk_maker_output()).args(["--json", "--timeout", "900"]);
    command.arg("--log-dir").arg(disk_maker_output().with_file_name("forms").join(name));
    let output = command.args(["--root", &roots.join(",")]).output().unwrap();
    let answer: Value =
        serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{name}: {}", stderr(&output)));
    let boots = answer["boots"].as_array().unwrap();
    let failed: Vec<&Value> = boots.iter().filter(|report| report["ok"] != true).collect();
    assert!(failed.is_empty() && boots.len() == roots.len(), "{name}: {failed:#?}");
}

fn boot_all(name: &str, lines: &str, roots: &[&str]) {
    let definition = variant_definition(&format!("forms-{name}"), lines);
    let output = definition.with_file_name("out");
    succeed(ocinitrd().arg("build").arg(&definition).args(["-t", "uki", "--cmdline", "rw", "-O"]).arg(&output));
    boot(&format!("{name}-ready-unified"), &[output.into_os_string(), "--uki".into()], roots);
    let made = Made::of(&definition);
    boot(&format!("{name}-made"), &made.initrd(), roots);
    boot(&format!("{name}-made-unified"), &made.unified(), roots);
}

#[test]
#[ignore = "boots twenty guests: part of make test-matrix"]
fn roots_of_every_kind_boot_from_every_form_of_an_initrd() {
    boot_all("local", "", &LOCAL);
    boot_all("remote", "default_profiles = [\"nfs\"]", &REMOTE);
}
