//! `ocinitrd build`, for real: dnf in podman, from the offline repository.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::fixture::{self, fail, names, ocinitrd, succeed};

/// An images directory of its own with a definition that includes the offline one's parts.
fn image(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir_in(fixture::checkout().join("target")).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(directory.path().join("images")).unwrap();
    fs::write(directory.path().join("images/test.toml"), text).unwrap();
    directory
}

/// A small image with `extra` lines, from the repository `repository` below the offline directory.
fn small_image(builder: &str, repository: &str, packages: &str, extra: &str) -> tempfile::TempDir {
    let offline = fixture::offline_directory();
    let offline = offline.display();
    image(&format!(
        "releasever = \"44\"\n\
         [builder]\nimage = \"{}\"\n\
         [repos.offline]\nbaseurl = \"{offline}/repo\"\ngpg_keys = [\"{offline}/keys/offline.asc\"]\nrepo_gpgcheck = true\n\
         [repos.second]\nbaseurl = \"{offline}/{repository}\"\ngpg_keys = [\"{offline}/keys/offline.asc\"]\n\
         [packages]\ninstall = [{packages}]\n\
         [kernel]\npackages = [\"kernel-cloud-core\"]\nmodules = [\"ext4\", \"virtio_blk\"]\n{extra}",
        fixture::builder(builder)
    ))
}

/// The small image with `from` of its definition replaced.
fn changed_image(from: &str, to: &str) -> tempfile::TempDir {
    let image = small_image("dnf5", "repo-foreign", SMALL, "");
    let definition = image.path().join("images/test.toml");
    let text = fs::read_to_string(&definition).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&definition, text.replace(from, to)).unwrap();
    image
}

const SMALL: &str = "\"systemd\", \"systemd-udev\", \"bash\", \"util-linux-core\", \"fedora-release-common\"";

fn manifest(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap()
}

/// The error of a build that must fail, and that it leaves no output, container or temporary file.
fn build_error(directory: &Path, arguments: &[&str]) -> String {
    let error = fail(ocinitrd().args(["build", "test"]).args(arguments).current_dir(directory));
    assert_eq!(names(directory), ["images"], "{error}");
    error
}

#[test]
fn outputs_are_those_of_the_manifest_and_the_initrd_is_private() {
    let directory = fixture::offline_output();
    let manifest = manifest(&directory);
    let listed: Vec<&str> =
        manifest["outputs"].as_array().unwrap().iter().map(|o| o["path"].as_str().unwrap()).collect();
    assert!(
        listed.contains(&"initrd") && listed.contains(&"vmlinuz") && listed.contains(&"oci/index.json"),
        "{listed:?}"
    );
    for output in manifest["outputs"].as_array().unwrap() {
        let bytes = fs::read(directory.join(output["path"].as_str().unwrap())).unwrap();
        assert_eq!(output["size_bytes"], bytes.len());
        assert_eq!(output["sha256"], ocinitrd::format::digest::Digest::of(&bytes).to_string());
    }
    let mode = fs::metadata(directory.join("initrd")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(manifest["locked"], false);
    let epoch = manifest["packages"].as_array().unwrap().iter().map(|p| p["build_time"].as_u64().unwrap()).max();
    assert_eq!(manifest["epoch"].as_u64(), epoch);
}

#[test]
fn tree_is_an_initrd_for_systemd() {
    let listing = succeed(ocinitrd().args(["inspect", "--list"]).arg(fixture::offline_output().join("initrd")));
    for line in [" init -> usr/lib/systemd/systemd", " etc/initrd-release -> os-release", " usr/lib/udev/hwdb.bin"] {
        assert!(listing.contains(line), "{line}");
    }
    for absent in ["usr/lib/sysimage/rpm", "var/log/dnf", "etc/passwd-", "usr/share/doc/", "initrd-setup", "dev/null"] {
        assert!(!listing.contains(absent), "{absent} is in the initrd");
    }
}

/// Builds the small image as `variation` says and returns the outputs' digests.
fn varied(directory: &Path, name: &str, mut variation: Command) -> BTreeMap<String, Vec<u8>> {
    succeed(&mut variation);
    let output = directory.join(name);
    names(&output).into_iter().map(|file| (file.clone(), fs::read(output.join(file)).unwrap())).collect()
}

#[test]
fn same_bytes_for_root_and_rootless_and_whatever_the_surroundings() {
    assert!(fixture::is_root(), "run as root: this test compares what root and a user without rights build");
    let image = small_image("dnf5", "repo-foreign", SMALL, "");
    let directory = image.path();
    let shuffled = fs::read_to_string(directory.join("images/test.toml")).unwrap();
    let shuffled = shuffled
        .replace(SMALL, "\"fedora-release-common\", \"util-linux-core\", \"bash\", \"systemd-udev\", \"systemd\"");
    fs::write(directory.join("images/shuffled.toml"), shuffled).unwrap();
    fs::rename(directory.join("images/shuffled.toml"), directory.join("images/test2.toml")).unwrap();
    let program = env!("CARGO_BIN_EXE_ocinitrd");
    let plain = |output: &str| {
        let mut command = ocinitrd();
        command.args(["build", "test", "-O", output]).current_dir(directory);
        command
    };
    let reference = varied(directory, "plain", plain("plain"));

    let mut surroundings = Command::new("taskset");
    surroundings
        .args(["-c", "0", "sh", "-c"])
        .arg(format!("umask 077; cd /; exec {program} build {0}/images/test.toml -O {0}/around", directory.display()))
        .env("TZ", "Pacific/Kiritimati")
        .env("LC_ALL", "de_DE.UTF-8")
        .env("XDG_CACHE_HOME", directory.join("cache"));
    let around = varied(directory, "around", surroundings);

    let public = fixture::public_copy(&["repo", "repo-foreign"]);
    let place = public.path().display();
    let definition = fs::read_to_string(directory.join("images/test.toml")).unwrap();
    let offline = fixture::offline_directory();
    fs::write(public.path().join("test.toml"), definition.replace(offline.to_str().unwrap(), &place.to_string()))
        .unwrap();
    fs::create_dir(public.path().join("rootless")).unwrap();
    fs::set_permissions(public.path().join("rootless"), fs::Permissions::from_mode(0o777)).unwrap();
    let words = ["ocinitrd", "build", "test.toml", "-O", "rootless/out"].map(|word| match word {
        "build" | "-O" => word.to_owned(),
        path => format!("{place}/{path}"),
    });
    let rootless = varied(&public.path().join("rootless"), "out", fixture::as_rootless_user(words));

    for (name, bytes) in &reference {
        assert!(around[name] == *bytes, "{name} depends on the surroundings");
        assert!(rootless[name] == *bytes, "{name} depends on the user");
    }
    let mut order = ocinitrd();
    order.args(["build", "images/test2.toml", "-O", "order"]).current_dir(directory);
    let order = varied(directory, "order", order);
    assert!(order["initrd"] == reference["initrd"], "the initrd depends on the order of the definition");
}

#[test]
fn dnf4_builds_what_dnf5_builds() {
    let listing = |builder: &str| {
        let image = small_image(builder, "repo-foreign", SMALL, "");
        succeed(ocinitrd().args(["build", "test"]).current_dir(image.path()));
        let output = image.path().join("test");
        let packages = manifest(&output)["packages"].as_array().unwrap().len();
        (packages, succeed(ocinitrd().args(["inspect", "--list"]).arg(output.join("initrd"))).lines().count())
    };
    let (five, four) = (listing("dnf5"), listing("dnf4"));
    assert_eq!(five, four);
    assert!(five.0 > 40, "{five:?}");
}

#[test]
fn existing_output_is_replaced_only_by_a_whole_new_one() {
    let image = small_image("dnf5", "repo-foreign", SMALL, "");
    let output = image.path().join("test");
    fs::create_dir(&output).unwrap();
    fs::write(output.join("initrd"), "the old one").unwrap();
    fail(ocinitrd().args(["build", "test", "-k", "9.9.9"]).current_dir(image.path()));
    assert_eq!(fs::read_to_string(output.join("initrd")).unwrap(), "the old one");
    assert_eq!(names(&output), ["initrd"]);
    succeed(ocinitrd().args(["build", "test"]).current_dir(image.path()));
    assert!(fs::metadata(output.join("initrd")).unwrap().len() > 1_000_000);
    assert_eq!(names(&output), ["initrd", "manifest.json", "vmlinuz"]);
}

#[test]
fn full_disk_leaves_the_old_output() {
    assert!(fixture::is_root(), "run as root: this test mounts a small file system");
    let image = small_image("dnf5", "repo-foreign", SMALL, "");
    let output = image.path().join("test");
    fs::create_dir(&output).unwrap();
    succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(&output));
    fs::write(output.join("initrd"), "the old one").unwrap();
    let built = ocinitrd().args(["build", "test"]).current_dir(image.path()).output().unwrap();
    let left = names(&output);
    let old = fs::read_to_string(output.join("initrd"));
    succeed(Command::new("umount").arg(&output));
    let error = fixture::stderr(&built);
    assert_eq!(built.status.code(), Some(1), "{error}");
    assert!(error.contains("No space left on device") || error.contains("no space left"), "{error}");
    assert_eq!((left, old.unwrap().as_str()), (vec!["initrd".to_owned()], "the old one"));
}

#[test]
fn unknown_package_fails_in_dnfs_own_words() {
    let image = small_image("dnf5", "repo-foreign", &format!("{SMALL}, \"no-such-package\""), "");
    let error = build_error(image.path(), &[]);
    assert!(error.contains("No match for argument: no-such-package"), "{error}");
}

#[test]
fn unsigned_package_is_refused_by_name() {
    let image = small_image("dnf5", "repo-unsigned", &format!("{SMALL}, \"unsigned-sample\""), "");
    let error = build_error(image.path(), &[]);
    assert!(error.contains("unsigned-sample") && error.contains("gpg_keys"), "{error}");
}

#[test]
fn package_signed_by_another_key_is_refused_by_name() {
    let image = small_image("dnf4", "repo-foreign", &format!("{SMALL}, \"foreign-key-sample\""), "");
    let error = build_error(image.path(), &[]);
    assert!(error.contains("foreign-key-sample") && error.contains("gpg_keys"), "{error}");
}

#[test]
fn failing_scriptlet_fails_the_build_and_is_shown() {
    for builder in ["dnf5", "dnf4"] {
        let image = small_image(builder, "repo-scriptlet", &format!("{SMALL}, \"scriptlet-failure\""), "");
        let error = build_error(image.path(), &[]);
        assert!(error.contains("a scriptlet failed") && error.contains("scriptlet-failure"), "{error}");
    }
}

#[test]
fn the_kernel_that_is_asked_for_is_the_one_built_for() {
    // The oldest of the repository, by the version in its kernel-cloud-core: the newest is taken unasked.
    let packages = names(&fixture::offline_directory().join("repo/Packages"));
    let versions = packages.iter().filter_map(|name| name.strip_prefix("kernel-cloud-core-")?.split('-').next());
    let oldest = versions.min().unwrap();
    for builder in ["dnf5", "dnf4"] {
        let image = small_image(builder, "repo-foreign", SMALL, "");
        succeed(ocinitrd().args(["build", "test"]).current_dir(image.path()));
        let newest = manifest(&image.path().join("test"))["kernel_version"].as_str().unwrap().to_owned();
        let wanted = newest.replacen(newest.split('+').next().unwrap(), oldest, 1);
        assert_ne!(wanted, newest, "the repository holds one kernel only: it cannot show this");
        succeed(ocinitrd().args(["build", "test", "-k", &wanted]).current_dir(image.path()));
        let output = image.path().join("test");
        assert_eq!(manifest(&output)["kernel_version"], wanted);
        let listing = succeed(ocinitrd().args(["inspect", "--list"]).arg(output.join("initrd")));
        assert!(listing.contains(&format!("usr/lib/modules/{wanted}/modules.dep")), "{wanted}");
        assert!(!listing.contains(&newest), "{newest}");
    }
}

#[test]
fn kernel_that_is_not_there_is_named() {
    let image = small_image("dnf5", "repo-foreign", SMALL, "");
    let error = build_error(image.path(), &["-k", "9.9.9"]);
    assert!(error.contains("no repository has the kernel package kernel-cloud-core for the kernel 9.9.9"), "{error}");
}

#[test]
fn several_kernels_need_a_choice() {
    let image = changed_image("[\"kernel-cloud-core\"]", "[\"kernel-cloud-core\", \"kernel-modules-core\"]");
    let error = build_error(image.path(), &[]);
    assert!(error.contains("the packages hold several kernels: choose one with --kernel-version"), "{error}");
}

#[test]
fn no_kernel_package_is_an_error() {
    let image = changed_image("[\"kernel-cloud-core\"]", "[\"bash\"]");
    let error = build_error(image.path(), &[]);
    assert!(error.contains("the packages hold no kernel"), "{error}");
}

#[test]
fn module_pattern_without_a_match_is_a_warning() {
    let image = changed_image("\"virtio_blk\"", "\"virtio_blk\", \"virtio_blx\"");
    let output = ocinitrd().args(["build", "test"]).current_dir(image.path()).output().unwrap();
    let narration = fixture::stderr(&output);
    assert!(output.status.success(), "{narration}");
    assert!(narration.contains("\"virtio_blx\" matches no module; did you mean virtio"), "{narration}");
}

#[test]
fn output_directory_that_is_not_writable_is_refused_before_any_work() {
    let image = small_image("dnf5", "repo-foreign", SMALL, "");
    fs::write(image.path().join("images/file"), "").unwrap();
    let error = build_error(image.path(), &["-O", "images/file/below"]);
    assert!(error.contains("images/file") && !error.contains("engine:"), "{error}");
}

#[test]
fn file_capabilities_are_warned_about_once() {
    let image = small_image("dnf5", "repo-foreign", &format!("{SMALL}, \"capability-sample\""), "");
    let output = ocinitrd().args(["build", "test", "-t", "cpio,oci"]).current_dir(image.path()).output().unwrap();
    let narration = fixture::stderr(&output);
    assert!(output.status.success(), "{narration}");
    assert_eq!(narration.matches("extended attributes").count(), 1, "{narration}");
}

#[test]
fn directory_format_holds_the_tree() {
    let image = small_image("dnf5", "repo-foreign", SMALL, "");
    succeed(ocinitrd().args(["build", "test", "-t", "directory", "-o", "tree"]).current_dir(image.path()));
    let tree: PathBuf = image.path().join("test/tree");
    assert!(tree.join("usr/lib/systemd/systemd").is_file());
    assert_eq!(fs::read_link(tree.join("init")).unwrap(), Path::new("usr/lib/systemd/systemd"));
    assert_eq!(names(&image.path().join("test")), ["manifest.json", "tree", "vmlinuz"]);
}
