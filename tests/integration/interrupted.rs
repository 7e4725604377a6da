//! Builds that are ended from outside: by a signal, or because their engine goes away. Nothing of them stays, and the
//! next build is whole.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::engine::{TcpService, containers, eventually, service_of};
use crate::fixture::{CACHE, names, succeed};
use crate::images::{SMALL, build_test, build_test_anew, command_test, small_image, varied};

/// A build that has come to the job `job`.
fn build_in_job(directory: &Path, job: &str) -> Child {
    in_job(build_test(directory), job)
}

/// A process that builds and has come to the job `job`.
pub fn in_job(mut build: Command, job: &str) -> Child {
    let child = build.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let own = format!("{job}-{}", child.id());
    eventually(&format!("the build comes to {job}"), Duration::from_secs(120), || !containers(&own).is_empty());
    child
}

/// Waits for its end; returns its exit code and what it said.
pub fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_signal_ends_a_build_in_every_job_and_nothing_stays() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    for (job, signal, code) in
        [("solve", Signal::INT, 130), ("verify", Signal::TERM, 143), ("install", Signal::INT, 130)]
    {
        let build = build_in_job(image.path(), job);
        let id = build.id();
        kill_process(Pid::from_child(&build), signal).unwrap();
        let (exit_code, said) = end(build);
        assert_eq!(exit_code, Some(code), "{said}");
        assert!(said.contains("interrupted by "), "{said}");
        assert_eq!(containers(&format!("{job}-{id}")), [""; 0], "{said}");
        assert_eq!(names(image.path()), ["images"], "{said}");
    }
}

#[test]
fn a_signal_ends_a_build_that_compresses_and_nothing_stays() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    for (arguments, signal, code) in [(["--compress", "xz:9"], Signal::INT, 130), (["-t", "oci"], Signal::TERM, 143)] {
        let mut build = build_test_anew(image.path());
        let mut build = build.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut narration = BufReader::new(build.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(narration.any(|line| line.starts_with("installing: ")));
        std::thread::sleep(Duration::from_millis(300));
        let signalled = Instant::now();
        kill_process(Pid::from_child(&build), signal).unwrap();
        let said: Vec<String> = narration.collect();
        assert_eq!(build.wait().unwrap().code(), Some(code), "{said:#?}");
        assert!(signalled.elapsed() < Duration::from_secs(10), "{said:#?}");
        assert_eq!(names(image.path()), ["images"], "{said:#?}");
    }
}

#[test]
fn a_signal_ends_a_rebuild_and_nothing_stays() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    succeed(&mut build_test(image.path()));
    let rebuild = || {
        let mut command = command_test(image.path(), "verify");
        command.arg("--rebuild");
        command
    };
    let left = || names(&image.path().join(CACHE).join("ocinitrd"));
    let installing = in_job(rebuild(), "install");
    let id = installing.id();
    assert!(left().iter().any(|name| name.starts_with(".tmp-rebuild-")));
    kill_process(Pid::from_child(&installing), Signal::TERM).unwrap();
    let (exit_code, said) = end(installing);
    assert_eq!((exit_code, containers(&format!("install-{id}")).len()), (Some(143), 0), "{said}");
    assert_eq!(left(), ["blobs", "cache", "lock", "partial"], "{said}");

    let mut writing = rebuild().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut narration = BufReader::new(writing.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(narration.any(|line| line.starts_with("installing: ")));
    kill_process(Pid::from_child(&writing), Signal::INT).unwrap();
    let said: Vec<String> = narration.collect();
    assert_eq!(writing.wait().unwrap().code(), Some(130), "{said:#?}");
    assert_eq!(left(), ["blobs", "cache", "lock", "partial"], "{said:#?}");
}

#[test]
fn what_a_killed_build_left_is_removed_by_the_next_which_is_whole() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let mut killed = build_in_job(image.path(), "install");
    killed.kill().unwrap();
    killed.wait().unwrap();
    let own = format!("install-{}", killed.id());
    assert_eq!(containers(&own).len(), 1);
    succeed(&mut build_test(image.path()));
    assert_eq!(containers(&own), [""; 0]);
    assert_eq!(names(image.path()), ["images", "test"]);
    assert_eq!(names(&image.path().join("test")), ["initrd", "manifest.json", "vmlinuz"]);
}

#[test]
fn an_engine_that_dies_ends_the_build_with_its_name_and_no_output() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let build = build_in_job(image.path(), "install");
    let id = build.id();
    let service = service_of(Pid::from_child(&build));
    kill_process(service, Signal::KILL).unwrap();
    let (exit_code, said) = end(build);
    assert_eq!(exit_code, Some(1), "{said}");
    assert!(said.contains("went away during the job \"install\""), "{said}");
    assert_eq!(containers(&format!("install-{id}")), [""; 0], "{said}");
    assert_eq!(names(image.path()), ["images"], "{said}");
}

#[test]
fn a_container_that_somebody_removes_is_not_told_as_an_answer_of_its_step() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    // Not the one that verifies: it is done so soon that two would remove its container at a time.
    for (job, answer) in [("solve", "found no solution"), ("install", "installing the packages failed")] {
        let build = build_in_job(image.path(), job);
        let own = containers(&format!("{job}-{}", build.id()));
        succeed(Command::new("podman").args(["rm", "--force", "--time=0"]).args(own));
        let (exit_code, said) = end(build);
        assert_eq!(exit_code, Some(1), "{said}");
        assert!(said.contains("its container was removed from outside") && !said.contains(answer), "{said}");
        assert_eq!(names(image.path()), ["images"], "{said}");
    }
}

/// Whether it is enough depends on the machine; if not, that is what is told.
#[test]
fn a_low_limit_of_open_files_is_no_verdict_on_packages() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    for limit in ["64", "20"] {
        let build = build_test(image.path());
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={limit}:{limit}")).arg(build.get_program()).args(build.get_args());
        limited.current_dir(image.path()).env("XDG_CACHE_HOME", image.path().join(CACHE));
        let answer = limited.output().unwrap();
        let said = String::from_utf8_lossy(&answer.stderr).to_lowercase();
        assert_eq!(answer.status.success(), limit == "64", "{said}");
        assert!(answer.status.success() || said.contains("too many open files"), "{said}");
        let _ = std::fs::remove_dir_all(image.path().join(CACHE));
    }
}

#[test]
fn an_engine_over_tcp_builds_the_same_bytes() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let reference = varied(image.path(), "test", build_test(image.path()));
    let service = TcpService::start();
    let remote = build_test_anew(image.path()).args(["-O", "remote", "--engine", &service.url]).output().unwrap();
    let said = String::from_utf8_lossy(&remote.stderr);
    assert!(remote.status.success() && said.contains(&service.url), "{said}");
    for (name, bytes) in &reference {
        assert!(std::fs::read(image.path().join("remote").join(name)).unwrap() == *bytes, "{name} differs");
    }
}
