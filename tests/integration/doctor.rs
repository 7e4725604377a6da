//! The doctor on this machine, and on one that lacks an engine.

use std::path::Path;
use std::process::Command;

use ocinitrd::container::engine::{Cancellation, Engine};
use ocinitrd::doctor::{EngineFacts, Host, State, examine, preflight};
use serde_json::Value;

use crate::fixture;

/// The program with no other endpoint than what the test gives it.
fn doctor() -> Command {
    let mut command = fixture::ocinitrd();
    command.arg("doctor").env_remove("CONTAINER_HOST").env_remove("DOCKER_HOST");
    command
}

fn finding<'a>(report: &'a Value, subject: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["subject"] == subject).unwrap()
}

#[test]
fn a_machine_that_can_run_these_tests_can_build() {
    let report: Value =
        serde_json::from_str(&fixture::succeed(doctor().args(["--engine", "podman", "--json"]))).unwrap();
    assert_eq!(report["usable"], true, "{report:#}");
    let rights = if fixture::is_root() { "(root)" } else { "(rootless)" };
    let engine = finding(&report, "engine")["detail"].as_str().unwrap();
    assert!(engine.starts_with("podman ") && engine.contains(rights), "{engine}");
    for subject in ["storage", "cgroups", "limits", "QEMU", "UEFI", "KVM", "disk"] {
        assert!(!finding(&report, subject)["detail"].as_str().unwrap().is_empty());
    }
    // What names a remote engine is not for a podman that is to be one.
    let text =
        fixture::succeed(doctor().args(["--engine", "podman"]).env("CONTAINER_HOST", "unix:///nonexistent.sock"));
    assert!(text.ends_with("A build can work here.\n"), "{text}");
}

#[test]
fn without_podman_and_sockets_it_lists_what_was_tried_and_how_to_install() {
    // The system's socket, where there is one, would be found: an endpoint that is named is the only one that is tried.
    let output =
        doctor().env("PATH", "/nonexistent").env("CONTAINER_HOST", "unix:///nonexistent.sock").output().unwrap();
    let said = fixture::stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("unix:///nonexistent.sock (named by CONTAINER_HOST): the engine does not answer"), "{said}");
    assert!(said.contains("A build cannot work here: "), "{said}");
    if !Path::new(ocinitrd::container::engine::endpoint::ROOTFUL_SOCKET).exists() {
        let said =
            fixture::stdout(&doctor().env("PATH", "/nonexistent").env_remove("XDG_RUNTIME_DIR").output().unwrap());
        assert!(said.contains("podman system service: the program podman is not installed"), "{said}");
        assert!(said.contains("cure: install the package podman"), "{said}");
    }
}

#[test]
fn an_endpoint_that_is_none_is_an_error_that_names_its_origin() {
    let said = fixture::fail(doctor().env("DOCKER_HOST", "ssh://root@build.example.org"));
    assert!(said.contains("reading DOCKER_HOST") && said.contains("ssh -fNL"), "{said}");
    let said = fixture::fail_with(2, doctor().args(["--engine", "docker"]));
    assert!(said.contains("'docker' for '--engine") && said.contains("tcp://HOST:PORT"), "{said}");
}

#[test]
fn looking_at_the_host_starts_no_service_that_stays() {
    let directory = tempfile::tempdir().unwrap();
    fixture::succeed(
        doctor().args(["--engine", "podman"]).env("TMPDIR", directory.path()).env_remove("XDG_RUNTIME_DIR"),
    );
    // A podman without root rights keeps files of its own there.
    let mut left = fixture::names(directory.path());
    left.retain(|name| name.starts_with("ocinitrd"));
    assert_eq!(left, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_told_the_same_words_before_it_starts() {
    let (cancellation, _trigger) = Cancellation::manual();
    let surroundings = ocinitrd::cli::environment::EngineOption { engine: Some("podman".to_owned()) };
    let engine = Engine::find(&surroundings.surroundings().unwrap(), &cancellation).await.unwrap();
    let facts = EngineFacts::from(&engine);
    let host = ocinitrd::cli::environment::host().unwrap();
    preflight(&host, &facts).unwrap();

    // The same machine without any cgroup: no container would start.
    let machine = tempfile::tempdir().unwrap();
    let proc = machine.path().join("proc/self");
    std::fs::create_dir_all(&proc).unwrap();
    std::fs::write(proc.join("mountinfo"), "").unwrap();
    std::fs::copy("/proc/self/limits", proc.join("limits")).unwrap();
    let host = Host { root: machine.path().to_owned(), user_id: 0, ..host };
    let findings = examine(&host, Ok(&facts)).unwrap();
    let problem = findings.iter().find(|finding| finding.state == State::Problem).unwrap();
    let message = preflight(&host, &facts).unwrap_err().to_string();
    assert!(message.contains(&problem.to_string()), "{message}");
}
