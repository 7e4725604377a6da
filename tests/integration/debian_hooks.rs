//! Hooks of kernel packages on Debian: ours beside the real ones of initramfs-tools and dracut, run by the real linux-base, run-parts and
//! update-initramfs in a container.
//!
//! `/boot`, the configuration, the base and the kernel are directories here; whoever made an initrd is told by its contents.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::coexistence::{assert_dracut_s, assert_ours};
use crate::distribution::Distribution;
use crate::fixture::{checkout, ocinitrd, stderr, stdout, succeed};
use crate::host_machine::{base, unpacked_kernel};

/// What each run does first: the generator of initrds is put there, our hooks where they are installed, and the configuration.
const PREPARE: &str = r#"
set -e
case $GENERATOR in
initramfs-tools)
    rm /etc/kernel/*/dracut
    dpkg-deb -x /usr/share/initramfs-tools.deb /
    printf '%s\n' MODULES=list COMPRESS=gzip >/etc/initramfs-tools/conf.d/test
    ;;
dracut) printf '%s\n' 'dracutmodules="base"' 'compress="cat"' 'reproducible="yes"' 'hostonly="no"' >/etc/dracut.conf.d/test.conf ;;
none) rm /etc/kernel/*/dracut /usr/bin/dracut ;;
esac
[ -z "$HOOKS" ] || cp -a /hooks/. /etc/
cp -a /state/etc/. /etc/
exec "$@"
"#;

/// Who makes initrds beside ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Generator {
    InitramfsTools,
    Dracut,
    Nobody,
}

/// A machine of Debian's packages.
struct Debian {
    distribution: Distribution,
    generator: Generator,
    has_hooks: bool,
    has_program: bool,
    state: tempfile::TempDir,
}

impl Debian {
    /// One with a kernel, whose package has just been unpacked, and a base. Nobody asks for ours.
    fn new(distribution: Distribution, generator: Generator) -> Self {
        let state = tempfile::tempdir().unwrap();
        let host = Debian { distribution, generator, has_hooks: true, has_program: true, state };
        for directory in ["boot", "lib/bases", "state/etc/kernel", "state/etc/ocinitrd"] {
            fs::create_dir_all(host.path(directory)).unwrap();
        }
        let (root, version) = unpacked_kernel();
        fs::copy(root.join("usr/lib/modules").join(version).join("vmlinuz"), host.kernel()).unwrap();
        symlink(format!("initrd.img-{version}"), host.path("boot/initrd.img")).unwrap();
        host.configure("");
        host.add_base();
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.state.path().join(path)
    }

    fn kernel(&self) -> PathBuf {
        self.path(&format!("boot/vmlinuz-{}", unpacked_kernel().1))
    }

    fn initrd(&self) -> PathBuf {
        self.path(&format!("boot/initrd.img-{}", unpacked_kernel().1))
    }

    fn kernel_configuration(&self) -> PathBuf {
        self.path(&format!("boot/config-{}", unpacked_kernel().1))
    }

    fn record(&self) -> PathBuf {
        self.path(&format!("lib/installed/{}.json", unpacked_kernel().1))
    }

    fn add_base(&self) {
        succeed(Command::new("cp").arg("-r").arg(base()).arg(self.path("lib/bases/offline")));
    }

    fn remove_base(&self) {
        fs::remove_dir_all(self.path("lib/bases/offline")).unwrap();
    }

    /// The container is no machine that could be looked at.
    fn configure(&self, line: &str) {
        fs::write(self.path("state/etc/ocinitrd/host.toml"), format!("scope = \"generic\"\n{line}\n")).unwrap();
    }

    fn install_conf(&self, text: &str) {
        fs::write(self.path("state/etc/kernel/install.conf"), text).unwrap();
    }

    fn ask(&self) {
        self.install_conf("initrd_generator=ocinitrd\n");
    }

    fn run(&self, words: &[&str]) -> Output {
        let (kernel_root, _) = unpacked_kernel();
        let (modules, program) = (kernel_root.join("usr/lib/modules"), PathBuf::from(ocinitrd().get_program()));
        let (boot, lib, state) = (self.path("boot"), self.path("lib"), self.path("state"));
        let hooks = checkout().join("packaging/debian/etc");
        let mut mounts = vec![
            (&*modules, "/usr/lib/modules:ro"),
            (&*boot, "/boot"),
            (&*lib, "/var/lib/ocinitrd"),
            (&*state, "/state:ro"),
            (&*hooks, "/hooks:ro"),
        ];
        if self.has_program {
            mounts.push((&program, "/usr/bin/ocinitrd:ro"));
        }
        let generator = match self.generator {
            Generator::InitramfsTools => "initramfs-tools",
            Generator::Dracut => "dracut",
            Generator::Nobody => "none",
        };
        let container = self.distribution.container(&mounts).env("SOURCE_DATE_EPOCH", "1000000000");
        let container = container.env("GENERATOR", generator).env("HOOKS", if self.has_hooks { "1" } else { "" });
        container.run(&[&["sh", "-c", PREPARE, "sh"], words].concat()).output().unwrap()
    }

    /// What the scripts of the kernel's package do.
    fn hooks(&self, script: &str, parameters: &[&str]) -> Output {
        let (_, version) = unpacked_kernel();
        let image = format!("/boot/vmlinuz-{version}");
        self.run(&[&["linux-run-hooks", "image", script, version, &image, "--"], parameters].concat())
    }

    fn install(&self) -> Output {
        self.hooks("postinst", &["configure", ""])
    }

    /// The kernel's package is removed, whose files are its own to remove.
    fn remove(&self) {
        fs::remove_file(self.kernel()).unwrap();
        for parameters in [&["remove"][..], &["purge"]] {
            let output = self.hooks("postrm", parameters);
            assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
        }
    }

    /// What triggers of packages and administrators call; dracut 106 has none, and its trigger calls its hook.
    fn update(&self) -> Output {
        let version = unpacked_kernel().1;
        match (self.distribution, self.generator) {
            (Distribution::Trixie, Generator::Dracut) => self.run(&["/etc/kernel/postinst.d/dracut", version]),
            _ => self.run(&["update-initramfs", "-u"]),
        }
    }

    /// The files in `/boot`.
    fn boot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        // The link is as it was, wherever it leads.
        let link = self.path("boot/initrd.img");
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(self.initrd().file_name().unwrap()));
        let paths = fs::read_dir(self.path("boot")).unwrap().map(|entry| entry.unwrap().path());
        // The newest linux-base copies the kernel's configuration from its modules' directory.
        let is_of_interest = |path: &PathBuf| *path != link && *path != self.kernel_configuration();
        paths.filter(is_of_interest).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// The initrd, which lies in `/boot` beside the kernel alone.
    fn made(&self, output: &Output) -> Vec<u8> {
        assert!(output.status.success(), "{}{}", stdout(output), stderr(output));
        let boot = self.boot();
        assert_eq!(boot.keys().collect::<Vec<_>>(), [&self.initrd(), &self.kernel()]);
        boot[&self.initrd()].clone()
    }

    /// The same, made by ocinitrd and by nobody after it, once.
    fn made_by_ours(&self, output: &Output) -> Vec<u8> {
        let initrd = self.made(output);
        assert_ours(&initrd);
        let said = format!("{}{}", stdout(output), stderr(output));
        assert_eq!(said.matches("initrd for ").count(), 1, "{said}");
        assert_eq!(fs::metadata(self.initrd()).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(self.record().exists(), "{said}");
        initrd
    }
}

/// With a generator of Debian's: whoever is asked makes the initrd, and nobody else's stays.
fn whoever_is_asked_makes_the_initrd(distribution: Distribution, generator: Generator) {
    let mut host = Debian::new(distribution, generator);
    host.has_hooks = false;
    let without_us = host.made(&host.install());
    match generator {
        Generator::Dracut => assert_dracut_s(&without_us),
        _ => assert!(!without_us.starts_with(&fs::read(base().join("base.cpio.zst")).unwrap())),
    }
    // Not asked for, our hooks change nothing and say nothing.
    let said_without = stderr(&host.install());
    host.has_hooks = true;
    for text in ["# initrd_generator=ocinitrd\n", "layout=bls\ninitrd_generator=ocinitrd\n"] {
        host.install_conf(text);
        let output = host.install();
        assert!(host.made(&output) == without_us && stderr(&output) == said_without, "{text:?}: {}", stderr(&output));
    }
    assert!(host.made(&host.update()) == without_us && !host.record().exists());

    host.ask();
    let ours = host.made_by_ours(&host.install());
    // It lives through what other packages have made again.
    assert!(host.made_by_ours(&host.update()) == ours);
    // An upgrade's removal, and what is no configuration, are nothing to a hook.
    for (script, parameters) in [("postinst", "abort-upgrade"), ("postrm", "upgrade")] {
        let output = host.hooks(script, &[parameters, "1"]);
        assert!(host.made(&output) == ours && host.record().exists(), "{script} {parameters}");
    }

    // What cannot be made is an error, and the initrd that the generator has just written stays.
    host.remove_base();
    let outputs = [host.install(), host.update()];
    assert!(!outputs[0].status.success());
    // That dracut reports a hook's failure and goes on.
    assert!(!outputs[1].status.success() || (distribution, generator) == (Distribution::Trixie, Generator::Dracut));
    for output in outputs {
        let said = stderr(&output);
        assert!(said.contains("making an initrd for ") && said.contains("there is no base in "), "{said}");
    }
    assert!(host.boot()[&host.initrd()] == without_us);
    host.configure("on_failure = \"dracut\"");
    // initramfs-tools removes now what it left when a hook failed.
    let output = host.update();
    assert!(stderr(&output).contains("that another generator has written stays"), "{}", stderr(&output));
    assert!(host.made(&output) == without_us && !host.record().exists());
    host.add_base();
    host.configure("");
    assert!(host.made_by_ours(&host.update()) == ours);

    // The way back: the line goes, and the initrd is made again.
    host.install_conf("");
    assert!(host.made(&host.update()) == without_us && !host.record().exists());
    host.ask();
    host.made_by_ours(&host.install());
    host.remove();
    assert!(host.boot().is_empty() && !host.record().exists());
}

#[test]
fn whoever_is_asked_makes_the_initrd_beside_initramfs_tools() {
    whoever_is_asked_makes_the_initrd(Distribution::Trixie, Generator::InitramfsTools);
}

#[test]
fn whoever_is_asked_makes_the_initrd_beside_dracut() {
    whoever_is_asked_makes_the_initrd(Distribution::Trixie, Generator::Dracut);
}

#[test]
#[ignore = "the newest of an archive that changes every day: part of make test-matrix"]
fn whoever_is_asked_makes_the_initrd_beside_the_newest_dracut() {
    whoever_is_asked_makes_the_initrd(Distribution::Sid, Generator::Dracut);
}

#[test]
fn initramfs_tools_writes_its_own_into_other_places() {
    let host = Debian::new(Distribution::Trixie, Generator::InitramfsTools);
    host.ask();
    let ours = host.made_by_ours(&host.install());
    let (_, version) = unpacked_kernel();
    let script = format!("update-initramfs -c -k {version} -b /tmp && cp /tmp/initrd.img-{version} /boot/theirs");
    let output = host.run(&["sh", "-c", &script]);
    assert!(output.status.success(), "{}", stderr(&output));
    let boot = host.boot();
    assert!(boot[&host.initrd()] == ours && boot[&host.path("boot/theirs")] != ours);
}

#[test]
fn without_any_other_generator_ours_is_made_replaced_and_removed() {
    let mut host = Debian::new(Distribution::Trixie, Generator::Nobody);
    let output = host.install();
    assert!(output.status.success() && !host.boot().contains_key(&host.initrd()), "{}", stderr(&output));
    // The directory of drop-ins says the same.
    let drop_in = host.path("state/etc/kernel/install.conf.d/90-ocinitrd.conf");
    fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
    fs::write(drop_in, "initrd_generator=ocinitrd\n").unwrap();
    let ours = host.made_by_ours(&host.install());
    host.configure("files = [\"/etc/debian_version\"]");
    assert!(host.made_by_ours(&host.install()) != ours, "a package of the same version replaces it");
    // By hand, as docs/host.md says.
    host.configure("");
    assert!(host.made_by_ours(&host.run(&["/etc/kernel/postinst.d/ocinitrd", unpacked_kernel().1])) == ours);
    // Without the program its hooks stay until the package is purged: one says so, the other removes what is ours.
    host.has_program = false;
    let output = host.install();
    assert!(
        host.made(&output) == ours && stderr(&output).contains("and ocinitrd is not installed"),
        "{}",
        stderr(&output)
    );
    host.remove();
    assert!(!host.boot().contains_key(&host.initrd()) && !host.record().exists());
}

#[test]
fn what_another_wrote_stays_when_the_kernel_goes_and_nothing_is_told_of_it() {
    let host = Debian::new(Distribution::Trixie, Generator::Nobody);
    host.ask();
    host.made_by_ours(&host.install());
    let leftover = host.path(&format!("boot/.initrd.img-{}.aBc123", unpacked_kernel().1));
    fs::write(&leftover, "when the power failed").unwrap();
    fs::write(host.initrd(), "by hand").unwrap();
    host.remove();
    assert_eq!(fs::read(host.initrd()).unwrap(), b"by hand");
    assert!(!leftover.exists() && !host.record().exists());
}
