//! The rpms of `packaging/ocinitrd.spec`: built by rpmbuild in the builder image, installed by its dnf into a tree, where
//! kernel-install of the offline repository runs their plugins. What a compiler makes comes ready (`--with prebuilt`), since that
//! image has none; the bases and images of kernels are built there in place. The program is compiled by rpmbuild in a test of its
//! own. And Debian's package, on Debian.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::distribution::Distribution;
use crate::fixture::{builder, checkout, fail, names, ocinitrd, offline_directory, stdout, succeed};
use crate::host_machine::{base, locked_kernel, unpacked_kernel};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What each script begins with: how dnf and rpmbuild are called, for the tree `$tree`.
const PRELUDE: &str = r#"
set -euo pipefail
tree=/tree
# What one release builds in place the next takes.
export XDG_CACHE_HOME=/var/tmp/cache
dnf() { SYSTEMD_HWDB_UPDATE_BYPASS=1 dnf5 -y --config=/rpmbuild/dnf.conf --installroot=$tree --releasever=44 --use-host-config "$@" 2>&1; }
rpms() { find "/rpmbuild/rpms-$1" -name '*.rpm'; }
configure() { mkdir -p $tree/etc/kernel; printf '%s\n' BOOT_ROOT=/boot "$@" > $tree/etc/kernel/install.conf; }
# build RELEASE KERNEL. rpm 6 writes the format of rpm 4 in Fedora too; the offline repository does not know versions of symbols.
build() {
    rpmbuild -bb --nodeps --with prebuilt --with initrds --define "_topdir /rpmbuild" --define "_rpmdir /rpmbuild/rpms-$1" \
        --define "autorelease $1" --define "kernel_version $2" --define 'variants generic' --define 'rpm_dir /offline/repo/Packages' \
        --define '_rpmformat 4' --define '_binary_payload w1.zstdio' \
        --define '__requires_exclude ^rtld|^(lib[a-z_-]+|ld-linux.*)[.]so[.][0-9]+[(][A-Z]' /rpmbuild/ocinitrd.spec > /rpmbuild/build.log 2>&1 \
        || { tail -n 40 /rpmbuild/build.log; exit 1; }
}
"#;

const DNF_CONF: &str = "[main]\ngpgcheck=0\ninstall_weak_deps=0\nclean_requirements_on_remove=0\nreposdir=/none\n\
                        [offline]\nname=offline\nbaseurl=file:///offline/repo\n";

/// A container of the builder image with a directory of the test's at `/rpmbuild`.
struct Container {
    name: String,
    work: tempfile::TempDir,
}

impl Container {
    fn start(purpose: &str) -> Self {
        let work = tempfile::tempdir().unwrap();
        let container = Container { name: format!("ocinitrd-test-{purpose}-{}", std::process::id()), work };
        let mut command = crate::fixture::container();
        command.args(["--detach", "--cap-add=SYS_ADMIN", "--name", &container.name]);
        command.arg(format!("--volume={}:/rpmbuild", container.work.path().display()));
        command.arg(format!("--volume={}:/offline:ro", fs::canonicalize(offline_directory()).unwrap().display()));
        // Of tests that are killed nothing stays for long.
        succeed(command.args([&builder("dnf5"), "sleep", "1800"]));
        fs::write(container.work.path().join("dnf.conf"), DNF_CONF).unwrap();
        container
    }

    /// Runs a script to its end and insists on success; returns what it printed.
    fn run(&self, script: &str) -> String {
        let script = format!("{PRELUDE}{script}");
        succeed(Command::new("podman").args(["exec", &self.name, "bash", "-c", &script]))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("podman").args(["rm", "--force", "--time=0", &self.name]).output();
    }
}

/// The program, stripped as rpmbuild would, and its pages and completions, as `make build` leaves them.
fn built() -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY
        .get_or_init(|| {
            let directory = checkout().join("target/test-output/packages");
            let _ = fs::remove_dir_all(&directory);
            ocinitrd_manual::write(&directory.join("manual")).unwrap();
            succeed(Command::new("strip").arg(ocinitrd().get_program()).arg("-o").arg(directory.join("ocinitrd")));
            directory
        })
        .clone()
}

/// `make install` without make's check for what is built.
fn install(destination: &Path, prefix: &str) {
    let mut command = Command::new("scripts/install.sh");
    command.arg(built().join("ocinitrd")).arg(built().join("manual")).current_dir(checkout());
    succeed(command.env("DESTDIR", destination).env("PREFIX", prefix));
}

/// A checkout whose variants are of the offline image, with the lock of one of them, for the newest kernel and this one.
fn provide_checkout(directory: &Path, kernel: &str) {
    fs::create_dir_all(directory).unwrap();
    let listed = "README.md CHANGELOG.md LICENSE docs images packaging scripts";
    succeed(Command::new("cp").arg("-r").args(listed.split(' ')).arg(directory).current_dir(checkout()));
    let offline = directory.join("target/offline");
    fs::create_dir_all(&offline).unwrap();
    succeed(Command::new("cp").arg("-r").args(["builder.toml", "keys"]).arg(&offline).current_dir(offline_directory()));
    std::os::unix::fs::symlink(fs::canonicalize(offline_directory().join("repo")).unwrap(), offline.join("repo"))
        .unwrap();
    // What is of Fedora in the definitions is of the offline image here.
    let image = fs::read_to_string(directory.join("images/offline.toml")).unwrap();
    let part: Vec<&str> = image.lines().filter(|line| !line.starts_with("default_profiles")).collect();
    let part = part.join("\n").replace("\"parts/", "\"").replace("\"../target", "\"../../target");
    fs::write(directory.join("images/parts/fedora-44.toml"), part).unwrap();
    for kernel in [&[][..], &["-k", kernel]] {
        let mut lock = ocinitrd();
        lock.arg("lock").arg(directory.join("packaging/initrds.toml")).args(["--profile", "lvm,raid,vconsole"]);
        succeed(lock.args(kernel));
    }
}

/// Puts the sources and the spec into the directory of a container.
fn provide_sources(work: &Path, kernel: &str) {
    let name = format!("ocinitrd-{VERSION}");
    let (sources, prebuilt) = (work.join("SOURCES"), work.join("prebuilt"));
    fs::create_dir_all(&sources).unwrap();
    fs::create_dir(&prebuilt).unwrap();
    provide_checkout(&work.join(&name), kernel);
    succeed(Command::new("cp").arg("-r").arg(built().join("ocinitrd")).arg(built().join("manual")).arg(&prebuilt));
    for (archive, directory) in
        [(format!("{name}.tar.gz"), name.as_str()), (format!("{name}-prebuilt.tar"), "prebuilt")]
    {
        succeed(Command::new("tar").arg("-caf").arg(sources.join(archive)).arg("-C").arg(work).arg(directory));
    }
    fs::copy(work.join(&name).join("packaging/initrds.lock"), sources.join("initrds.lock")).unwrap();
    let spec = fs::read_to_string(checkout().join("packaging/ocinitrd.spec")).unwrap();
    assert!(spec.contains(&format!("\nVersion:        {VERSION}\n")), "the version of the spec is another");
    let entry = format!("* Thu Jan 01 2026 Tests <tests@example.org> - {VERSION}-2\n- Built for the tests.");
    fs::write(work.join("ocinitrd.spec"), spec.replace("%{?autochangelog}", &entry)).unwrap();
}

/// rpmlint says nothing but what `packaging/ocinitrd.rpmlintrc` has the reasons of.
fn lint(work: &Path) {
    let mut rpmlint = Command::new("rpmlint");
    rpmlint.arg("--rpmlintrc").arg(checkout().join("packaging/ocinitrd.rpmlintrc")).arg(work.join("ocinitrd.spec"));
    for directory in ["noarch", "x86_64"] {
        let directory = work.join("rpms-2").join(directory);
        rpmlint.args(names(&directory).iter().map(|name| directory.join(name)));
    }
    let said = stdout(&rpmlint.output().unwrap());
    // What one version of rpmlint says and another does not leaves a filter without use.
    let is_finding = |line: &&str| [": E: ", ": W: "].iter().any(|mark| line.contains(mark));
    let mut findings = said.lines().filter(is_finding).filter(|line| !line.contains("unused-rpmlintrc-filter"));
    assert!(said.contains("4 packages and 1 specfiles checked") && findings.next().is_none(), "{said}");
}

/// The places of kernel images and entries below `/boot`.
const ENTRIES: &str = "cd $tree/boot; find . -type f | sed \"s/$(cat $tree/etc/machine-id)/TOKEN/g\" | sort";

#[test]
fn rpms_that_rpmlint_likes_are_installed_upgraded_and_removed_and_their_plugin_makes_the_entry_of_a_kernel() {
    let container = Container::start("rpms");
    let work = container.work.path();
    let (kernel, rpms) = locked_kernel();
    let kernel_rpm = &rpms["kernel-core"];
    let listed = container.run(
        "rpm -qp --nosignature --provides /offline/repo/Packages/kernel-modules-core-*.rpm | sed -n 's/^kernel-modules-core-uname-r = //p'",
    );
    let earlier = listed.lines().find(|line| *line != kernel).expect("the repository has two kernels");
    provide_sources(work, earlier);
    container.run(&format!("build 1 {earlier}; build 3 {kernel}; build 2 {kernel}"));
    lint(work);

    container.run("mkdir -p $tree/proc $tree/dev; mount --rbind /proc $tree/proc; mount --rbind /dev $tree/dev");
    let said = container.run("mkdir -p /etc/rpm; echo '%_netsharedpath /proc:/sys:/dev' > /etc/rpm/macros.test; configure; dnf install $(rpms 1)");
    assert!(!said.contains("scriptlet failed"), "{said}");
    let verify = "for name in $(rpm --root $tree -qa 'ocinitrd*'); do rpm --root $tree -V $name; done";
    assert_eq!(container.run(verify), "");
    let image = |kernel: &str| format!("./EFI/Linux/TOKEN-{kernel}.efi\n");
    assert_eq!(container.run(ENTRIES), image(earlier));
    assert!(container.run("chroot $tree ocinitrd --version").contains(VERSION));

    let said = container.run("dnf upgrade $(rpms 2)");
    assert!(!said.contains("scriptlet failed"), "{said}");
    assert_eq!(container.run(verify), "");
    assert_eq!(
        container.run("rpm --root $tree -q ocinitrd ocinitrd-kernel-install ocinitrd-initrd-generic | wc -l"),
        "3\n"
    );
    // Images of kernels are installed beside each other. One that was built again has the place until it goes.
    let both = format!("{}{}", image(earlier), image(&kernel));
    assert_eq!(container.run(ENTRIES), both);
    container.run("dnf install $(rpms 3 | grep uki)");
    container.run("dnf remove ocinitrd-uki-generic-$(rpm --root $tree -q --qf '%{VERSION}-%{RELEASE}\\n' ocinitrd-uki-generic | tail -n 1)");
    assert_eq!(container.run(ENTRIES), both);
    container.run("dnf remove ocinitrd-uki-generic-*-1");
    assert_eq!(container.run(ENTRIES), image(&kernel));

    // An initrd of the base that was installed, whose configuration says which.
    container.run(&format!(
        "configure layout=bls initrd_generator=ocinitrd; echo root=LABEL=root > $tree/etc/kernel/cmdline
        echo 'scope = \"generic\"' > $tree/etc/ocinitrd/host.toml; mkdir $tree/boot/$(cat $tree/etc/machine-id)
        # Its scriptlets would have dracut make an initrd.
        rpm --root $tree -i --nodeps --noscripts --nosignature /offline/repo/Packages/{kernel_rpm}
        chroot $tree kernel-install add {kernel} /usr/lib/modules/{kernel}/vmlinuz"
    ));
    let entries = container.run(ENTRIES);
    for path in [format!("./TOKEN/{kernel}/initrd"), format!("./loader/entries/TOKEN-{kernel}.conf")] {
        assert!(entries.lines().any(|line| line == path), "{path}: {entries}");
    }
    let entry = container.run("cat $tree/boot/loader/entries/*.conf");
    assert!(entry.contains(&format!("/{kernel}/initrd\n")) && entry.contains("root=LABEL=root"), "{entry}");
    let inside = container.run("chroot $tree sh -c 'ocinitrd inspect --list /boot/*/*/initrd' | grep -c virtio_blk.ko");
    assert_eq!(inside, "1\n");

    // What the packages brought goes with them, and the entry of the image that they placed.
    container.run("rm $tree/etc/ocinitrd/host.toml");
    container.run(&format!("chroot $tree kernel-install remove {kernel}"));
    let said = container.run("dnf remove 'ocinitrd*'");
    assert!(!said.contains("scriptlet failed"), "{said}");
    assert_eq!(container.run("find $tree/etc $tree/usr $tree/var -name '*ocinitrd*'"), "");
    let entries = container.run(ENTRIES);
    assert!(!entries.contains(".efi"), "{entries}");
}

#[test]
#[ignore = "compiles everything twice, optimized: part of make test-matrix"]
fn the_program_is_compiled_and_tested_by_rpmbuild_of_its_sources_and_nothing_else() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name);
    succeed(Command::new("scripts/sources.sh").arg(path("SOURCES")).current_dir(checkout()));
    // Of what is committed, by the spec that is here. With no network but its own loopback, as in koji, and without crates that
    // somebody has fetched before.
    let mut build = Command::new("unshare");
    build.args(["--map-root-user", "--net", "sh", "-c", r#"ip link set lo up && exec "$@""#, "sh"]);
    build
        .args(["rpmbuild", "-bb", "--nodeps", "--define", "dist %{nil}", "--define", "autorelease 1", "--define"])
        .arg(format!("_topdir {}", work.path().display()));
    build
        .arg(checkout().join("packaging/ocinitrd.spec"))
        .env("CARGO_HOME", path("cargo"))
        .env_remove("CARGO_TARGET_DIR");
    let said = succeed(&mut build);
    let passed = said.split("test result: ok. ").filter_map(|text| text.split(' ').next()?.parse::<u32>().ok());
    assert!(passed.max() > Some(100), "{said}");

    for (architecture, name) in [("x86_64", "ocinitrd"), ("noarch", "ocinitrd-kernel-install")] {
        let rpm = path("RPMS").join(architecture).join(format!("{name}-{VERSION}-1.{architecture}.rpm"));
        succeed(Command::new("bsdtar").arg("-xf").arg(rpm).arg("-C").arg(work.path()));
    }
    assert_eq!(succeed(Command::new(path("usr/bin/ocinitrd")).arg("--version")), format!("ocinitrd {VERSION}\n"));
    let licenses = path("usr/share/licenses/ocinitrd");
    let read = |name: &str| fs::read_to_string(licenses.join(name)).unwrap();
    let crates = read("cargo-vendor.txt");
    assert!(crates.lines().any(|line| line.starts_with("bollard v")), "{crates}");
    // Each with its licence, and the program itself.
    assert_eq!(read("LICENSE.dependencies").lines().count(), crates.lines().count() + 1);
    // What it brings beside them is what the program brings that was built elsewhere.
    install(&path("expected"), "/usr");
    for directory in ["usr/share/man/man1", "usr/lib/kernel/install.d", "usr/share/ocinitrd/images"] {
        let uncompressed = |name: String| name.trim_end_matches(".gz").to_owned();
        let brought: Vec<String> = names(&path(directory)).into_iter().map(uncompressed).collect();
        assert_eq!(brought, names(&path("expected").join(directory)), "{directory}");
    }
}

#[test]
fn what_make_installs_is_found_where_it_is_and_has_its_images() {
    let place = tempfile::tempdir().unwrap();
    install(place.path(), "/usr/local");
    let prefix = place.path().join("usr/local");
    let pages = names(&prefix.join("share/man/man1"));
    assert!(pages.contains(&"ocinitrd.1".to_owned()) && pages.contains(&"ocinitrd-uki-sign.1".to_owned()), "{pages:?}");
    for path in ["bash-completion/completions/ocinitrd.bash", "zsh/site-functions/_ocinitrd", "doc/ocinitrd/host.md"] {
        assert!(prefix.join("share").join(path).is_file(), "{path}");
    }
    // Scriptlets have a path without /usr/local.
    for plugin in names(&place.path().join("etc/kernel/install.d")) {
        let text = fs::read_to_string(place.path().join("etc/kernel/install.d").join(&plugin)).unwrap();
        assert!(text.contains("exec /usr/local/bin/ocinitrd kernel-install "), "{plugin}: {text}");
    }

    // Hooks of kernel packages are Debian's, where others run what lies there for other ends.
    assert!(!place.path().join("etc/kernel/postinst.d").exists());
    fs::write(place.path().join("etc/debian_version"), "13.0\n").unwrap();
    install(place.path(), "/usr/local");
    for hook in ["kernel/postinst.d", "kernel/postrm.d", "initramfs/post-update.d"] {
        let path = place.path().join("etc").join(hook).join("ocinitrd");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains("\nprogram=ocinitrd\n"), "{text}");
        assert!(hook.ends_with("postrm.d") || text.contains("\nprogram=/usr/local/bin/ocinitrd\n"), "{text}");
    }

    // An image by its name, where no checkout is: its lock would be where the user is.
    let here = tempfile::tempdir().unwrap();
    let installed = |arguments: &[&str]| {
        let mut command = Command::new(prefix.join("bin/ocinitrd"));
        command.args(arguments).current_dir(here.path()).env("XDG_CACHE_HOME", here.path());
        command
    };
    let error = fail(&mut installed(&["build", "centos-stream-10", "--locked"]));
    assert!(error.contains("centos-stream-10.lock") && !error.contains("images/centos"), "{error}");
    let error = fail(&mut installed(&["build", "other"]));
    assert!(error.contains("those there are: centos-stream-10, fedora-44"), "{error}");
}

#[test]
fn manual_pages_are_what_mandoc_takes_for_good_ones() {
    let pages = built().join("manual/man1");
    let mut mandoc = Command::new("mandoc");
    mandoc.args(["-T", "lint", "-W", "warning"]).args(names(&pages).iter().map(|name| pages.join(name)));
    let said = stdout(&mandoc.output().unwrap());
    let faults: Vec<&str> = said.lines().filter(|line| !line.contains("missing date")).collect();
    assert_eq!(faults, Vec::<&str>::new());
}

/// What is in the package, kernel-install's entry of a kernel by its plugin and the base beside it, and what is left at last.
const ON_DEBIAN: &str = r#"
set -eu
dpkg --path-include='/usr/share/*' --install /package/*.deb
dpkg --verify ocinitrd
ocinitrd --version
mkdir -p /boot/entries
printf '%s\n' layout=bls initrd_generator=ocinitrd BOOT_ROOT=/boot > /etc/kernel/install.conf
echo root=LABEL=root > /etc/kernel/cmdline
mkdir -p /etc/ocinitrd
echo 'scope = "generic"' > /etc/ocinitrd/host.toml
kernel-install --entry-token=literal:entries add "$KERNEL" "/usr/lib/modules/$KERNEL/vmlinuz"
cat "/boot/loader/entries/entries-$KERNEL.conf"
ocinitrd inspect --list "/boot/entries/$KERNEL/initrd" | grep virtio_blk.ko
# Where no kernel-install makes entries, hooks of kernel packages make the initrd. They are conffiles, which outlive the package.
dpkg-query --show --showformat '${Conffiles}\n' ocinitrd
for hooks in kernel/postinst.d kernel/postrm.d initramfs/post-update.d; do echo $(run-parts --list /etc/$hooks); done
echo initrd_generator=ocinitrd > /etc/kernel/install.conf
run-parts --arg="$KERNEL" /etc/initramfs/post-update.d
/etc/kernel/postinst.d/ocinitrd "$KERNEL"
ocinitrd inspect --list "/boot/initrd.img-$KERNEL" | grep virtio_blk.ko
rm -r /etc/ocinitrd
dpkg --remove ocinitrd
/etc/kernel/postrm.d/ocinitrd "$KERNEL"
[ ! -e "/boot/initrd.img-$KERNEL" ]
dpkg --purge ocinitrd
find /etc /usr -name '*ocinitrd*'
"#;

#[test]
#[ignore = "compiles cargo-deb where it is not installed: part of make test-matrix"]
fn the_package_for_debian_is_installed_there_makes_the_entry_of_a_kernel_and_is_removed() {
    let place = tempfile::tempdir().unwrap();
    let mut make = Command::new("scripts/deb.sh");
    make.arg(built().join("ocinitrd")).arg(built().join("manual")).arg(place.path().join("ocinitrd.deb"));
    succeed(make.current_dir(checkout()));
    let (root, kernel) = unpacked_kernel();
    let container = Distribution::Trixie.container(&[
        (place.path(), "/package:ro"),
        (&root.join("usr/lib/modules"), "/usr/lib/modules:ro"),
        (&base(), "/var/lib/ocinitrd/bases/offline:ro"),
    ]);
    let container = container.env("KERNEL", kernel).env("SYSTEMD_RELAX_XBOOTLDR_CHECKS", "1");
    let said = succeed(&mut container.run(&["sh", "-c", ON_DEBIAN]));
    assert!(said.contains(&format!("ocinitrd {VERSION}\n")), "{said}");
    assert!(said.contains(&format!("/{kernel}/initrd\n")) && said.contains("/virtio_blk.ko"), "{said}");
    let hooks =
        ["/etc/kernel/postinst.d/ocinitrd", "/etc/kernel/postrm.d/ocinitrd", "/etc/initramfs/post-update.d/ocinitrd"];
    assert!(hooks.iter().all(|hook| said.contains(&format!("\n {hook} "))), "conffiles: {said}");
    let order = "/etc/kernel/postinst.d/dracut /etc/kernel/postinst.d/ocinitrd /etc/kernel/postinst.d/zz-update-grub";
    assert!(said.contains(order) && said.contains("\n/etc/initramfs/post-update.d/ocinitrd\n"), "{said}");
    assert_eq!(said.matches("/virtio_blk.ko").count(), 2, "by the plugin and by the hook: {said}");
    // Of dpkg's last words, and what was found after them.
    assert!(
        said.trim_end().ends_with(&format!("Purging configuration files for ocinitrd ({VERSION}-1) ...")),
        "{said}"
    );
}
