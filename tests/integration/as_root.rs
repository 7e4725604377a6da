//! What takes root to show: that root and a user without rights get the same, and what needs a mount on the host.
//! `make test` leaves these out for other users, and says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use crate::engine::{self, Bench, TcpService};
use crate::fixture::{self, names, succeed};
use crate::images::{SMALL, build_test, build_test_anew, command_test, small_image, varied};

fn insist_on_root() {
    assert!(fixture::is_root(), "this test takes root; leave it out with --skip as_root::");
}

/// Limits of memory take rights that rootless engines do not have everywhere. Not every engine reports that the kernel ended a program
/// for want of memory (podman 4.3.1 with version 1 of cgroups does not); then it is the signal that leads there.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_has_no_memory_left_is_no_answer_of_its_step() {
    insist_on_root();
    let bench = Bench::new().await;
    let limit_bytes = 64 << 20;
    let error = bench.run_in_memory(limit_bytes, "hungry", "exec tail /dev/zero").await.unwrap_err();
    let said = format!("{error:#}");
    let by_cause = said.contains("the kernel ended it, because there was not enough memory");
    let by_signal = said.contains("signal 9 (SIGKILL)") && said.contains("see whether this machine has enough memory");
    assert!(said.contains("the job \"hungry\": ") && (by_cause || by_signal), "{said}");
    let modest = bench.run_in_memory(limit_bytes, "modest", "echo done").await.unwrap();
    assert_eq!(modest.log, "done\n");
}

#[test]
fn root_and_rootless_get_the_same_bytes() {
    insist_on_root();
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let reference = varied(image.path(), "test", build_test(image.path()));

    let public = fixture::public_copy(&["repo", "repo-foreign"]);
    let place = public.path().display();
    let definition = fs::read_to_string(image.path().join("images/test.toml")).unwrap();
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
        assert!(rootless[name] == *bytes, "{name} depends on the user");
    }
}

/// As on another host: another version of podman, another storage driver, reached over TCP.
#[test]
#[ignore = "makes the root filesystem of another Debian: part of make test-matrix"]
fn another_version_of_podman_gives_the_same_bytes() {
    insist_on_root();
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let reference = varied(image.path(), "test", build_test(image.path()));
    let root = fixture::checkout().join("target/test-output/podman-trixie");
    fs::create_dir_all(root.parent().unwrap()).unwrap();
    let service = TcpService::by(Duration::from_secs(400), |port, _| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child"]);
        command.arg(fixture::checkout().join("tests/integration/other-podman.sh")).arg(&root);
        command.arg(fixture::offline_directory().join("builder-dnf5.oci.tar")).arg(port.to_string());
        command
    });
    let versions = [succeed(Command::new("podman").arg("--version")), {
        let doctor = fixture::ocinitrd().args(["doctor", "--engine", &service.url]).output().unwrap();
        fixture::stdout(&doctor)
    }];
    let own = versions[0].trim().rsplit(' ').next().unwrap();
    assert!(!versions[1].contains(&format!("podman {own}")), "it is the same version: {}", versions[1]);
    let build = build_test_anew(image.path()).args(["-O", "other", "--engine", &service.url]).output().unwrap();
    assert!(build.status.success(), "{}", fixture::stderr(&build));
    for (name, bytes) in &reference {
        assert!(fs::read(image.path().join("other").join(name)).unwrap() == *bytes, "{name} differs");
    }
}

#[test]
fn boots_need_no_root_rights() {
    insist_on_root();
    let public = fixture::public_copy(&[]);
    for (name, output) in
        [("out", fixture::offline_output()), ("maker", fixture::disk_maker_output()), ("nfs", fixture::nfs_output())]
    {
        let copy = public.path().join(name);
        fs::create_dir(&copy).unwrap();
        for file in ["initrd", "vmlinuz", "manifest.json"] {
            fs::copy(output.join(file), copy.join(file)).unwrap();
            fs::set_permissions(copy.join(file), fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
    let path = |name: &str| public.path().join(name).display().to_string();
    fs::create_dir(path("log")).unwrap();
    fs::set_permissions(path("log"), fs::Permissions::from_mode(0o777)).unwrap();
    let boot = |output: &str, roots: &[&str]| {
        let options = ["--disks-by", &path("maker"), "--log-dir", &path("log"), "--timeout", "600"].map(str::to_owned);
        let roots = roots.iter().flat_map(|root| ["--root".to_owned(), (*root).to_owned()]);
        let command = [path("ocinitrd"), "boot".to_owned(), path(output)];
        succeed(&mut fixture::as_rootless_user(command.into_iter().chain(options).chain(roots)))
    };
    for (output, roots) in [("out", &["lvm-on-luks", "luks-tpm2"][..]), ("nfs", &["nfs4-dhcp"])] {
        let said = boot(output, roots);
        for root in roots {
            assert!(said.lines().any(|line| line.starts_with(&format!("{root}: ok, "))), "{said}");
        }
    }
}

#[test]
fn full_disk_leaves_the_old_output() {
    insist_on_root();
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let output = image.path().join("test");
    fs::create_dir(&output).unwrap();
    succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(&output));
    fs::write(output.join("initrd"), "the old one").unwrap();
    let built = build_test(image.path()).arg("--force").output().unwrap();
    let left = names(&output);
    let old = fs::read_to_string(output.join("initrd"));
    succeed(Command::new("umount").arg(&output));
    let error = fixture::stderr(&built);
    assert_eq!(built.status.code(), Some(1), "{error}");
    assert!(error.contains("No space left on device") || error.contains("no space left"), "{error}");
    assert_eq!((left, old.unwrap().as_str()), (vec!["initrd".to_owned()], "the old one"));
}

#[test]
fn the_engines_tests_pass_without_root_rights_too() {
    insist_on_root();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut words = vec![format!("{}={}", engine::BUILDER, engine::builder()), program.display().to_string()];
    words.extend(["--exact", "--test-threads=1"].map(str::to_owned));
    words.extend(
        [
            "a_job_gets_its_input_and_returns_its_outputs_and_what_it_printed",
            "a_job_has_no_network_and_neither_the_hosts_name_nor_its_limits",
            "an_install_step_can_mount_and_chroot",
            "a_cancelled_job_ends_at_once_and_leaves_nothing",
            "an_engine_that_dies_in_the_middle_is_named_and_nothing_stays",
            "the_service_that_was_started_ends_with_the_run",
        ]
        .map(|test| format!("engine::{test}")),
    );
    let said = fixture::succeed(&mut fixture::as_rootless_user(words));
    assert!(said.contains("test result: ok. 6 passed; 0 failed"), "{said}");
}

#[test]
fn a_locked_build_works_where_there_is_no_network_at_all() {
    insist_on_root();
    let image = small_image("dnf5", "repo-foreign", SMALL);
    succeed(&mut command_test(image.path(), "lock"));
    let mut build = Command::new("unshare");
    build.args([
        "--net",
        env!("CARGO_BIN_EXE_ocinitrd"),
        "build",
        "test",
        "--locked",
        "--offline",
        "--engine",
        "podman",
    ]);
    succeed(build.current_dir(image.path()).env("XDG_CACHE_HOME", image.path().join(fixture::CACHE)));
    assert_eq!(names(&image.path().join("test")), ["initrd", "manifest.json", "vmlinuz"]);
}

#[test]
fn a_disk_that_is_full_while_packages_are_fetched_is_named_with_what_helps() {
    insist_on_root();
    let image = small_image("dnf5", "repo-foreign", SMALL);
    succeed(&mut command_test(image.path(), "lock"));
    let cache = image.path().join(fixture::CACHE);
    fs::remove_dir_all(&cache).unwrap();
    fs::create_dir(&cache).unwrap();
    succeed(Command::new("mount").args(["-t", "tmpfs", "-o", "size=20m", "none"]).arg(&cache));
    let built = build_test(image.path()).arg("--locked").output().unwrap();
    let error = fixture::stderr(&built);
    succeed(Command::new("umount").arg(&cache));
    assert_eq!(built.status.code(), Some(1), "{error}");
    assert!(error.contains("No space left on device") && error.contains("XDG_CACHE_HOME"), "{error}");
    assert!(!error.contains("has replaced the package") && !error.contains("check the repository"), "{error}");
    assert_eq!(names(image.path()), ["images"], "{error}");
}
