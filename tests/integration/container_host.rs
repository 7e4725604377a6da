//! A machine with the real kernel-install and dracut of a distribution, in a container.
//!
//! Its boot partition, its configuration, its base and its kernel are directories here; its programs are the distribution's and the one
//! under test.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::distribution::Distribution;
use crate::fixture::{checkout, ocinitrd, stderr, stdout, succeed};
use crate::host_machine::{PLUGINS, TOKEN, base, unpacked_kernel};

/// dracut makes its least initrd, and the same one each time.
const DRACUT: &str = "dracutmodules=\"base\"\ncompress=\"cat\"\nreproducible=\"yes\"\n";

/// Whether what runs on the machine may write to its configuration.
#[derive(Clone, Copy, Debug)]
pub enum Configuration {
    /// Nobody has to.
    ReadOnly,
    /// It is what is tested.
    Written,
}

/// The machine.
pub struct Host {
    distribution: Distribution,
    configuration: Configuration,
    state: tempfile::TempDir,
}

impl Host {
    /// One with dracut and without anything of ours but the program.
    pub fn new(distribution: Distribution, configuration: Configuration) -> Self {
        let host = Host { distribution, configuration, state: tempfile::tempdir().unwrap() };
        for directory in ["boot", "lib/bases", "ocinitrd", "kernel/install.d", "dracut.conf.d", "sbin", "restored"] {
            fs::create_dir_all(host.path(directory)).unwrap();
        }
        fs::create_dir(host.path("boot").join(TOKEN)).unwrap();
        for (path, text) in [
            ("machine-id", format!("{TOKEN}\n")),
            ("dracut.conf.d/test.conf", DRACUT.to_owned()),
            ("kernel/cmdline", "root=LABEL=root rw\n".to_owned()),
            ("kernel/install.conf", "layout=bls\n".to_owned()),
        ] {
            fs::write(host.path(path), text).unwrap();
        }
        host
    }

    /// Where a part of it is here.
    pub fn path(&self, path: &str) -> PathBuf {
        self.state.path().join(path)
    }

    /// Adds our plugins.
    pub fn add_plugins(&self) {
        for name in PLUGINS {
            let shipped = checkout().join("packaging/kernel-install").join(name);
            fs::copy(shipped, self.path("kernel/install.d").join(name)).unwrap();
        }
    }

    /// Adds a base.
    pub fn add_base(&self) {
        succeed(Command::new("cp").arg("-r").arg(base()).arg(self.path("lib/bases/offline")));
    }

    /// Runs a program on it.
    pub fn run(&self, words: &[&str]) -> Output {
        let (modules, program) = (unpacked_kernel().0.join("usr/lib/modules"), PathBuf::from(ocinitrd().get_program()));
        let own = |name: &str| self.path(name);
        let [kernel, ocinitrd] = match self.configuration {
            Configuration::ReadOnly => ["/etc/kernel:ro", "/etc/ocinitrd:ro"],
            Configuration::Written => ["/etc/kernel", "/etc/ocinitrd"],
        };
        let mounts = [
            (&*modules, "/usr/lib/modules:ro"),
            (&*program, "/usr/bin/ocinitrd:ro"),
            (&*own("boot"), "/boot"),
            (&*own("kernel"), kernel),
            (&*own("dracut.conf.d"), "/etc/dracut.conf.d:ro"),
            (&*own("ocinitrd"), ocinitrd),
            (&*own("lib"), "/var/lib/ocinitrd"),
            (&*own("lib/bases"), "/var/lib/ocinitrd/bases:ro"),
            (&*own("machine-id"), "/etc/machine-id:ro"),
            (&*own("sbin"), "/usr/local/sbin:ro"),
            (&*own("restored"), "/restored"),
        ];
        let container = self.distribution.container(&mounts).env("SOURCE_DATE_EPOCH", "1000000000");
        // The boot partition is a directory and no partition.
        let container = container.env("SYSTEMD_RELAX_ESP_CHECKS", "1").env("SYSTEMD_RELAX_XBOOTLDR_CHECKS", "1");
        container.run(words).output().unwrap()
    }

    /// The same, which succeeds; returns what it prints.
    pub fn succeed(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output)
    }

    /// Runs kernel-install.
    pub fn kernel_install(&self, action: &[&str]) -> Output {
        self.run(&[&["kernel-install", "--boot-path=/boot", "--esp-path=/boot"], action].concat())
    }

    /// `kernel-install add`.
    pub fn add(&self) -> Output {
        let version = unpacked_kernel().1;
        self.kernel_install(&["add", version, &format!("/usr/lib/modules/{version}/vmlinuz")])
    }
}
