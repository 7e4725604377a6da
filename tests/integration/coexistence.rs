//! Our plugins of kernel-install(8) beside dracut's, both real, with the real kernel-install of newer distributions in a container.
//!
//! The boot partition, the configuration, the base and the kernel are directories here; whoever made an initrd is told by its contents.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::container_host::{Configuration, Host};
use crate::distribution::Distribution;
use crate::fixture::{checkout, ocinitrd, sha256, stderr, stdout, succeed};
use crate::host_machine::{TOKEN, base, unpacked_kernel};
use crate::uki::{inspected, section};

/// What the plugin of dracut 055 does, as far as it matters: it asks nobody whether it is wanted, knows no staging area, and writes into
/// the entry's directory.
const OLD_DRACUT_PLUGIN: &str = "\
#!/bin/bash
[[ -d $3 ]] && initrd=$3/initrd || initrd=/boot/initramfs-$2.img
case $1 in
add) exec dracut -f \"$initrd\" \"$2\" ;;
remove) rm -f -- \"$initrd\" ;;
esac
";

/// The files of a boot partition by their paths.
type Boot = BTreeMap<PathBuf, Vec<u8>>;

impl Host {
    /// One with our plugins and a base, as docs/host.md says.
    fn with_ours(distribution: Distribution) -> Self {
        let host = Host::new(distribution, Configuration::ReadOnly);
        host.add_plugins();
        host.add_base();
        host.configure("");
        host
    }

    fn remove_base(&self) {
        fs::remove_dir_all(self.path("lib/bases/offline")).unwrap();
    }

    /// The container is no machine that could be looked at.
    fn configure(&self, lines: &str) {
        fs::write(self.path("ocinitrd/host.toml"), format!("scope = \"generic\"\n{lines}\n")).unwrap();
    }

    fn install_conf(&self, lines: &str) {
        fs::write(self.path("kernel/install.conf"), format!("{lines}\n")).unwrap();
    }

    /// A plugin of the administrator's, which takes the place of the distribution's of the same name.
    fn add_old_dracut_plugin(&self) {
        let path = self.path("kernel/install.d/50-dracut.install");
        fs::write(&path, OLD_DRACUT_PLUGIN).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `kernel-install add`, which succeeds; returns what is on the boot partition then.
    fn added(&self) -> Boot {
        let output = self.add();
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
        self.boot()
    }

    /// Nothing is left by `kernel-install remove`.
    fn remove(&self) {
        let output = self.kernel_install(&["remove", unpacked_kernel().1]);
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
        let left: Vec<PathBuf> = self.boot().into_keys().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    fn boot(&self) -> Boot {
        let mut boot = Boot::new();
        collect(&self.path("boot"), Path::new(""), &mut boot);
        boot
    }
}

/// Insists that a boot partition holds what is expected, else says what differs.
fn assert_same(found: &Boot, expected: &Boot, what: &str) {
    let paths: BTreeSet<&PathBuf> = found.keys().chain(expected.keys()).collect();
    for path in paths {
        let (Some(one), Some(other)) = (found.get(path), expected.get(path)) else {
            panic!("{what}: {} is in one of them only", path.display());
        };
        if one != other {
            let place = tempfile::tempdir().unwrap();
            let files = [place.path().join("found"), place.path().join("expected")];
            fs::write(&files[0], one).and_then(|()| fs::write(&files[1], other)).unwrap();
            let told = stdout(&ocinitrd().arg("diff").args(files).output().unwrap());
            panic!("{what}: {} differs\n{told}", path.display());
        }
    }
}

/// Adds the files below `root` in `directory`.
fn collect(root: &Path, directory: &Path, boot: &mut Boot) {
    for entry in fs::read_dir(root.join(directory)).unwrap().map(Result::unwrap) {
        let path = directory.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            collect(root, &path, boot);
        } else {
            boot.insert(path, fs::read(entry.path()).unwrap());
        }
    }
}

/// The files of an entry that is a file with a kernel and an initrd beside it; nothing else is there.
fn initrd_of(boot: &Boot) -> &[u8] {
    let (_, version) = unpacked_kernel();
    let directory = Path::new(TOKEN).join(version);
    let entry = Path::new("loader/entries").join(format!("{TOKEN}-{version}.conf"));
    let expected = [directory.join("initrd"), directory.join("linux"), entry.clone()];
    assert_eq!(boot.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    let text = String::from_utf8_lossy(&boot[&entry]);
    let initrds: Vec<&str> = text.lines().filter(|line| line.starts_with("initrd")).collect();
    assert!(initrds.len() == 1 && initrds[0].ends_with(&format!("/{version}/initrd")), "{text}");
    &boot[&expected[0]]
}

/// The paths in an initrd.
fn listed(initrd: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), initrd).unwrap();
    succeed(ocinitrd().args(["inspect", "--list"]).arg(file.path()))
}

/// Insists that ocinitrd made it, of the base and the modules of the kernel.
pub fn assert_ours(initrd: &[u8]) {
    let segment = fs::read(base().join("base.cpio.zst")).unwrap();
    assert!(initrd.starts_with(&segment), "it does not begin with the base");
    let listed = listed(initrd);
    assert!(!listed.contains("dracut"), "{listed}");
    assert!(
        listed.contains(&format!("usr/lib/modules/{}/", unpacked_kernel().1)) && listed.contains("/virtio_blk.ko"),
        "{listed}"
    );
}

/// Insists that dracut made it.
pub fn assert_dracut_s(initrd: &[u8]) {
    let listed = listed(initrd);
    assert!(listed.contains(" usr/lib/dracut/build-parameter.txt\n"), "{listed}");
}

/// The one unified kernel image that is there, as `uki inspect` tells it.
fn image_of(host: &Host, boot: &Boot) -> Value {
    let path = Path::new("EFI/Linux").join(format!("{TOKEN}-{}.efi", unpacked_kernel().1));
    assert_eq!(boot.keys().collect::<Vec<_>>(), [&path]);
    let file = host.path("boot").join(path);
    succeed(ocinitrd().args(["uki", "verify"]).arg(&file));
    inspected(&file)
}

/// The initrd in it, as binutils extract it.
fn initrd_in_image(host: &Host, boot: &Boot) -> Vec<u8> {
    let initrd = host.path("initrd");
    let path = boot.keys().next().unwrap();
    let mut copy = Command::new("objcopy");
    succeed(copy.args(["-O", "binary", "--only-section=.initrd"]).arg(host.path("boot").join(path)).arg(&initrd));
    fs::read(initrd).unwrap()
}

fn who_is_named_makes_the_initrd(distribution: Distribution) {
    let host = Host::new(distribution, Configuration::ReadOnly);
    let without_us = host.added();
    assert_dracut_s(initrd_of(&without_us));
    // Not asked for, our plugins change nothing.
    host.add_plugins();
    host.add_base();
    host.configure("");
    assert_same(&host.added(), &without_us, "the generator is not set");

    host.install_conf("layout=bls\ninitrd_generator=ocinitrd");
    let ours = host.added();
    assert_ours(initrd_of(&ours));

    // What cannot be made leaves what is there.
    host.remove_base();
    let output = host.add();
    assert!(!output.status.success() && stderr(&output).contains("there is no base in "), "{}", stderr(&output));
    assert_same(&host.boot(), &ours, "the earlier entry is whole");
    host.configure("on_failure = \"dracut\"");
    let output = host.add();
    assert!(output.status.success() && stderr(&output).contains("dracut makes one instead"), "{}", stderr(&output));
    assert_same(&host.boot(), &without_us, "dracut's, as if ours were not there");

    host.add_base();
    assert_same(&host.added(), &ours, "ours again");
    host.install_conf("layout=bls");
    assert_same(&host.added(), &without_us, "dracut's again");
    host.remove();
}

#[test]
fn who_is_named_makes_the_initrd_with_systemd_257() {
    who_is_named_makes_the_initrd(Distribution::Trixie);
}

#[test]
#[ignore = "the newest of an archive that changes every day: part of make test-matrix"]
fn who_is_named_makes_the_initrd_with_the_newest_systemd() {
    who_is_named_makes_the_initrd(Distribution::Sid);
}

#[test]
fn an_old_dracut_that_asks_nobody_does_not_get_its_initrd_into_our_entry() {
    let host = Host::with_ours(Distribution::Trixie);
    host.install_conf("layout=bls\ninitrd_generator=ocinitrd");
    let ours = host.added();
    host.add_old_dracut_plugin();
    let output = host.add();
    assert!(output.status.success() && stderr(&output).contains("dracut["), "it does run: {}", stderr(&output));
    assert_same(&host.boot(), &ours, "ours alone");

    // It makes the initrd once more when it is asked to, and nothing is left by it either.
    host.remove_base();
    host.configure("on_failure = \"dracut\"");
    assert_dracut_s(initrd_of(&host.added()));
    host.remove();

    // Where the administrator has hidden dracut's plugin it makes none by itself, and still does where ours cannot.
    let plugin = host.path("kernel/install.d/50-dracut.install");
    fs::remove_file(&plugin).unwrap();
    symlink("/dev/null", &plugin).unwrap();
    assert_dracut_s(initrd_of(&host.added()));
    host.add_base();
    let output = host.add();
    assert!(output.status.success() && !stderr(&output).contains("dracut["), "{}", stderr(&output));
    assert_same(&host.boot(), &ours, "ours alone");
}

/// Debian's hooks of kernel packages make an initrd of their own, which the plugin of Debian 12 and 13 adds to each entry, whatever
/// generator is named. Debian 12 calls it 85-initrd.install.
#[test]
fn an_initrd_of_debian_s_hooks_stays_out_of_our_entry_where_its_plugin_is_hidden() {
    let host = Host::with_ours(Distribution::Trixie);
    host.install_conf("layout=bls\ninitrd_generator=ocinitrd");
    let name = format!("initrd.img-{}", unpacked_kernel().1);
    fs::write(host.path("boot").join(&name), "of Debian's hooks").unwrap();
    let staged = |boot: &Boot| boot.keys().filter(|path| path.ends_with(&name)).count();
    let hidden = |name: &str| host.path("kernel/install.d").join(name);
    let old_name = "85-initrd.install";
    for plugin in ["55-initrd.install", old_name] {
        let output = host.add();
        let says = format!("`ln -s /dev/null /etc/kernel/install.d/{plugin}` keeps it out");
        assert!(output.status.success() && stderr(&output).contains(&says), "{}", stderr(&output));
        assert_eq!(staged(&host.boot()), 2, "that of /boot and a copy: is this said in docs/host.md for nothing?");
        symlink("/dev/null", hidden("55-initrd.install")).unwrap_or_default();
        if plugin != old_name {
            // The same by the other name.
            let copied = host.run(&["cat", "/usr/lib/kernel/install.d/55-initrd.install"]);
            fs::write(hidden(old_name), &copied.stdout).unwrap();
            fs::set_permissions(hidden(old_name), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    fs::remove_file(hidden(old_name)).unwrap();
    symlink("/dev/null", hidden(old_name)).unwrap();
    fs::remove_dir_all(host.path("boot").join(TOKEN).join(unpacked_kernel().1)).unwrap();
    let mut boot = host.added();
    assert_eq!(boot.remove(Path::new(&name)).unwrap(), b"of Debian's hooks");
    assert_ours(initrd_of(&boot));
}

/// A machine with GRUB: its plugin is a stand-in, dracut's and kernel-install are real.
fn grub_host(distribution: Distribution) -> Host {
    let host = Host::with_ours(distribution);
    fs::remove_dir(host.path("boot").join(TOKEN)).unwrap();
    let plugin = "20-grub.install";
    fs::copy(checkout().join("tests/integration/grub").join(plugin), host.path("kernel/install.d").join(plugin))
        .unwrap();
    host.install_conf("initrd_generator=ocinitrd");
    let restorecon = host.path("sbin/restorecon");
    fs::write(&restorecon, "#!/bin/sh\necho \"$@\" >>/restored/paths\n").unwrap();
    fs::set_permissions(restorecon, fs::Permissions::from_mode(0o755)).unwrap();
    host
}

fn an_entry_of_grub_s_has_whose_initrd_is_named(distribution: Distribution) {
    let host = grub_host(distribution);
    let (_, version) = unpacked_kernel();
    let initrd = PathBuf::from(format!("initramfs-{version}.img"));
    let expected = [&*initrd, &Path::new("loader/entries").join(format!("{TOKEN}-{version}.conf"))].map(Path::to_owned);
    let expected = [&expected[..], &[PathBuf::from(format!("vmlinuz-{version}"))]].concat();
    let ours = host.added();
    assert_eq!(ours.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert_ours(&ours[&initrd]);
    let mode = || fs::metadata(host.path("boot").join(&initrd)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o600);
    assert_eq!(fs::read_to_string(host.path("restored/paths")).unwrap(), format!("/boot/{}\n", initrd.display()));

    // What cannot be made leaves what is there, or is dracut's.
    host.remove_base();
    assert_eq!(host.add().status.code(), Some(1));
    assert_same(&host.boot(), &ours, "the earlier initrd is whole");
    host.configure("on_failure = \"dracut\"");
    assert_dracut_s(&host.added()[&initrd]);
    assert_eq!(mode(), 0o600);
    host.add_base();
    host.configure("");
    assert_same(&host.added(), &ours, "ours again");

    // A dracut that somebody starts meanwhile leaves its initrd, or ours.
    let both = format!(
        "dracut -q -f /boot/{} {version} & kernel-install --boot-path=/boot --esp-path=/boot add {version} \
         /usr/lib/modules/{version}/vmlinuz; code=$?; wait; exit $code",
        initrd.display()
    );
    let output = host.run(&["bash", "-c", &both]);
    assert!(output.status.success(), "{}", stderr(&output));
    let found = &host.boot()[&initrd];
    if found != &ours[&initrd] {
        assert_dracut_s(found);
    }
    assert_same(&host.added(), &ours, "ours again");
    host.remove();
}

#[test]
fn an_entry_of_grub_s_has_whose_initrd_is_named_with_systemd_257() {
    an_entry_of_grub_s_has_whose_initrd_is_named(Distribution::Trixie);
}

#[test]
#[ignore = "the newest of an archive that changes every day: part of make test-matrix"]
fn an_entry_of_grub_s_has_whose_initrd_is_named_with_the_newest_systemd() {
    an_entry_of_grub_s_has_whose_initrd_is_named(Distribution::Sid);
}

/// dracut's plugin for it steps back where another generator is named; docs/host.md says how it is called.
#[test]
fn dracut_s_rescue_entry_can_be_made_and_stays() {
    let host = grub_host(Distribution::Trixie);
    fs::write(host.path("dracut.conf.d/rescue.conf"), "dracut_rescue_image=\"yes\"\n").unwrap();
    let (_, version) = unpacked_kernel();
    host.added();
    let docs = fs::read_to_string(checkout().join("docs/host.md")).unwrap();
    let command = docs.lines().find(|line| line.contains("51-dracut-rescue.install add")).expect("docs/host.md has it");
    let command = command.trim_start_matches("# ").replace("$(uname -r)", version);
    let output = host.run(&["bash", "-c", &command]);
    assert!(output.status.success(), "{command}: {}", stderr(&output));
    let is_rescue = |path: &PathBuf| path.to_string_lossy().contains("0-rescue");
    let rescue = |boot: Boot| boot.into_iter().filter(|(path, _)| is_rescue(path)).collect::<Boot>();
    let made = rescue(host.boot());
    assert_eq!(made.len(), 3, "{:?}", made.keys());
    assert_dracut_s(&made[Path::new(&format!("initramfs-0-rescue-{TOKEN}.img"))]);
    let entry =
        String::from_utf8_lossy(&made[Path::new(&format!("loader/entries/{TOKEN}-0-rescue.conf"))]).into_owned();
    assert!(entry.contains(&format!("/initramfs-0-rescue-{TOKEN}.img\n")), "{entry}");
    assert_same(&rescue(host.added()), &made, "the rescue entry");
    let output = host.kernel_install(&["remove", version]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_same(&host.boot(), &made, "the rescue entry alone");
}

/// systemd 261 and newer names entries by entry_name_format.
#[test]
#[ignore = "the newest of an archive that changes every day: part of make test-matrix"]
fn entries_may_have_names_of_their_own_with_the_newest_systemd() {
    let host = Host::with_ours(Distribution::Sid);
    let generators = "initrd_generator=ocinitrd\nuki_generator=ocinitrd\nentry_name_format=mine-%v";
    host.install_conf(&format!("layout=uki\n{generators}"));
    let boot = host.added();
    let path = Path::new("EFI/Linux").join(format!("mine-{}.efi", unpacked_kernel().1));
    assert_eq!(boot.keys().collect::<Vec<_>>(), [&path]);
    host.remove();
    host.install_conf(&format!("layout=bls\n{generators}"));
    let entry = Path::new("loader/entries").join(format!("mine-{}.conf", unpacked_kernel().1));
    assert!(host.added().contains_key(&entry));
    host.remove();
}

fn unified_kernel_images_hold_whose_initrd_is_named(distribution: Distribution) {
    let host = Host::with_ours(distribution);
    host.install_conf("layout=bls\ninitrd_generator=ocinitrd");
    let ours = host.added();
    assert_ours(initrd_of(&ours));
    let initrd = sha256(&host.path("boot").join(TOKEN).join(unpacked_kernel().1).join("initrd"));
    host.remove();

    host.install_conf("layout=uki\ninitrd_generator=ocinitrd\nuki_generator=ocinitrd");
    let boot = host.added();
    let image = image_of(&host, &boot);
    assert_eq!(section(&image, ".initrd")["sha256"], initrd);
    assert_eq!(section(&image, ".cmdline")["text"], format!("root=LABEL=root rw systemd.machine_id={TOKEN}"));
    assert_eq!(section(&image, ".uname")["text"], unpacked_kernel().1);

    // ukify takes our initrd as well, and ours takes dracut's.
    host.install_conf("layout=uki\ninitrd_generator=ocinitrd\nuki_generator=ukify");
    let of_ukify = host.added();
    assert!(of_ukify != boot && section(&image_of(&host, &of_ukify), ".initrd")["sha256"] == initrd);
    host.install_conf("layout=uki\nuki_generator=ocinitrd");
    assert_dracut_s(&initrd_in_image(&host, &host.added()));

    host.install_conf("layout=uki\ninitrd_generator=ocinitrd\nuki_generator=ocinitrd");
    assert_same(&host.added(), &boot, "the same again");
    // Where no image can be made, the one that is there stays.
    host.remove_base();
    let output = host.add();
    assert!(!output.status.success(), "{}", stderr(&output));
    assert_same(&host.boot(), &boot, "the earlier image is whole");
    // With another layout the image stays beside the new entry, until both go.
    host.add_base();
    host.install_conf("layout=bls\ninitrd_generator=ocinitrd");
    assert_same(&host.added(), &boot.into_iter().chain(ours).collect(), "both entries");
    host.remove();
}

#[test]
fn unified_kernel_images_hold_whose_initrd_is_named_with_systemd_257() {
    unified_kernel_images_hold_whose_initrd_is_named(Distribution::Trixie);
}

#[test]
#[ignore = "the newest of an archive that changes every day: part of make test-matrix"]
fn unified_kernel_images_hold_whose_initrd_is_named_with_the_newest_systemd() {
    unified_kernel_images_hold_whose_initrd_is_named(Distribution::Sid);
}
