//! `ocinitrd lock`, `update`, `fetch` and locked builds, for real: dnf in podman, from the offline repository.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use ocinitrd_format::digest::Digest;
use serde_json::Value;

use crate::fixture::{self, fail, names, ocinitrd, succeed};
use crate::images::{
    SMALL, build_test, change, command_test, image_with_samples, manifest, serve, small_image, varied,
};

/// The text of an image's lock.
fn lock_text(image: &Path) -> String {
    fs::read_to_string(image.join("images/test.lock")).unwrap()
}

/// The lock of an image as a value.
fn lock_value(image: &Path) -> Value {
    let table: toml::Table = toml::from_str(&lock_text(image)).unwrap();
    serde_json::to_value(table).unwrap()["arch"]["x86_64"].take()
}

/// Makes everything in the store of an image look unused for two months, and adds a file that nothing names; returns its digest.
fn age_store(image: &Path) -> String {
    let blobs = image.join(fixture::CACHE).join("ocinitrd/blobs/sha256");
    let unused = Digest::of(b"unused");
    fs::write(blobs.join(unused.hex()), b"unused").unwrap();
    for name in names(&blobs) {
        let blob = File::open(blobs.join(name)).unwrap();
        blob.set_modified(SystemTime::now() - Duration::from_secs(60 * 24 * 60 * 60)).unwrap();
    }
    unused.to_string()
}

/// What a run narrates.
fn narration(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", fixture::stderr(&output));
    fixture::stderr(&output)
}

#[test]
fn lock_names_all_that_an_image_is_made_from() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let said = succeed(&mut command_test(image.path(), "lock"));
    assert!(said.contains("images/test.lock"), "{said}");
    let lock = lock_value(image.path());
    let builder = fixture::builder("dnf5");
    assert_eq!(lock["builder"]["image"], builder);
    assert!(builder.ends_with(lock["builder"]["digest"].as_str().unwrap()));
    let repository = &lock["repos"]["offline"];
    let repomd = fs::read(fixture::offline_directory().join("repo/repodata/repomd.xml")).unwrap();
    assert_eq!(repository["repomd"], ocinitrd_format::digest::Digest::of(&repomd).to_string());
    let key = repository["keys"][0].as_str().unwrap();
    assert!(lock["keys"][key]["armored"].as_str().unwrap().starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----"));
    let packages = lock["package"].as_array().unwrap();
    assert!(packages.len() > 40, "{}", packages.len());
    for package in packages {
        let rpm = fixture::offline_directory().join("repo").join(package["location"].as_str().unwrap());
        let bytes = fs::read(&rpm).unwrap();
        assert_eq!(package["sha256"], ocinitrd_format::digest::Digest::of(&bytes).to_string(), "{package}");
        assert_eq!(package["size"], bytes.len(), "{package}");
        assert_eq!(package["key"], key, "{package}");
        assert!(package["source_rpm"].as_str().unwrap().ends_with(".src.rpm"), "{package}");
    }
    let with_reason = |reason: &str| -> Vec<&str> {
        let of_reason = packages.iter().filter(|package| package["reason"] == reason);
        of_reason.map(|package| package["name"].as_str().unwrap()).collect()
    };
    assert_eq!(with_reason("user"), ["bash", "fedora-release-common", "systemd", "systemd-udev", "util-linux-core"]);
    assert_eq!(with_reason("kernel"), ["kernel-cloud-core"]);
    assert!(with_reason("dependency").contains(&"glibc"));
}

#[test]
fn both_dnfs_lock_the_same_packages_for_the_same_reasons() {
    let packages = |builder: &str| {
        let image = small_image(builder, "repo-foreign", SMALL);
        succeed(&mut command_test(image.path(), "lock"));
        lock_value(image.path())["package"].take()
    };
    assert_eq!(packages("dnf5"), packages("dnf4"));
}

#[test]
fn fresh_lock_stays_and_a_changed_input_is_named() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let lock = |arguments: &[&str]| {
        let mut command = command_test(image.path(), "lock");
        command.args(arguments);
        command
    };
    let output = lock(&["--check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(fixture::stdout(&output).contains("there is none for x86_64"), "{}", fixture::stdout(&output));
    assert_eq!(names(&image.path().join("images")), ["test.toml"], "a check writes nothing");

    succeed(&mut lock(&[]));
    let text = lock_text(image.path());
    assert!(succeed(&mut lock(&["--check"])).contains("fresh"));
    // No registry has an image that is made here.
    assert!(succeed(&mut lock(&["--check", "--builder"])).contains("made on this machine, no registry is asked"));
    assert!(!narration(&mut lock(&[])).contains("solving"));
    assert_eq!(lock_text(image.path()), text);

    fixture::fail_with(2, lock(&["--check"]).args(["--profile", "nonesuch"]));
    change(&image, "\"bash\"", "\"bash\", \"less\"");
    let output = lock(&["--check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(fixture::stdout(&output).contains("[packages] install changed"), "{}", fixture::stdout(&output));
    let error = fail(build_test(image.path()).arg("--locked"));
    assert!(error.contains("[packages] install changed") && error.contains("run ocinitrd lock test"), "{error}");
    let mut by_path = fixture::ocinitrd();
    let output = by_path
        .current_dir(image.path())
        .env("XDG_CACHE_HOME", image.path().join(fixture::CACHE))
        .args(["lock", "--check", "images/test.toml"])
        .output()
        .unwrap();
    assert!(fixture::stdout(&output).contains("to renew it: ocinitrd lock images/test.toml"), "{output:?}");
    assert_eq!(lock_text(image.path()), text, "--locked writes nothing");
    assert_eq!(names(image.path()), ["images"]);

    let file = image.path().join("images/test.lock");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o444)).unwrap();
    let error = fail(&mut lock(&[]));
    assert!(error.contains("images/test.lock is read-only") && error.contains("hint: make it writable"), "{error}");
    assert_eq!(lock_text(image.path()), text);
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let said = narration(&mut lock(&[]));
    assert!(said.contains("  added    less-") && said.contains("1 added, 0 removed, 0 changed"), "{said}");
}

#[test]
fn what_changes_no_package_needs_no_container() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    succeed(&mut build_test(image.path()));
    let base = |directory: &str| {
        let segments = manifest(&image.path().join(directory))["kernels"][0]["segments"].take();
        (segments[0]["sha256"].as_str().unwrap().to_owned(), segments[1]["sha256"].as_str().unwrap().to_owned())
    };
    let before = base("test");
    // No engine answers there: whoever asks for one fails.
    let without_engine = |arguments: &[&str]| {
        let mut command = build_test(image.path());
        command.args(["--engine", "unix:///nonexistent/podman.sock"]).args(arguments);
        command
    };
    let said = narration(&mut without_engine(&[]));
    assert!(said.contains("nothing changed"), "{said}");
    let said = narration(&mut without_engine(&["--compress", "gzip", "-O", "gzip"]));
    assert!(said.contains("compressing base (gzip:6)") && !said.contains("selecting modules"), "{said}");

    change(&image, "\"virtio_blk\"", "\"virtio_blk\", \"xfs\"");
    let said = narration(&mut without_engine(&["-O", "modules"]));
    assert!(said.contains("renewed without solving, since [kernel] modules changed"), "{said}");
    assert!(said.contains("selecting modules") && !said.contains("compressing base"), "{said}");
    let after = base("modules");
    assert_eq!(after.0, before.0, "the base does not depend on the modules");
    assert_ne!(after.1, before.1);
}

#[test]
fn outputs_that_somebody_changed_are_written_again() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let reference = varied(image.path(), "test", build_test(image.path()));
    fs::write(image.path().join("test/initrd"), "mine").unwrap();
    assert!(varied(image.path(), "test", build_test(image.path())) == reference);
    fs::remove_file(image.path().join("test/vmlinuz")).unwrap();
    assert!(varied(image.path(), "test", build_test(image.path())) == reference);
}

/// The versions of the kernels that the offline repository has of kernel-cloud-core.
fn kernel_versions() -> Vec<String> {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let error = fail(command_test(image.path(), "lock").args(["-k", "9.9.9"]));
    let listed = error.lines().filter_map(|line| line.strip_prefix("  6.").map(|rest| format!("6.{rest}")));
    let versions: Vec<String> = listed.collect();
    assert!(versions.len() > 1, "the repository holds one kernel only: {error}");
    versions
}

#[test]
fn another_kernel_of_the_lock_shares_the_base_and_needs_no_container() {
    let versions = kernel_versions();
    let (old, new) = (&versions[0], &versions[versions.len() - 1]);
    let image = small_image("dnf5", "repo-foreign", SMALL);
    succeed(&mut command_test(image.path(), "lock"));
    succeed(command_test(image.path(), "lock").args(["-k", old]));
    succeed(&mut build_test(image.path()));
    let without_engine = ["--engine", "unix:///nonexistent/podman.sock", "--locked"];
    let said = narration(build_test(image.path()).args(without_engine).args(["-k", old, "-O", "old"]));
    assert!(!said.contains("compressing base"), "{said}");

    let said =
        narration(build_test(image.path()).args(without_engine).args(["--all-kernels", "--segments", "-O", "all"]));
    assert!(!said.contains("compressing"), "{said}");
    let all = image.path().join("all");
    let listed = ["initrd", "vmlinuz"].map(|name| versions_named(&all, name));
    assert_eq!(listed, [[old.clone(), new.clone()], [old.clone(), new.clone()]]);
    let same = |one: PathBuf, other: PathBuf| fs::read(one).unwrap() == fs::read(other).unwrap();
    assert!(same(all.join(format!("initrd-{old}")), image.path().join("old/initrd")));
    assert!(same(all.join(format!("initrd-{new}")), image.path().join("test/initrd")));

    // Each segment of its own: one after the other they are the initrd.
    let mut joined = fs::read(all.join("base.cpio.zst")).unwrap();
    let next = ocinitrd::image::segment::next_offset(joined.len() as u64).unwrap();
    joined.resize(usize::try_from(next).unwrap(), 0);
    joined.extend(fs::read(all.join(format!("modules-{new}.cpio"))).unwrap());
    assert!(joined == fs::read(all.join(format!("initrd-{new}"))).unwrap());

    // What is recorded of several kernels is enough to build the same anew.
    let mut rebuild = fixture::ocinitrd();
    rebuild.args(["verify", "all", "--rebuild"]).current_dir(image.path());
    let said = succeed(rebuild.env("XDG_CACHE_HOME", image.path().join(fixture::CACHE)));
    assert_eq!(said, "all: 7 outputs and 4 segments as recorded, and built anew the same to the bit\n");
}

fn versions_named(directory: &Path, name: &str) -> Vec<String> {
    let prefix = format!("{name}-");
    names(directory).iter().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect()
}

#[test]
fn profiles_are_locked_together_and_one_that_is_not_is_refused() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    change(&image, "[kernel]", "[profiles.pager]\ninstall = [\"less\"]\n[kernel]");
    succeed(&mut command_test(image.path(), "lock"));
    let error = fail(build_test(image.path()).args(["--locked", "--profile", "pager"]));
    assert!(error.contains("it has no packages for the profile pager"), "{error}");
    assert!(error.contains("run ocinitrd lock test --profile pager"), "{error}");
    succeed(command_test(image.path(), "lock").args(["--profile", "pager"]));
    succeed(build_test(image.path()).args(["--locked", "--profile", "pager"]));
    let listed = succeed(fixture::ocinitrd().args(["inspect", "--list"]).arg(image.path().join("test/initrd")));
    assert!(listed.contains(" usr/bin/less\n"), "{listed}");
    succeed(build_test(image.path()).arg("--locked"));
    // A profile that is there no more makes the lock stale, and goes with the next one.
    change(&image, "[profiles.pager]", "[profiles.reader]");
    succeed(&mut command_test(image.path(), "lock"));
    assert_eq!(lock_value(image.path())["solution"].as_array().unwrap().len(), 1);
}

#[test]
fn update_renews_all_or_what_is_named_and_what_that_forces() {
    let image = image_with_samples("repo-update-1");
    succeed(&mut command_test(image.path(), "lock"));
    let before = lock_text(image.path());
    serve(&image.path().join("second"), "repo-update-2");
    assert!(succeed(command_test(image.path(), "lock").arg("--check")).contains("fresh"), "a repository is no input");

    let dry = succeed(command_test(image.path(), "update").arg("--dry-run"));
    assert!(dry.contains("changed  update-other.noarch 1-1 -> 2-1"), "{dry}");
    assert_eq!(lock_text(image.path()), before, "a dry run writes nothing");

    let error = fail(command_test(image.path(), "update").arg("update-sampel"));
    assert!(error.contains("has no package update-sampel; did you mean update-sample?"), "{error}");

    // update-sample 2 needs update-forced 2; update-other 2 is there as well.
    let some = succeed(command_test(image.path(), "update").arg("update-sample"));
    assert!(some.contains("changed  update-sample.noarch 1-1 -> 2-1"), "{some}");
    assert!(some.contains("changed  update-forced.noarch 1-1 -> 2-1") && !some.contains("update-other"), "{some}");
    assert!(some.contains("0 added, 0 removed, 2 changed"), "{some}");
    // update-other 1 is in no repository any more, and in the store still.
    succeed(build_test(image.path()).arg("--locked"));

    let all = succeed(command_test(image.path(), "update").arg("--json"));
    let difference: Value = serde_json::from_str(&all).unwrap();
    assert_eq!(difference["changed"][0]["name"], "update-other.noarch", "{all}");
    assert_eq!(difference["changed"].as_array().unwrap().len(), 1, "{all}");
    let again = succeed(&mut command_test(image.path(), "update"));
    assert!(again.contains("0 added, 0 removed, 0 changed"), "{again}");
}

#[test]
fn update_leaves_a_set_of_packages_without_the_named_one_alone() {
    let image = image_with_samples("repo-update-1");
    change(&image, "\"update-sample\"", "\"update-other\"");
    change(&image, "[kernel]", "[profiles.more]\ninstall = [\"update-sample\"]\n[kernel]");
    succeed(command_test(image.path(), "lock").args(["--profile", "more"]));
    succeed(&mut command_test(image.path(), "lock"));
    serve(&image.path().join("second"), "repo-update-2");
    let some = succeed(command_test(image.path(), "update").arg("update-sample"));
    assert!(some.contains("0 added, 0 removed, 2 changed") && !some.contains("update-other"), "{some}");
}

#[test]
fn nothing_is_added_to_a_lock_from_another_state_of_the_repository() {
    let image = image_with_samples("repo-update-1");
    succeed(&mut command_test(image.path(), "lock"));
    let before = lock_text(image.path());
    serve(&image.path().join("second"), "repo-update-2");
    // Each use of the lock keeps what it names from being removed.
    let unused = age_store(image.path());
    succeed(&mut command_test(image.path(), "lock"));
    let removed = succeed(ocinitrd().args(["store", "gc"]).env("XDG_CACHE_HOME", image.path().join(fixture::CACHE)));
    assert!(removed.contains(&unused), "{removed}");
    change(&image, "\"bash\"", "\"bash\", \"less\"");
    // The state of the repositories that was locked is in the store.
    let said = narration(&mut command_test(image.path(), "lock"));
    assert!(said.contains("1 added, 0 removed, 0 changed"), "{said}");
    fs::write(image.path().join("images/test.lock"), &before).unwrap();
    fs::remove_dir_all(image.path().join(fixture::CACHE)).unwrap();
    let error = fail(&mut command_test(image.path(), "lock"));
    assert!(
        error.contains("the repository second cannot be had so from the store, the repository or an archive"),
        "{error}"
    );
    assert!(error.trim_end().ends_with("run: ocinitrd update test less"), "{error}");
    assert_eq!(lock_text(image.path()), before);
}

#[test]
fn a_package_is_added_to_a_lock_from_the_archive_of_the_repository_as_it_was() {
    let image = image_with_samples("repo-update-1");
    let archive = image.path().join("archive");
    change(&image, "[repos.second]", &format!("[repos.second]\narchive = \"file://{}/$location\"", archive.display()));
    change(&image, "\"update-sample\"", "\"update-forced\"");
    succeed(&mut command_test(image.path(), "lock"));
    fs::rename(image.path().join("second"), &archive).unwrap();
    serve(&image.path().join("second"), "repo-update-2");

    // Neither the metadata nor a package is in the store.
    fs::remove_dir_all(image.path().join(fixture::CACHE)).unwrap();
    change(&image, "\"update-forced\"", "\"update-forced\", \"update-sample\"");
    let said = narration(&mut command_test(image.path(), "lock"));
    // And what it needs.
    assert!(said.contains("  added    update-sample-1-1.noarch ("), "{said}");
    assert!(said.contains("2 added, 0 removed, 0 changed"), "{said}");

    // The same from the metadata in the store, and the package from an archive that says which key signed it.
    change(&image, "/$location", "/$source_name/$keyid/$file");
    change(&image, "\"update-forced\", \"update-sample\"", "\"update-forced\"");
    fs::remove_file(image.path().join("images/test.lock")).unwrap();
    fs::remove_dir_all(image.path().join("second")).unwrap();
    fs::rename(&archive, image.path().join("second")).unwrap();
    fs::remove_dir_all(image.path().join(fixture::CACHE)).unwrap();
    succeed(&mut command_test(image.path(), "lock"));
    let key = lock_value(image.path())["repos"]["second"]["keys"][0].as_str().unwrap().to_owned();
    for name in ["update-sample", "update-other"] {
        let (place, rpm) = (archive.join(name).join(&key[key.len() - 8..]), format!("{name}-1-1.noarch.rpm"));
        fs::create_dir_all(&place).unwrap();
        fs::rename(image.path().join("second/Packages").join(&rpm), place.join(&rpm)).unwrap();
    }
    serve(&image.path().join("second"), "repo-update-2");
    change(&image, "\"update-forced\"", "\"update-forced\", \"update-sample\"");
    let said = narration(&mut command_test(image.path(), "lock"));
    assert!(said.contains("  added    update-sample-1-1.noarch ("), "{said}");
}

/// What `update` prints for an image whose lock is of a state of the repository that is nowhere any more.
fn added_to_a_lock_of_a_state_that_is_gone(builder: &str) {
    let image = image_with_samples("repo-update-1");
    change(&image, &fixture::builder("dnf5"), &fixture::builder(builder));
    change(&image, "\"update-sample\"", "\"update-forced\", \"update-other\"");
    succeed(&mut command_test(image.path(), "lock"));
    serve(&image.path().join("second"), "repo-update-2");
    let first = fixture::offline_directory().join("repo-update-1/Packages");
    let cold = |command: &str, packages: &[&str]| {
        let _ = fs::remove_dir_all(image.path().join(fixture::CACHE));
        let mut command = command_test(image.path(), command);
        command.args(packages).arg("--rpm-dir").arg(&first);
        command
    };
    change(&image, "\"update-other\"", "\"update-other\", \"update-sample\"");
    let error = fail(&mut cold("lock", &[]));
    assert!(error.trim_end().ends_with("run: ocinitrd update test update-sample"), "{error}");
    // Nothing of what the definition asks for may be left out, and no more is needed than that.
    let error = fail(&mut cold("update", &["update-other"]));
    assert!(error.contains("the lock of test is not fresh: [packages] install changed"), "{error}");
    let error = fail(&mut cold("update", &["update-sample", "nonesuch"]));
    assert!(error.contains("has no package nonesuch"), "{error}");

    let dry = succeed(&mut cold("update", &["update-sample", "--dry-run"]));
    // It forces update-forced, and nothing else changes.
    assert!(dry.contains("added    update-sample-2-1.noarch"), "{dry}");
    assert!(dry.contains("changed  update-forced.noarch 1-1 -> 2-1") && !dry.contains("update-other"), "{dry}");
    let said = succeed(&mut cold("update", &["update-other", "update-sample"]));
    assert!(said.contains("changed  update-other.noarch 1-1 -> 2-1"), "what is there already is renewed: {said}");
    assert!(said.contains("1 added, 0 removed, 2 changed"), "{said}");
    assert!(succeed(command_test(image.path(), "lock").arg("--check")).contains("fresh"));
    let packages = lock_value(image.path())["package"].take();
    let reason = |name: &str| {
        let package = packages.as_array().unwrap().iter().find(|package| package["name"] == name);
        package.unwrap()["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(["update-other", "update-sample"].map(reason), ["user", "user"]);

    // What is asked for no more would stay: that takes a new lock.
    change(&image, "\"update-forced\", \"update-other\"", "\"less\"");
    serve(&image.path().join("second"), "repo-update-1");
    let error = fail(&mut cold("lock", &[]));
    assert!(error.trim_end().ends_with("renew all of the lock with: ocinitrd update test"), "{error}");
    fail(&mut cold("update", &["less"]));
}

#[test]
fn what_is_added_to_a_lock_is_taken_from_the_repositories_as_they_are_where_they_were_is_gone() {
    added_to_a_lock_of_a_state_that_is_gone("dnf5");
}

#[test]
#[ignore = "the same as with dnf5"]
fn what_is_added_to_a_lock_with_dnf4() {
    added_to_a_lock_of_a_state_that_is_gone("dnf4");
}

#[test]
fn a_repository_that_is_not_enabled_is_used_with_what_names_it_alone() {
    let image = image_with_samples("repo-update-1");
    change(&image, "[repos.second]", "[repos.second]\nenabled = false");
    change(&image, ", \"update-sample\"", "");
    change(&image, "[kernel]", "[profiles.more]\nrepos = [\"second\"]\ninstall = [\"update-sample\"]\n[kernel]");
    succeed(&mut command_test(image.path(), "lock"));
    assert_eq!(lock_value(image.path())["repos"].as_object().unwrap().keys().collect::<Vec<_>>(), ["offline"]);
    // A change of what is not used is none.
    change(&image, "enabled = false", "enabled = false\npriority = 7");
    assert!(succeed(command_test(image.path(), "lock").arg("--check")).contains("fresh"));

    let said = narration(command_test(image.path(), "lock").args(["--profile", "more"]));
    assert!(said.contains("  added    update-sample-1-1.noarch ("), "{said}");
    let lock = lock_value(image.path());
    assert_eq!(lock["repos"].as_object().unwrap().len(), 2);
    let [alone, more] = &lock["solution"].as_array().unwrap()[..] else { panic!("two sets") };
    let has_sample = |set: &Value| set["packages"].to_string().contains("update-sample");
    assert!(!has_sample(alone) && has_sample(more));
    serve(&image.path().join("second"), "repo-update-2");
    let some = succeed(command_test(image.path(), "update").arg("update-sample"));
    assert!(some.contains("0 added, 0 removed, 2 changed"), "the set without it stays: {some}");
    succeed(&mut command_test(image.path(), "update"));

    // A package that only the other repository has is not found without the profile.
    change(&image, "[profiles.more]\nrepos = [\"second\"]\n", "[profiles.more]\n");
    let error = fail(command_test(image.path(), "lock").args(["--profile", "more"]));
    assert!(error.contains("update-sample"), "{error}");
    change(&image, "[profiles.more]\n", "[profiles.more]\nrepos = [\"secnd\"]\n");
    let error = fail(command_test(image.path(), "lock").args(["--profile", "more"]));
    assert!(
        error.contains("[profiles.more] repos names the repository secnd, and there is no [repos.secnd]"),
        "{error}"
    );
}

#[test]
fn a_replaced_package_comes_from_the_archive_or_a_directory_or_is_named() {
    let image = image_with_samples("repo-update-1");
    let archive = image.path().join("archive");
    change(
        &image,
        "[repos.second]",
        &format!("[repos.second]\narchive = \"file://{}/$source_name/$keyid/$file\"", archive.display()),
    );
    succeed(&mut command_test(image.path(), "lock"));
    let key = lock_value(image.path())["repos"]["second"]["keys"][0].as_str().unwrap().to_owned();
    serve(&image.path().join("second"), "repo-update-2");
    let cold = |command: &str| {
        let _ = fs::remove_dir_all(image.path().join(fixture::CACHE));
        command_test(image.path(), command)
    };
    let error = fail(&mut cold("fetch"));
    assert!(error.contains("package update-") && error.contains("-1-1.noarch of repository second"), "{error}");
    assert!(error.contains("ocinitrd update test update-") && error.contains("--rpm-dir"), "{error}");

    let first = fixture::offline_directory().join("repo-update-1/Packages");
    succeed(cold("fetch").arg("--rpm-dir").arg(&first));
    for name in names(&first) {
        let source = name.split("-1-1").next().unwrap();
        let place = archive.join(source).join(&key[key.len() - 8..]);
        fs::create_dir_all(&place).unwrap();
        fs::copy(first.join(&name), place.join(&name)).unwrap();
    }
    let said = succeed(&mut cold("fetch"));
    assert!(said.contains("all verified"), "{said}");
}

#[test]
fn after_fetch_a_build_needs_no_network() {
    let image = image_with_samples("repo-update-1");
    succeed(&mut command_test(image.path(), "lock"));
    let error = fail(command_test(image.path(), "fetch").args(["--rpm-dir", "nowhere"]));
    assert!(error.contains("--rpm-dir nowhere: there is no such directory"), "{error}");
    let said = succeed(&mut command_test(image.path(), "fetch"));
    assert!(said.contains("packages, ") && said.contains("all verified"), "{said}");
    // Neither servers nor directories are asked any more.
    fs::remove_dir_all(image.path().join("second")).unwrap();
    succeed(build_test(image.path()).args(["--locked", "--offline"]));
}

#[test]
fn what_a_lock_names_is_exported_and_is_all_that_another_machine_needs() {
    let image = image_with_samples("repo-update-1");
    succeed(&mut command_test(image.path(), "lock"));
    let reference = varied(image.path(), "test", build_test(image.path()));
    let rpms = image.path().join("rpms");
    fs::create_dir(&rpms).unwrap();
    let mut export = fixture::ocinitrd();
    export.args(["store", "export", "--lock"]).arg(image.path().join("images/test.lock")).arg(&rpms);
    succeed(export.env("XDG_CACHE_HOME", image.path().join(fixture::CACHE)));
    let packages = lock_value(image.path())["package"].as_array().unwrap().len();
    assert_eq!(names(&rpms).len(), packages);
    assert!(names(&rpms).contains(&"update-sample-1-1.noarch.rpm".to_owned()), "{:?}", names(&rpms));
    // The other machine has the definition, the lock, the rpms and the builder image.
    fs::remove_dir_all(image.path().join(fixture::CACHE)).unwrap();
    fs::remove_dir_all(image.path().join("second")).unwrap();
    let mut build = build_test(image.path());
    build.args(["--locked", "--offline", "--rpm-dir", "rpms", "-O", "other"]);
    assert!(varied(image.path(), "other", build) == reference);
}

#[test]
fn lock_that_was_edited_or_is_newer_is_refused_and_stays() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    succeed(&mut command_test(image.path(), "lock"));
    let text = lock_text(image.path());
    for (from, to, message) in [
        ("schema = 1", "schema = 2", "it has schema 2, this ocinitrd"),
        ("name = \"bash\"", "name = \"bush\"", "is named, but not described as a package"),
        ("tools = [", "tools = [\"dnf5 version 9\",", "not what its digest in [digests] is of"),
        ("[arch.x86_64.builder]", "<<<<<<< ours\n[arch.x86_64.builder]", "not to be edited"),
    ] {
        let edited = text.replacen(from, to, 1);
        fs::write(image.path().join("images/test.lock"), &edited).unwrap();
        let error = fail(&mut build_test(image.path()));
        assert!(error.contains(message) && error.contains("images/test.lock"), "{error}");
        assert_eq!(lock_text(image.path()), edited);
        assert_eq!(names(image.path()), ["images"], "{error}");
    }
}
