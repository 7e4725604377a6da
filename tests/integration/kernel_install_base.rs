//! The plugins of kernel-install(8) where no base serves and the administrator has one built.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::engine::eventually;
use crate::fixture::{names, stderr};
use crate::host_machine::{Machine, base_definition};
use crate::interrupted::{end, in_job};

/// A machine without a base, which has the definition of one and what was built of it before.
fn machine(configuration: &str) -> Machine {
    let machine = Machine::running();
    fs::remove_dir_all(machine.path("usr/lib/ocinitrd")).unwrap();
    let definitions = base_definition().parent().unwrap().to_owned();
    machine.link("usr/share/ocinitrd/images", definitions.to_str().unwrap());
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("ocinitrd");
    machine.link("var/cache/ocinitrd", cache.to_str().unwrap());
    machine.write("etc/ocinitrd/host.toml", configuration);
    machine
}

#[test]
fn a_base_is_built_where_that_is_allowed_and_only_when_it_is_needed() {
    let machine = machine("build = \"base\"\nmax_age_days = 30\n");
    let place = machine.path("var/lib/ocinitrd/bases/base");
    let manifest = place.join("manifest.json");
    let add = |is_built: bool, reason: &str| {
        let output = machine.add();
        let said = stderr(&output);
        assert!(output.status.success(), "{said}");
        assert_eq!(said.contains("base is built, as build of /etc/ocinitrd says"), is_built, "{said}");
        assert!(said.contains(reason), "{said}");
        assert!(machine.listed().contains("usr/lib/systemd/systemd\n"));
    };
    add(true, "there is no base in ");
    assert_eq!(names(&place), ["base.cpio.zst", "linux.efi.stub", "manifest.json"]);
    add(false, "");
    // The definition is as from a package, which others write nothing beside.
    assert!(machine.path("var/lib/ocinitrd/base.lock").is_file());
    fs::write(place.join("base.cpio.zst"), "damaged").unwrap();
    add(true, "base.cpio.zst is not what its manifest says");
    fs::write(&manifest, "{").unwrap();
    add(true, "manifest.json");
    let old = SystemTime::now() - Duration::from_secs(40 * 24 * 60 * 60);
    File::options().append(true).open(&manifest).unwrap().set_modified(old).unwrap();
    add(true, "is 40 days old");
    add(false, "");
}

#[test]
fn a_base_that_cannot_be_built_is_told_with_the_reason_for_building_it_and_nothing_is_lost() {
    let machine = machine("build = \"none-such\"\n");
    let before = machine.boot_files();
    let output = machine.add();
    assert_eq!(output.status.code(), Some(1));
    let says = [
        "building a base of none-such, since there is no base in ",
        "there is no image \"none-such\" in ",
        "/etc/ocinitrd/images or ",
    ];
    assert!(says.iter().all(|text| stderr(&output).contains(text)), "{}", stderr(&output));
    assert!(machine.boot_files() == before && names(&machine.path("var/lib/ocinitrd/bases")).is_empty());
}

#[test]
fn who_ends_the_build_of_a_base_gets_no_initrd_of_dracut_either() {
    let machine = machine("build = \"base\"\non_failure = \"dracut\"\n");
    let plugin = "#!/bin/sh\necho \"dracut's\" >\"$KERNEL_INSTALL_STAGING_AREA/initrd\"\n";
    machine.program("usr/lib/kernel/install.d/50-dracut.install", plugin);
    let staging = machine.path("staging");
    fs::create_dir(&staging).unwrap();
    let build = in_job(machine.plugin_for_uki("50-ocinitrd.install", &staging), "solve");
    kill_process(Pid::from_child(&build), Signal::INT).unwrap();
    let (exit_code, said) = end(build);
    assert_eq!(exit_code, Some(130), "{said}");
    assert_eq!(names(&staging), [""; 0], "{said}");
}

#[test]
fn a_signal_ends_what_comes_after_the_build_of_a_base_too() {
    let machine = machine("build = \"base\"\non_failure = \"dracut\"\n");
    // What follows is dracut's, which takes its time, here until it is told to end.
    let plugin = "#!/bin/sh\necho $$ >\"$KERNEL_INSTALL_STAGING_AREA/began\"\nexec sleep 600\n";
    machine.program("usr/lib/kernel/install.d/50-dracut.install", plugin);
    let staging = machine.path("staging");
    fs::create_dir(&staging).unwrap();
    let mut command = machine.plugin_for_uki("50-ocinitrd.install", &staging);
    // It fails as late as can be, when it has seen to signals itself.
    command.env("CONTAINER_HOST", "unix:///nowhere");
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("dracut is asked", Duration::from_secs(60), || staging.join("began").exists());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let (exit_code, _) = end(child);
    let dracut = fs::read_to_string(staging.join("began")).unwrap();
    kill_process(Pid::from_raw(dracut.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(exit_code, Some(143));
}
