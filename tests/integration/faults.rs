//! File systems that fail: the n-th open, read, write, sync, rename or new directory of a command fails, for each n that the
//! command comes to. strace(1) makes it fail, so the program under test is the real one.
//!
//! Whatever failed: what was there before stays, or all of the result is there; an exit code of 0 is given for the result
//! alone; nothing else is left; and the next run, in which nothing fails, gives what a run on an untouched place gives.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::engine::containers_of;
use crate::fixture::{CACHE, ocinitrd, stderr, succeed};
use crate::handmade::{Place, directory, file};
use crate::host_machine::Machine;
use crate::images::{SMALL, change, command_test, small_image};
use crate::kernel_install_grub::GrubMachine;

/// A kind of call that fails, and with which error.
#[derive(Clone, Copy, Debug)]
struct Fault {
    calls: &'static str,
    error: &'static str,
}

const FAULTS: [Fault; 6] = [
    Fault { calls: "openat", error: "EMFILE" },
    Fault { calls: "read,pread64", error: "EIO" },
    Fault { calls: "write,pwrite64,writev,copy_file_range,ftruncate,fallocate", error: "ENOSPC" },
    Fault { calls: "fsync,fdatasync", error: "EIO" },
    Fault { calls: "rename,renameat,renameat2,linkat", error: "EIO" },
    Fault { calls: "mkdir,mkdirat,fchmod,fchmodat,chmod", error: "ENOSPC" },
];

/// Files below a directory with their modes and contents, symlinks with their targets.
type Snapshot = BTreeMap<PathBuf, (u32, Vec<u8>)>;

fn snapshot(root: &Path) -> Snapshot {
    let mut found = Snapshot::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let content = if metadata.is_dir() {
                // The cache is looked at by itself: what is kept there may differ.
                if name != Path::new(CACHE) {
                    pending.push(path);
                }
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            found.insert(name, (metadata.permissions().mode(), content));
        }
    }
    found
}

/// Names that are in one only, or whose files differ.
fn differing(one: &Snapshot, other: &Snapshot) -> Vec<PathBuf> {
    let names = one.keys().chain(other.keys());
    let mut names: Vec<PathBuf> = names.filter(|name| one.get(*name) != other.get(*name)).cloned().collect();
    names.sort();
    names.dedup();
    names
}

/// What is done, again and again from the same beginning.
struct Scenario<'a> {
    /// The directory in which everything happens.
    place: &'a Path,
    /// Puts it into the state before.
    prepare: &'a dyn Fn(),
    /// What is run then.
    command: &'a dyn Fn() -> Command,
    /// Whether each file is a result of its own, so that some may be there without the others.
    each_file_counts: bool,
}

/// How a run went in which a call failed.
struct Run {
    output: Output,
    /// Whether the command came to that call.
    failed: bool,
    /// The calls that strace saw, the last ones.
    calls: String,
    /// The command's process.
    pid: u32,
}

impl Scenario<'_> {
    /// Lets the n-th call fail, in each thread of the program; programs that it starts are left alone.
    fn run(&self, fault: Fault, n: usize) -> Run {
        let traced = tempfile::NamedTempFile::new().unwrap();
        let command = (self.command)();
        // What hangs is ended, and counted as a fault by its exit code.
        let mut strace = Command::new("timeout");
        strace.args(["--signal=KILL", "120", "strace", "-f", "-y", "-b", "execve", "-qq", "-o"]).arg(traced.path());
        strace.args(["-e", &format!("trace=execve,{}", fault.calls)]);
        strace.args(["-e", &format!("inject={}:error={}:when={n}", fault.calls, fault.error), "--"]);
        strace.arg(command.get_program()).args(command.get_args());
        // With cargo's, the linker looks for each library in every directory of its build.
        strace.env_remove("LD_LIBRARY_PATH");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => strace.env(name, value),
                None => strace.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            strace.current_dir(directory);
        }
        let output = strace.output().unwrap();
        let trace = String::from_utf8_lossy(&fs::read(traced.path()).unwrap()).into_owned();
        let pid = trace.split_whitespace().next().and_then(|word| word.parse().ok());
        let injected: Vec<&str> = trace.lines().filter(|line| line.contains("(INJECTED)")).collect();
        Run {
            failed: !injected.is_empty(),
            calls: injected.join("\n"),
            pid: pid.unwrap_or_else(|| panic!("{}", stderr(&output))),
            output,
        }
    }

    /// Lets each `step`-th call of each kind fail, and checks what is there afterwards. Returns how many runs had a failure.
    fn check(&self, step: usize) -> usize {
        (self.prepare)();
        let before = snapshot(self.place);
        succeed(&mut (self.command)());
        let result = snapshot(self.place);
        assert_ne!(before, result, "the command does something");
        let mut failures = 0;
        for fault in FAULTS {
            // Different kinds begin at different calls, so that several commands together see more of them.
            let mut n = 1 + fault.calls.len() % step;
            loop {
                (self.prepare)();
                let run = self.run(fault, n);
                if !run.failed {
                    break;
                }
                n += step;
                // The runtime wakes itself by these; no disk is behind them, so they do not fail in this way.
                if run.calls.contains("<anon_inode:") {
                    continue;
                }
                failures += 1;
                self.check_run(fault, n - step, &run, &before, &result);
            }
        }
        failures
    }

    fn check_run(&self, fault: Fault, n: usize, run: &Run, before: &Snapshot, result: &Snapshot) {
        let said = stderr(&run.output);
        let what = format!("call {n} of {fault:?}: {}\n{}\n{said}", run.output.status, run.calls);
        assert_ne!(run.output.status.code(), Some(137), "it hangs, or was killed: {what}");
        let after = snapshot(self.place);
        if run.output.status.success() {
            assert_eq!(differing(&after, result), [""; 0].map(PathBuf::from), "it says that it succeeded: {what}");
        } else {
            assert!(run.output.status.code().is_some(), "it was ended by a signal: {what}");
            assert!(!said.contains("panicked"), "{what}");
            let is_half = differing(&after, before).iter().any(|name| after.get(name) != result.get(name));
            let is_part = !differing(&after, before).is_empty() && !differing(&after, result).is_empty();
            assert!(
                !is_half && (self.each_file_counts || !is_part),
                "neither what was there before nor the result, but other in {:?}: {what}",
                differing(&after, before)
            );
        }
        let left: Vec<String> = temporaries(&self.place.join(CACHE));
        assert_eq!(left, [""; 0], "{what}");
        succeed(&mut (self.command)());
        assert_eq!(differing(&snapshot(self.place), result), [""; 0].map(PathBuf::from), "the next run: {what}");
        assert_eq!(containers_of(run.pid), [""; 0], "containers after the next run: {what}");
    }
}

/// Names of temporary files and directories below a cache.
fn temporaries(cache: &Path) -> Vec<String> {
    let root = cache.join("ocinitrd");
    let names = fs::read_dir(root).into_iter().flatten().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with(".tmp")).collect()
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    succeed(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to));
}

fn check_convert() -> usize {
    let place = Place::new();
    let members = vec![directory("usr"), file("usr/a", vec![b'a'; 300_000]), file("usr/b", "b")];
    place.initrd("other", members, "none");
    let scenario = Scenario {
        place: &place.path(""),
        prepare: &|| {
            let _ = fs::remove_file(place.path("initrd"));
            fs::write(place.path("initrd"), "what was there before").unwrap();
        },
        command: &|| {
            let mut command = ocinitrd();
            command.arg("convert").arg(place.path("other.tar")).arg("-o").arg(place.path("initrd"));
            command.args(["--compress", "zstd:3"]);
            command
        },
        each_file_counts: false,
    };
    scenario.check(1)
}

/// A build for which the cache has all results, over an earlier output that differs.
fn check_build(step: usize) -> usize {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let root = image.path();
    let build = || {
        let mut command = command_test(root, "build");
        command.args(["-t", "cpio,oci", "--segments"]);
        command
    };
    succeed(&mut build());
    copy(&root.join("test"), &root.join(CACHE).join("earlier"));
    succeed(build().args(["--compress", "none"]));
    let scenario = Scenario {
        place: root,
        prepare: &|| copy(&root.join(CACHE).join("earlier"), &root.join("test")),
        command: &|| {
            let mut command = build();
            command.args(["--compress", "none", "--locked", "--offline"]);
            command
        },
        each_file_counts: false,
    };
    scenario.check(step)
}

/// An image that is locked.
fn locked_image(packages: &str) -> tempfile::TempDir {
    let image = small_image("dnf5", "repo-foreign", packages);
    succeed(&mut command_test(image.path(), "lock"));
    image
}

/// A lock that is solved for, with a container, over an earlier one.
fn check_lock(step: usize) -> usize {
    let image = locked_image("\"bash\"");
    let root = image.path();
    let lock = root.join("images/test.lock");
    let earlier = fs::read(&lock).unwrap();
    change(&image, "\"bash\"", "\"bash\", \"less\"");
    let scenario = Scenario {
        place: root,
        prepare: &|| {
            fs::write(&lock, &earlier).unwrap();
            forget_results(root);
        },
        command: &|| command_test(root, "lock"),
        each_file_counts: false,
    };
    scenario.check(step)
}

/// A build for which the cache has the packages only, so that containers verify and install them.
fn check_install(step: usize) -> usize {
    let image = locked_image(SMALL);
    let root = image.path();
    let scenario = Scenario {
        place: root,
        prepare: &|| {
            let _ = fs::remove_dir_all(root.join("test"));
            forget_results(root);
        },
        command: &|| {
            let mut command = command_test(root, "build");
            command.args(["--locked", "--offline", "--compress", "zstd:1"]);
            command
        },
        each_file_counts: false,
    };
    scenario.check(step)
}

/// Removes what earlier runs made from the cache, so that containers run again; packages and metadata stay.
fn forget_results(root: &Path) {
    let _ = fs::remove_dir_all(root.join(CACHE).join("ocinitrd/cache"));
}

/// Packages that are fetched from a repository in a directory.
fn check_fetch(step: usize) -> usize {
    let image = locked_image("\"bash\"");
    let root = image.path();
    let store = root.join(CACHE).join("ocinitrd");
    let blobs = store.join("blobs");
    let kept = root.join("blobs");
    copy(&blobs, &kept);
    let scenario = Scenario {
        place: &blobs,
        prepare: &|| {
            copy(&kept, &blobs);
            for entry in fs::read_dir(blobs.join("sha256")).unwrap().map(Result::unwrap) {
                if fs::read(entry.path()).unwrap().starts_with(&[0xed, 0xab, 0xee, 0xdb]) {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
        },
        command: &|| command_test(root, "fetch"),
        each_file_counts: true,
    };
    scenario.check(step)
}

/// A machine's initrd, put where kernel-install takes it from.
fn check_kernel_install(step: usize) -> usize {
    let machine = Machine::running();
    let staging = machine.path("staging");
    let scenario = Scenario {
        place: &machine.path("staging"),
        prepare: &|| {
            let _ = fs::remove_dir_all(&staging);
            fs::create_dir(&staging).unwrap();
        },
        command: &|| machine.program_of_plugin("initrd", &staging, None),
        each_file_counts: false,
    };
    scenario.check(step)
}

/// An initrd that was made, put where GRUB reads it.
fn check_grub(step: usize) -> usize {
    let machine = GrubMachine::new().0;
    let (boot, staging) = (machine.path("boot"), machine.path("staging"));
    let initrd = boot.join(format!("initramfs-{}.img", machine.kernel));
    machine.write("boot/loader/entries/mine.conf", &format!("initrd /initramfs-{}.img\n", machine.kernel));
    let scenario = Scenario {
        place: &boot,
        prepare: &|| {
            let _ = fs::remove_dir_all(&staging);
            fs::create_dir(&staging).unwrap();
            fs::write(staging.join("initrd"), "new").unwrap();
            let _ = fs::remove_file(&initrd);
            fs::write(&initrd, "old").unwrap();
        },
        command: &|| machine.program_of_plugin("initrd", &staging, Some("other")),
        each_file_counts: false,
    };
    scenario.check(step)
}

/// Packages that go from the store into a directory.
fn check_store(step: usize) -> usize {
    let image = locked_image("\"bash\"");
    let root = image.path();
    let scenario = Scenario {
        place: root,
        prepare: &|| {
            let _ = fs::remove_dir_all(root.join("exported"));
            fs::create_dir(root.join("exported")).unwrap();
        },
        command: &|| {
            let mut command = ocinitrd();
            command.args(["store", "export", "--lock", "images/test.lock", "exported"]).current_dir(root);
            command.env("XDG_CACHE_HOME", root.join(CACHE));
            command
        },
        each_file_counts: true,
    };
    scenario.check(step)
}

#[test]
fn every_call_that_fails_costs_nothing_but_the_run_when_an_initrd_is_converted() {
    assert!(check_convert() > 30);
}

#[test]
fn every_call_that_fails_costs_nothing_but_the_run_when_an_initrd_is_put_where_grub_reads_it() {
    assert!(check_grub(1) > 10);
}

#[test]
fn some_calls_that_fail_cost_nothing_but_the_run_when_outputs_are_replaced() {
    assert!(check_build(170) > 3);
}

#[test]
#[ignore = "makes many calls fail, which takes some minutes"]
fn many_calls_that_fail_cost_nothing_but_the_run_when_outputs_are_replaced() {
    assert!(check_build(61) > 50);
}

#[test]
#[ignore = "makes many calls fail, which takes some minutes"]
fn many_calls_that_fail_cost_nothing_but_the_run_when_a_lock_is_solved_for() {
    assert!(check_lock(97) > 20);
}

#[test]
#[ignore = "makes many calls fail, which takes some minutes"]
fn many_calls_that_fail_cost_nothing_but_the_run_when_packages_are_installed() {
    assert!(check_install(997) > 20);
}

#[test]
#[ignore = "makes every call fail, which takes some minutes"]
fn every_call_that_fails_costs_nothing_but_the_run_when_packages_are_fetched() {
    assert!(check_fetch(1) > 50);
}

#[test]
#[ignore = "makes every call fail, which takes some minutes"]
fn every_call_that_fails_costs_nothing_but_the_run_when_a_machine_s_initrd_is_made() {
    assert!(check_kernel_install(1) > 50);
}

#[test]
#[ignore = "makes many calls fail, which takes some minutes"]
fn many_calls_that_fail_cost_nothing_but_the_run_when_packages_are_exported() {
    assert!(check_store(23) > 50);
}
