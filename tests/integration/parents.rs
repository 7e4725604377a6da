//! What outlives the program, which is nothing, and which signals it does not hear.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};

use crate::engine::eventually;
use crate::fixture::{ocinitrd, offline_output};
use crate::images::{SMALL, build_test, small_image};
use crate::interrupted::{end, in_job};

/// For a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// A boot whose QEMU is a script that sleeps beside a child of its own.
struct Boot {
    program: Child,
    directory: tempfile::TempDir,
}

impl Boot {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let qemu = directory.path().join("qemu-system-x86_64");
        let own = directory.path().display();
        let script = format!(
            "#!/bin/sh\nsleep 600 &\necho $! > {own}/child.new\necho $$ > {own}/qemu.new\nmv {own}/child.new {own}/child\n\
             mv {own}/qemu.new {own}/qemu\nwait\n"
        );
        fs::write(&qemu, script).unwrap();
        fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{own}:{}", std::env::var("PATH").unwrap());
        let mut command = ocinitrd();
        command.arg("boot").arg(offline_output()).arg("--log-dir").arg(directory.path().join("logs"));
        command
            .args(["--root", "ext4-uuid", "--timeout", "600"])
            .env("PATH", path)
            .env("XDG_CACHE_HOME", directory.path());
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let program = command.spawn().unwrap();
        eventually("QEMU is started", LONG, || directory.path().join("qemu").exists());
        Boot { program, directory }
    }

    fn process(&self, name: &str) -> Pid {
        let text = fs::read_to_string(self.directory.path().join(name)).unwrap();
        Pid::from_raw(text.trim().parse().unwrap()).unwrap()
    }

    /// Waits for the end of everything; returns the program's exit code.
    fn end(mut self) -> Option<i32> {
        let code = self.program.wait().unwrap().code();
        for name in ["qemu", "child"] {
            let process = self.process(name);
            eventually(&format!("{name} ends"), LONG, || !is_running(process));
        }
        code
    }
}

/// Whether a process is there and more than its exit code is left.
fn is_running(process: Pid) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(process.as_raw_pid().to_string()).join("status"));
    test_kill_process(process).is_ok() && !status.unwrap_or_default().contains("State:\tZ")
}

#[test]
fn what_the_program_started_ends_with_it_however_it_ends() {
    let killed = Boot::start();
    kill_process(Pid::from_child(&killed.program), Signal::KILL).unwrap();
    assert_eq!(killed.end(), None);

    let terminated = Boot::start();
    kill_process(Pid::from_child(&terminated.program), Signal::TERM).unwrap();
    assert_eq!(terminated.end(), Some(143));

    // As a terminal does it, to everybody in the foreground, for someone without patience.
    let interrupted = Boot::start();
    for _ in 0..2 {
        let _ = kill_process_group(Pid::from_child(&interrupted.program), Signal::INT);
    }
    assert_eq!(interrupted.end(), Some(130));
}

/// A build started by a shell that ignores the signals, as nohup(1) does, and a shell without job control.
fn deaf(directory: &Path, signals: &str) -> Command {
    let build = build_test(directory);
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &format!("trap '' {signals}; exec \"$@\""), "sh"])
        .arg(build.get_program())
        .args(build.get_args());
    shell.current_dir(directory);
    for (name, value) in build.get_envs() {
        shell.env(name, value.unwrap());
    }
    shell
}

#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let build = in_job(deaf(image.path(), "HUP INT"), "solve");
    let process = Pid::from_child(&build);
    for signal in [Signal::HUP, Signal::INT, Signal::HUP, Signal::INT] {
        kill_process(process, signal).unwrap();
    }
    let (code, said) = end(build);
    assert_eq!(code, Some(0), "{said}");
    assert!(image.path().join("test/initrd").is_file(), "{said}");

    fs::remove_dir_all(image.path().join(crate::fixture::CACHE)).unwrap();
    let build = in_job(deaf(image.path(), "HUP"), "install");
    kill_process(Pid::from_child(&build), Signal::HUP).unwrap();
    kill_process(Pid::from_child(&build), Signal::TERM).unwrap();
    let (code, said) = end(build);
    assert_eq!(code, Some(143), "the others are heard: {said}");
    assert!(said.contains("interrupted by SIGTERM"), "{said}");
}
