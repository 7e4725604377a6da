//! Genuine, signed rpms under other names: what lists them, metadata without a signature or a lock, is not believed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ocinitrd::lock::file::Lock;
use ocinitrd_format::digest::Digest;

use crate::fixture::{self, CACHE, fail, names, succeed};
use crate::images::{SMALL, build_test, change, command_test, small_image};

/// The rpm of the offline repository's `repository` whose name begins so.
fn rpm(repository: &str, name: &str) -> PathBuf {
    let packages = fixture::offline_directory().join(repository).join("Packages");
    let found = names(&packages).into_iter().find(|rpm| rpm.starts_with(name));
    packages.join(found.expect("the repository has it"))
}

/// A repository without a signature that lists `rpm`, which is as its packager signed it, with `from` of its description replaced.
fn forged_repository(directory: &Path, rpm: &Path, from: &str, to: &str) {
    let packages = directory.join("Packages");
    fs::create_dir_all(&packages).unwrap();
    fs::copy(rpm, packages.join(rpm.file_name().unwrap())).unwrap();
    succeed(Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(directory));
    let repodata = directory.join("repodata");
    let primary = names(&repodata).into_iter().find(|name| name.ends_with("primary.xml.gz")).unwrap();
    let primary = succeed(Command::new("gzip").arg("-dc").arg(repodata.join(primary)));
    assert!(primary.contains(from), "{primary}");
    let primary = primary.replace(from, to);
    let digest = Digest::of(primary.as_bytes());
    fs::write(repodata.join("primary.xml"), primary).unwrap();
    let repomd = format!(
        "<repomd xmlns=\"http://linux.duke.edu/metadata/repo\"><revision>1</revision><data type=\"primary\">\
         <checksum type=\"sha256\">{0}</checksum><open-checksum type=\"sha256\">{0}</open-checksum>\
         <location href=\"repodata/primary.xml\"/><timestamp>1</timestamp></data></repomd>",
        digest.hex()
    );
    fs::write(repodata.join("repomd.xml"), repomd).unwrap();
}

/// The small image with such a repository as its second one.
fn forged_image(builder: &str, packages: &str, rpm: &Path, from: &str, to: &str) -> tempfile::TempDir {
    let image = small_image(builder, "repo-foreign", packages);
    let second = image.path().join("second");
    forged_repository(&second, rpm, from, to);
    let offline = fixture::offline_directory();
    change(&image, &format!("{}/repo-foreign", offline.display()), second.to_str().unwrap());
    image
}

/// That commands refuse the package, and leave neither a lock nor an output.
fn refused(image: &tempfile::TempDir, listed: &str, genuine: &str) {
    for command in ["lock", "build"] {
        let said = fail(&mut command_test(image.path(), command));
        let expected = format!("not using the package {listed} of the repository second: the rpm file");
        assert!(said.contains(&expected) && said.contains(&format!("is that of {genuine};")), "{said}");
        assert_eq!(names(image.path()), ["images", "second"], "{said}");
        assert_eq!(names(&image.path().join("images")), ["test.toml"], "{said}");
    }
}

#[test]
fn an_old_kernel_that_is_listed_as_a_new_one_is_refused() {
    let old = rpm("repo", "kernel-cloud-core-6.12.117-");
    let image = forged_image("dnf5", SMALL, &old, "ver=\"6.12.117\"", "ver=\"6.12.119\"");
    refused(&image, "kernel-cloud-core-6.12.119-1.x86_64", "kernel-cloud-core-6.12.117-1.x86_64");
}

#[test]
fn a_package_of_the_base_that_is_listed_as_another_version_is_refused() {
    let old = rpm("repo", "dosfstools-4.2-");
    for builder in ["dnf5", "dnf4"] {
        let image = forged_image(builder, &format!("{SMALL}, \"dosfstools\""), &old, "ver=\"4.2\"", "ver=\"9\"");
        refused(&image, "dosfstools-9-1.2.x86_64", "dosfstools-4.2-1.2.x86_64");
    }
}

#[test]
fn build_time_source_and_licence_are_the_headers_whatever_the_metadata_claim() {
    let genuine = rpm("repo", "dosfstools-4.2-");
    let query = |tag: &str| succeed(Command::new("rpm").args(["-qp", "--nosignature", "--qf", tag]).arg(&genuine));
    let image = forged_image("dnf5", &format!("{SMALL}, \"dosfstools\""), &genuine, "<time file=\"", "<time file=\"1");
    // The other repository has the same package.
    change(&image, "[repos.second]", "[repos.second]\npriority = 1");
    let primary = image.path().join("second/repodata/primary.xml");
    let text = fs::read_to_string(&primary).unwrap();
    let claimed = text
        .replace(&format!("build=\"{}\"", query("%{BUILDTIME}")), "build=\"4000000000\"")
        .replace(&format!(">{}<", query("%{SOURCERPM}")), ">other-1-1.src.rpm<")
        .replace(&format!(">{}<", query("%{LICENSE}")), ">forged<");
    for claim in ["4000000000", ">other-1-1.src.rpm<", ">forged<"] {
        assert!(claimed.contains(claim), "{claimed}");
    }
    let repomd = image.path().join("second/repodata/repomd.xml");
    let listed = fs::read_to_string(&repomd).unwrap();
    let digest = |text: &str| Digest::of(text.as_bytes()).hex();
    fs::write(&repomd, listed.replace(&digest(&text), &digest(&claimed))).unwrap();
    fs::write(&primary, claimed).unwrap();
    succeed(&mut command_test(image.path(), "lock"));
    let lock = fs::read_to_string(image.path().join("images/test.lock")).unwrap();
    let package = lock.split("\n\n").find(|table| table.contains("name = \"dosfstools\"")).unwrap();
    assert!(package.contains("repo = \"second\""), "{package}");
    for line in [
        format!("build_time = {}", query("%{BUILDTIME}")),
        format!("source_rpm = \"{}\"", query("%{SOURCERPM}")),
        format!("license = \"{}\"", query("%{LICENSE}")),
    ] {
        assert!(package.lines().any(|found| found == line), "{line}: {package}");
    }
    assert!(!lock.contains("epoch = 4000000000"), "{lock}");
}

#[test]
fn a_lock_that_calls_an_rpm_by_another_name_is_refused_though_all_is_in_the_cache() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    succeed(&mut build_test(image.path()));
    fs::remove_dir_all(image.path().join("test")).unwrap();
    let path = image.path().join("images/test.lock");
    let text = fs::read_to_string(&path).unwrap();
    let kernel = text.split("\n\n").find(|table| table.contains("reason = \"kernel\"")).unwrap();
    let line = |key: &str| kernel.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
    let with = |from: &str, to: &str| {
        let edited = text.replace(kernel, &kernel.replace(from, to));
        edited.replace(
            "\"kernel-cloud-core-6.12.118-1.x86_64\"",
            &format!(
                "\"{}\"",
                match from {
                    "version = \"6.12.118\"" => "kernel-cloud-core-6.12.119-1.x86_64",
                    _ => "kernel-cloud-core-6.12.118-1.x86_64",
                }
            ),
        )
    };
    for (edited, words) in [
        (with("version = \"6.12.118\"", "version = \"6.12.119\""), "is that of kernel-cloud-core-6.12.118-1.x86_64;"),
        (with(line("license"), "license = \"forged\""), "that its licence is forged, its rpm file says"),
        (with(line("source_rpm"), "source_rpm = \"other.src.rpm\""), "that its source rpm is other.src.rpm,"),
        (with(line("installed_size"), "installed_size = 1"), "that its installed size is 1,"),
    ] {
        assert_ne!(edited, text);
        // Whoever means to deceive renews the digests.
        let edited: Lock = toml::from_str(&edited).unwrap();
        fs::write(&path, edited.to_toml().unwrap()).unwrap();
        for mut command in [build_test(image.path()), command_test(image.path(), "fetch")] {
            if command.get_args().any(|argument| argument == "build") {
                command.arg("--locked");
            }
            let said = fail(&mut command);
            assert!(said.contains(words), "{said}");
            assert_eq!(names(image.path()), ["images"]);
        }
    }
    // And from a directory of rpms, or where they were imported.
    let edited: Lock = toml::from_str(&with("version = \"6.12.118\"", "version = \"6.12.119\"")).unwrap();
    fs::write(&path, edited.to_toml().unwrap()).unwrap();
    let packages = fixture::offline_directory().join("repo/Packages");
    fs::remove_dir_all(image.path().join(CACHE)).unwrap();
    let said = fail(build_test(image.path()).args(["--locked", "--offline", "--rpm-dir"]).arg(&packages));
    assert!(said.contains("is that of kernel-cloud-core-6.12.118-1.x86_64;"), "{said}");
    fs::remove_dir_all(image.path().join(CACHE)).unwrap();
    let mut import = fixture::ocinitrd();
    succeed(import.args(["store", "import"]).arg(&packages).env("XDG_CACHE_HOME", image.path().join(CACHE)));
    let said = fail(build_test(image.path()).args(["--locked", "--offline"]));
    assert!(said.contains("is that of kernel-cloud-core-6.12.118-1.x86_64;"), "{said}");
}
