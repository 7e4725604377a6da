//! `ocinitrd build`, for real: dnf in podman, from the offline repository.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{self, fail, names, ocinitrd, succeed};
use crate::images::{SMALL, build_test, change, changed_image, manifest, small_image, varied};

/// The error of a build that must fail, and that it leaves no output, container or temporary file.
fn build_error(directory: &Path, arguments: &[&str]) -> String {
    let error = fail(build_test(directory).args(arguments));
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
        assert_eq!(output["sha256"], ocinitrd_format::digest::Digest::of(&bytes).to_string());
    }
    let mode = fs::metadata(directory.join("initrd")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(manifest["locked"], true);
    let epoch = manifest["packages"].as_array().unwrap().iter().map(|p| p["build_time"].as_u64().unwrap()).max();
    assert_eq!(manifest["epoch"].as_u64(), epoch);
}

#[test]
fn tree_is_an_initrd_for_systemd() {
    let listing = succeed(ocinitrd().args(["inspect", "--list"]).arg(fixture::offline_output().join("initrd")));
    for line in [
        " init -> usr/lib/systemd/systemd",
        " etc/initrd-release -> os-release",
        " usr/lib/udev/hwdb.bin",
        "/tmp.mount -> /dev/null",
        // Reached by a unit that a generator writes, by a rule of udev, by a name made at run time.
        " usr/bin/systemd-cryptsetup",
        " usr/lib/udev/ata_id",
        " usr/lib64/libtss2-tcti-device.so.0",
    ] {
        assert!(listing.contains(line), "{line}");
    }
    for absent in ["usr/lib/sysimage/rpm", "var/log/dnf", "etc/passwd-", "usr/share/doc/", "initrd-setup", " dev/null"]
    {
        assert!(!listing.contains(absent), "{absent} is in the initrd");
    }
    // Of packages that something else of is needed, or that only such things need.
    for unreached in ["/libicudata", "/libcurl", "/libtss2-fapi", "bin/useradd", "/xfs_db", "/systemd-logind\n"] {
        assert!(!listing.contains(unreached), "{unreached} is in the initrd");
    }
}

#[test]
fn same_bytes_whatever_the_surroundings() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let directory = image.path();
    let program = env!("CARGO_BIN_EXE_ocinitrd");
    let mut plain = build_test(directory);
    plain.args(["-O", "plain"]);
    let reference = varied(directory, "plain", plain);

    let mut surroundings = Command::new("taskset");
    surroundings
        .args(["-c", "0", "sh", "-c"])
        .arg(format!("umask 077; cd /; exec {program} build {0}/images/test.toml -O {0}/around", directory.display()))
        .env("TZ", "Pacific/Kiritimati")
        .env("LC_ALL", "de_DE.UTF-8")
        .env("XDG_CACHE_HOME", directory.join("cache"));
    let around = varied(directory, "around", surroundings);
    for (name, bytes) in &reference {
        assert!(around[name] == *bytes, "{name} depends on the surroundings");
    }
}

#[test]
fn same_bytes_whatever_the_order_of_the_packages() {
    let shuffled = "\"fedora-release-common\", \"util-linux-core\", \"bash\", \"systemd-udev\", \"systemd\"";
    for builder in ["dnf5", "dnf4"] {
        let initrd = |packages| {
            let image = small_image(builder, "repo-foreign", packages);
            varied(image.path(), "test", build_test(image.path())).remove("initrd").unwrap()
        };
        assert!(initrd(SMALL) == initrd(shuffled), "the initrd depends on the order of the definition with {builder}");
    }
}

#[test]
fn dnf4_builds_what_dnf5_builds() {
    let listing = |builder: &str| {
        let image = small_image(builder, "repo-foreign", SMALL);
        succeed(&mut build_test(image.path()));
        let output = image.path().join("test");
        let packages = manifest(&output)["packages"].as_array().unwrap().len();
        (packages, succeed(ocinitrd().args(["inspect", "--list"]).arg(output.join("initrd"))).lines().count())
    };
    let (five, four) = (listing("dnf5"), listing("dnf4"));
    assert_eq!(five, four);
    assert!(five.0 > 40, "{five:?}");
}

/// A builder image that lacks mount(8), as Fedora's base image has been shipped.
struct WithoutMount(String);

impl WithoutMount {
    fn make() -> Self {
        let name = format!("localhost/ocinitrd-test/without-mount-{}", std::process::id());
        let containerfile = format!("FROM {}\nRUN rm /usr/bin/mount /usr/bin/umount\n", fixture::builder("dnf5"));
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("Containerfile"), containerfile).unwrap();
        succeed(
            Command::new("podman")
                .arg("build")
                .args(fixture::CONTAINER_LIMITS)
                .args(["-t", &name])
                .arg(directory.path()),
        );
        let digest = succeed(Command::new("podman").args(["image", "inspect", "--format={{.Digest}}", &name]));
        WithoutMount(format!("{name}@{}", digest.trim()))
    }
}

impl Drop for WithoutMount {
    fn drop(&mut self) {
        let _ = Command::new("podman").args(["rmi", &self.0]).output();
    }
}

#[test]
fn a_builder_without_mount_takes_it_from_the_packages_and_builds_the_same() {
    let usual = small_image("dnf5", "repo-foreign", SMALL);
    let usual = varied(usual.path(), "test", build_test(usual.path()));
    let builder = WithoutMount::make();
    let image = changed_image(&fixture::builder("dnf5"), &builder.0);
    let initrd = varied(image.path(), "test", build_test(image.path())).remove("initrd").unwrap();
    assert!(initrd == usual["initrd"]);
}

#[test]
fn existing_output_is_replaced_only_by_a_whole_new_one() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let output = image.path().join("test");
    fs::create_dir(&output).unwrap();
    fs::write(output.join("initrd"), "the old one").unwrap();
    let error = fail(&mut build_test(image.path()));
    assert!(
        error.contains("test/initrd is there, and no manifest.json beside it says") && !error.contains("engine:"),
        "{error}"
    );
    fail(build_test(image.path()).args(["--force", "-k", "9.9.9"]));
    assert_eq!(fs::read_to_string(output.join("initrd")).unwrap(), "the old one");
    assert_eq!(names(&output), ["initrd"]);
    succeed(build_test(image.path()).arg("--force"));
    assert!(fs::metadata(output.join("initrd")).unwrap().len() > 1_000_000);
    assert_eq!(names(&output), ["initrd", "manifest.json", "vmlinuz"]);
    // Names with the kernel's version are known late, and asked about all the same.
    fs::write(output.join("base.cpio.zst"), "mine").unwrap();
    let error = fail(build_test(image.path()).arg("--segments"));
    assert!(error.contains("test/base.cpio.zst is there, and no manifest.json"), "{error}");
    assert_eq!(fs::read_to_string(output.join("base.cpio.zst")).unwrap(), "mine");
}

#[test]
fn outputs_that_only_an_earlier_build_wrote_stay_and_are_told() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    succeed(build_test(image.path()).arg("--segments"));
    let modules = names(&image.path().join("test")).into_iter().find(|name| name.starts_with("modules-")).unwrap();
    fs::remove_file(image.path().join("test").join(&modules)).unwrap();
    let output = build_test(image.path()).output().unwrap();
    let said = fixture::stderr(&output);
    assert!(output.status.success(), "{said}");
    let told = said.lines().find(|line| line.contains("still has what an earlier build wrote")).unwrap();
    assert!(told.ends_with("this one did not: base.cpio.zst"), "{said}");
    assert!(image.path().join("test/base.cpio.zst").exists());
}

#[test]
fn unknown_package_fails_in_dnfs_own_words() {
    let image = small_image("dnf5", "repo-foreign", &format!("{SMALL}, \"no-such-package\""));
    let error = build_error(image.path(), &[]);
    assert!(error.contains("No match for argument: no-such-package"), "{error}");
}

#[test]
fn unsigned_package_is_refused_by_name() {
    let image = small_image("dnf5", "repo-unsigned", &format!("{SMALL}, \"unsigned-sample\""));
    let error = build_error(image.path(), &[]);
    assert!(error.contains("unsigned-sample") && error.contains("gpg_keys"), "{error}");
}

#[test]
fn package_signed_by_another_key_is_refused_by_name() {
    let image = small_image("dnf4", "repo-foreign", &format!("{SMALL}, \"foreign-key-sample\""));
    let error = build_error(image.path(), &[]);
    assert!(error.contains("foreign-key-sample") && error.contains("gpg_keys"), "{error}");
}

#[test]
fn failing_scriptlet_fails_the_build_and_is_shown() {
    for builder in ["dnf5", "dnf4"] {
        let image = small_image(builder, "repo-scriptlet", &format!("{SMALL}, \"scriptlet-failure\""));
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
        let image = small_image(builder, "repo-foreign", SMALL);
        succeed(&mut build_test(image.path()));
        let newest = manifest(&image.path().join("test"))["kernels"][0]["version"].as_str().unwrap().to_owned();
        let wanted = newest.replacen(newest.split('+').next().unwrap(), oldest, 1);
        assert_ne!(wanted, newest, "the repository holds one kernel only: it cannot show this");
        succeed(build_test(image.path()).args(["-k", &wanted]));
        let output = image.path().join("test");
        assert_eq!(manifest(&output)["kernels"][0]["version"], wanted);
        let listing = succeed(ocinitrd().args(["inspect", "--list"]).arg(output.join("initrd")));
        assert!(listing.contains(&format!("usr/lib/modules/{wanted}/modules.dep")), "{wanted}");
        assert!(!listing.contains(&newest), "{newest}");
    }
}

#[test]
fn kernel_that_is_not_there_is_named_with_those_that_are() {
    for builder in ["dnf5", "dnf4"] {
        let image = small_image(builder, "repo-foreign", SMALL);
        let error = build_error(image.path(), &["-k", "9.9.9"]);
        assert!(
            error.contains("has the kernel package kernel-cloud-core for the kernel 9.9.9; those there are:\n  6."),
            "{error}"
        );
        assert!(!error.contains("Repositories loaded"), "{error}");
    }
}

#[test]
fn packages_of_several_kernels_are_refused() {
    let image = changed_image("[\"kernel-cloud-core\"]", "[\"kernel-cloud-core\", \"kernel-modules-core\"]");
    let error = build_error(image.path(), &[]);
    assert!(error.contains("hold several kernels: 6."), "{error}");
}

#[test]
fn no_kernel_package_is_an_error() {
    for (packages, message) in [("[\"bash\"]", "hold no kernel image"), ("[]", "the image test has no kernel")] {
        let image = changed_image("[\"kernel-cloud-core\"]", packages);
        let error = build_error(image.path(), &[]);
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn module_pattern_without_a_match_is_a_warning() {
    let image = changed_image("\"virtio_blk\"", "\"virtio_blk\", \"virtio_blx\"");
    let output = build_test(image.path()).output().unwrap();
    let narration = fixture::stderr(&output);
    assert!(output.status.success(), "{narration}");
    assert!(narration.contains("\"virtio_blx\" matches no module; did you mean virtio"), "{narration}");
}

#[test]
fn firmware_is_what_the_modules_and_the_definition_ask_for_whoever_brings_it() {
    let image = changed_image("\"virtio_blk\"]", "\"virtio_blk\"]\nfirmware = [\"wanted/*\"]");
    change(&image, "releasever", "extra_trees = [\"tree\"]\nreleasever");
    for name in ["wanted/a.bin", "unwanted.bin"] {
        let path = image.path().join("images/tree/usr/lib/firmware").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    succeed(&mut build_test(image.path()));
    let output = image.path().join("test");
    let listing = succeed(ocinitrd().args(["inspect", "--list"]).arg(output.join("initrd")));
    assert!(listing.contains("usr/lib/firmware/wanted/a.bin") && !listing.contains("unwanted.bin"), "{listing}");
    assert_eq!(listing.matches(" usr/lib/firmware\n").count(), 1, "it is in the modules segment alone: {listing}");
}

#[test]
fn microcode_of_any_package_is_the_first_segment_and_plain() {
    let image = changed_image("releasever", "extra_trees = [\"tree\"]\nreleasever");
    let firmware = image.path().join("images/tree/usr/lib/firmware/intel-ucode");
    fs::create_dir_all(&firmware).unwrap();
    // The version of the header, as every update begins.
    let update = [&[1, 0, 0, 0][..], &[0x5a; 1020]].concat();
    fs::write(firmware.join("06-01-02"), &update).unwrap();
    for _ in 0..2 {
        succeed(build_test(image.path()).arg("--segments"));
        let initrd = image.path().join("test/initrd");
        let report: serde_json::Value =
            serde_json::from_str(&succeed(ocinitrd().args(["inspect", "--json", "--list"]).arg(&initrd))).unwrap();
        let segments = report["segments"].as_array().unwrap();
        assert_eq!((segments.len(), &segments[0]["codec"]), (3, &"none".into()), "{report}");
        assert_eq!(segments[0]["microcode"], true, "{report}");
        let listed = report["list"].as_array().unwrap();
        assert!(listed.iter().any(|one| one["path"] == "kernel/x86/microcode/GenuineIntel.bin"), "{listed:?}");
        assert!(!listed.iter().any(|one| one["path"].as_str().unwrap().contains("intel-ucode/")), "{listed:?}");
        let bytes = fs::read(&initrd).unwrap();
        assert!(bytes.windows(update.len()).any(|window| window == update));
        // Also when all segments come from the cache.
        fs::remove_dir_all(image.path().join("test")).unwrap();
    }
}

#[test]
fn a_directory_that_is_no_earlier_output_is_not_replaced() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let mine = image.path().join("test/linux/init");
    fs::create_dir_all(&mine).unwrap();
    fs::write(mine.join("main.c"), "mine").unwrap();
    let error = fail(build_test(image.path()).args(["-t", "directory", "-o", "linux"]));
    assert!(
        error.contains("test/linux holds files that are no earlier output") && !error.contains("engine:"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(mine.join("main.c")).unwrap(), "mine");
    for _ in 0..2 {
        succeed(build_test(image.path()).args(["-t", "directory,oci"]));
        assert_eq!(names(&image.path().join("test")), ["linux", "manifest.json", "oci", "root", "vmlinuz"]);
    }
}

#[test]
fn names_that_other_outputs_have_are_refused_before_any_work() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    for (name, message) in [
        ("vmlinuz", "would be the name of both"),
        ("manifest.json", "would be the name of both"),
        ("../initrd", "is no file name"),
        ("a/b", "is no file name"),
        ("", "is no file name"),
        (".", "is no file name"),
        ("..", "is no file name"),
        ("two\nlines", "is not a name for the initrd"),
        (&"n".repeat(241), "is not a name for the initrd"),
    ] {
        let error = build_error(image.path(), &["-o", name]);
        assert!(error.contains(message) && !error.contains("engine:"), "{error}");
    }
    let error = build_error(image.path(), &["-o", "base.cpio.zst", "--segments"]);
    assert!(error.contains("both the base segment and the initrd") && !error.contains("engine:"), "{error}");
}

#[test]
fn no_output_is_written_over_another_one_of_the_same_build() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let segments = || {
        let mut build = build_test(image.path());
        build.arg("--segments");
        build
    };
    let written = varied(image.path(), "test", segments());
    let modules = written.keys().find(|name| name.starts_with("modules-")).unwrap();
    let microcode = modules.replace("modules-", "microcode-").replace(".zst", "");
    for name in [modules, &microcode, "base.cpio.zst", "vmlinuz", "manifest.json"] {
        let error = fail(segments().args(["-o", name]));
        assert!(error.contains(&format!("{name} would be the name of both ")), "{error}");
        let left: Vec<String> = names(&image.path().join("test"));
        assert!(left.iter().eq(written.keys()), "{left:?}");
    }
    // Without that segment the name is free, as are names that begin as another one does.
    for name in ["base.cpio.zst", "vmlinuz.initrd"] {
        let output = varied(image.path(), name, {
            let mut build = build_test(image.path());
            build.args(["-o", name, "-O", name]);
            build
        });
        assert!(output[name] == written["initrd"], "{name} is another initrd");
    }
}

#[test]
fn an_output_that_was_changed_is_written_again_whatever_the_manifest_beside_it_says() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let build = || {
        let mut build = build_test(image.path());
        build.args(["-t", "cpio,oci"]);
        build
    };
    let output = image.path().join("test");
    let place = |name: &str| output.join(name);
    succeed(&mut build());
    let initrd = fs::read(place("initrd")).unwrap();
    let json = fs::read_to_string(place("manifest.json")).unwrap();
    let index = fs::read(place("oci/index.json")).unwrap();
    let is_believed = || {
        let answer = build().args(["--locked", "--offline"]).output().unwrap();
        assert!(answer.status.success(), "{}", fixture::stderr(&answer));
        let digest = ocinitrd_format::digest::Digest::of(&initrd).to_string();
        assert!(fixture::stdout(&answer).contains(&digest), "{}", fixture::stdout(&answer));
        assert!(fs::read(place("initrd")).unwrap() == initrd && fs::read(place("oci/index.json")).unwrap() == index);
        assert_eq!(fs::read_to_string(place("manifest.json")).unwrap(), json);
        fixture::stderr(&answer).contains("nothing changed")
    };
    assert!(is_believed(), "nothing was changed");

    let evil = fs::read(place("vmlinuz")).unwrap();
    fs::write(place("initrd"), &evil).unwrap();
    let digest = |bytes: &[u8]| ocinitrd_format::digest::Digest::of(bytes).to_string();
    let forged = json.replace(&digest(&initrd), &digest(&evil));
    let forged =
        forged.replace(&format!("\"size_bytes\": {}", initrd.len()), &format!("\"size_bytes\": {}", evil.len()));
    fs::write(place("manifest.json"), &forged).unwrap();
    assert!(forged != json && !is_believed(), "an initrd and a manifest that agree");
    assert!(is_believed(), "it was written again");

    fs::write(place("manifest.json"), json.replace("\"license\": \"", "\"license\": \"X")).unwrap();
    assert!(!is_believed(), "another manifest of the same outputs");
    for (name, mode) in [("initrd", 0o644), ("vmlinuz", 0o666), ("oci", 0o777), ("oci/blobs/sha256", 0o755)] {
        fs::set_permissions(place(name), fs::Permissions::from_mode(mode)).unwrap();
        assert!(!is_believed(), "{name} with another mode");
        assert_ne!(fs::metadata(place(name)).unwrap().permissions().mode() & 0o7777, mode, "{name}");
    }
    fs::write(place("oci/blobs/sha256/more"), "").unwrap();
    assert!(!is_believed() && !place("oci/blobs/sha256/more").exists(), "a file that no build wrote");
    let elsewhere = image.path().join("initrd");
    fs::rename(place("initrd"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, place("initrd")).unwrap();
    assert!(!is_believed() && !place("initrd").is_symlink(), "a symlink to what was written");
    fs::remove_dir_all(image.path().join(fixture::CACHE).join("ocinitrd/cache/outputs")).unwrap();
    assert!(!is_believed(), "the outputs are as they were written, and the cache does not know it");
    assert!(is_believed(), "the cache knows it again");
}

#[test]
fn an_extra_tree_that_is_not_there_is_refused_before_any_work() {
    let image = changed_image("releasever", "extra_trees = [\"nowhere\"]\nreleasever");
    let error = build_error(image.path(), &[]);
    assert!(
        error.contains("images/nowhere of the definition is no directory") && !error.contains("engine:"),
        "{error}"
    );
}

#[test]
fn output_directory_that_is_not_writable_is_refused_before_any_work() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    fs::write(image.path().join("images/file"), "").unwrap();
    let error = build_error(image.path(), &["-O", "images/file/below"]);
    assert!(error.contains("images/file") && !error.contains("engine:"), "{error}");
}

#[test]
fn file_capabilities_are_warned_about_once() {
    let image = small_image("dnf5", "repo-foreign", &format!("{SMALL}, \"capability-sample\""));
    let output = build_test(image.path()).args(["-t", "cpio,oci"]).output().unwrap();
    let narration = fixture::stderr(&output);
    assert!(output.status.success(), "{narration}");
    assert_eq!(narration.matches("extended attributes").count(), 1, "{narration}");
    assert!(narration.contains("the initrd lacks security.capability of /"), "{narration}");
}

#[test]
fn directory_format_holds_the_tree() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    succeed(build_test(image.path()).args(["-t", "directory", "-o", "tree"]));
    let tree: PathBuf = image.path().join("test/tree");
    assert!(tree.join("usr/lib/systemd/systemd").is_file());
    assert_eq!(fs::read_link(tree.join("init")).unwrap(), Path::new("usr/lib/systemd/systemd"));
    assert_eq!(names(&image.path().join("test")), ["manifest.json", "tree", "vmlinuz"]);
}
