//! What other users of the machine can do: files that block whoever opens them, symlinks in the way of what is written,
//! directories of theirs in place of ours, and a look at what is kept.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::engine::eventually;
use crate::fixture::{self, CACHE, fail, names, ocinitrd, stderr, succeed};
use crate::images::{SMALL, build_test, command_test, small_image};

/// After this a command hangs, however busy the machine is.
const HANGS_SECONDS: &str = "120";
/// What a boot may call the logs of its first guests.
const LOGS: [&str; 3] = ["disks-ext4.log", "disks-plain.log", "plain.log"];

/// The program, ended if it hangs.
fn limited(directory: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", HANGS_SECONDS, env!("CARGO_BIN_EXE_ocinitrd")]);
    command.current_dir(directory).env("XDG_CACHE_HOME", directory.join(CACHE));
    command
}

fn make_fifo(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o644.into()).unwrap();
}

fn directory(mode: u32) -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("ocinitrd-test.").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
    directory
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn without_a_home_there_is_no_cache_and_none_is_made_where_everybody_may_write() {
    let temporary = directory(0o700);
    let commands: [&[&str]; 4] = [&["store", "list"], &["doctor"], &["lock", "offline"], &["boot", "."]];
    for arguments in commands {
        fs::write(temporary.path().join("vmlinuz"), "").unwrap();
        fs::write(temporary.path().join("initrd"), "").unwrap();
        let mut command = ocinitrd();
        command.args(arguments).env("TMPDIR", temporary.path()).env_remove("HOME").env_remove("XDG_CACHE_HOME");
        if arguments[0] == "boot" {
            command.current_dir(temporary.path());
        }
        let said = fail(&mut command);
        assert!(said.contains("neither XDG_CACHE_HOME nor HOME is set"), "{arguments:?}: {said}");
        assert_eq!(names(temporary.path()), ["initrd", "vmlinuz"], "{arguments:?}");
    }
}

#[test]
fn a_cache_that_others_may_write_is_refused_and_nothing_in_it_is_followed() {
    let base = directory(0o755);
    let (cache, victim) = (base.path().join("ocinitrd"), base.path().join("victim"));
    fs::write(&victim, "precious").unwrap();
    fs::create_dir_all(cache.join("partial")).unwrap();
    symlink(&victim, cache.join("lock")).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    let list = || {
        let mut command = ocinitrd();
        command.args(["store", "list"]).env("XDG_CACHE_HOME", base.path());
        command
    };
    let said = fail(&mut list());
    assert!(said.contains("other users may write to it (mode 0777; `chmod go-w`"), "{said}");
    // The directory above it counts as well, unless everybody's files are safe there.
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(fail(&mut list()).contains("other users may write to it (mode 0777"));
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let said = fail(&mut list());
    assert!(said.contains("lock") && said.contains("it is a symlink"), "{said}");
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    fs::remove_file(cache.join("lock")).unwrap();
    succeed(&mut list());
}

#[test]
fn fifos_and_devices_in_the_place_of_files_are_refused_by_name() {
    let place = directory(0o755);
    let path = |name: &str| place.path().join(name);
    for name in ["fifo", "fifo.toml", "rpms/x.rpm", "out/manifest.json", "images/locked.lock", "layout/oci-layout"] {
        fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        make_fifo(&path(name));
    }
    for name in ["layout/index.json", "kernel", "initrd"] {
        fs::write(path(name), "").unwrap();
    }
    let definition = &format!(
        "releasever = \"44\"\n[builder]\nimage = \"quay.io/a/b@sha256:{:064}\"\n[packages]\ninstall = [\"bash\"]\n\
         [repos.x]\nbaseurl = \"https://example.invalid/\"\ngpg_keys = [\"file:///etc/key\"]\n",
        0
    );
    fs::write(path("images/locked.toml"), definition).unwrap();
    fs::write(path("images/including.toml"), "include = [\"../fifo.toml\"]\n").unwrap();
    symlink("/dev/zero", path("endless")).unwrap();
    let commands: [(&str, &str); 23] = [
        ("inspect fifo", "a FIFO"),
        ("inspect endless", "a device"),
        ("diff fifo initrd", "fifo is no regular file"),
        ("diff out out", "a FIFO"),
        ("verify out", "a FIFO"),
        ("check fifo --needs nvme", "a FIFO"),
        ("check out --needs nvme", "a FIFO"),
        ("boot out", "a FIFO"),
        ("boot --kernel kernel --initrd fifo", "no file"),
        ("convert fifo -o converted", "a FIFO"),
        ("convert endless -o converted", "a device"),
        ("store import rpms", "a FIFO"),
        ("store export rpms --lock fifo", "a FIFO"),
        ("lock fifo.toml", "a FIFO"),
        ("lock including", "a FIFO"),
        ("fetch locked", "a FIFO"),
        ("uki inspect fifo", "a FIFO"),
        ("uki build --stub fifo --linux kernel -o image.efi", "a FIFO"),
        ("uki build --stub kernel --linux kernel --initrd fifo -o image.efi", "a FIFO"),
        ("uki build --stub kernel --linux kernel --pcr-private-key fifo -o image.efi", "a FIFO"),
        ("uki sign kernel --secureboot-private-key fifo --secureboot-certificate kernel -o image.efi", "a FIFO"),
        ("uki sign kernel --secureboot-private-key kernel --secureboot-certificate fifo -o image.efi", "a FIFO"),
        ("uki policy-digest fifo", "a FIFO"),
    ];
    for (words, expected) in commands {
        let output = limited(place.path()).args(words.split(' ')).output().unwrap();
        let said = stderr(&output);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{words}: {:?} {said}", output.status);
        assert!(said.contains(expected), "{words}: {said}");
    }
}

#[test]
fn files_of_a_machine_that_block_are_refused() {
    let place = directory(0o755);
    let root = place.path().join("root");
    for name in ["etc/crypttab", "proc/cmdline", "proc/self/mountinfo"] {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), "").unwrap();
    }
    fs::write(place.path().join("initrd"), "").unwrap();
    for name in ["etc/crypttab", "proc/cmdline", "proc/self/mountinfo"] {
        fs::remove_file(root.join(name)).unwrap();
        make_fifo(&root.join(name));
        let output = limited(place.path()).args(["check", "initrd", "--host", "root"]).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains("it is a FIFO, not a regular file"), "{name}: {said}");
        fs::remove_file(root.join(name)).unwrap();
        fs::write(root.join(name), "").unwrap();
    }
}

#[test]
fn what_somebody_put_beside_our_sockets_hangs_nobody() {
    let place = directory(0o1777);
    for (name, target) in [("fifo", None), ("device", Some("/dev/zero"))] {
        let service = place.path().join(format!("ocinitrd-service-{name}"));
        fs::create_dir(&service).unwrap();
        match target {
            Some(target) => symlink(target, service.join("owner")).unwrap(),
            None => make_fifo(&service.join("owner")),
        }
    }
    let home = directory(0o700);
    let mut doctor = limited(home.path());
    doctor.args(["doctor", "--engine", "podman"]).env("TMPDIR", place.path()).env_remove("XDG_RUNTIME_DIR");
    let said = succeed(&mut doctor);
    assert!(said.ends_with("A build can work here.\n"), "{said}");
    // Where anybody can take away what lies there, no socket is put; /tmp is left.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    succeed(&mut doctor);
}

#[test]
fn a_boot_writes_its_logs_through_no_symlink() {
    let place = directory(0o755);
    let (output, victim) = (place.path().join("out"), place.path().join("victim"));
    fs::create_dir_all(output.join("boot")).unwrap();
    fs::write(&victim, "precious").unwrap();
    fs::write(output.join("vmlinuz"), "no kernel").unwrap();
    fs::write(output.join("initrd"), "no initrd").unwrap();
    LOGS.iter().for_each(|log| symlink(&victim, output.join("boot").join(log)).unwrap());
    let boot = || limited(place.path()).args(["boot", "out", "--timeout", "20"]).output().unwrap();
    let made = boot();
    assert_eq!(made.status.code(), Some(1), "{}", stderr(&made));
    let written: Vec<_> =
        LOGS.iter().map(|log| output.join("boot").join(log)).filter(|log| !log.is_symlink()).collect();
    assert!(!written.is_empty(), "{}", stderr(&made));
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    written.iter().for_each(|log| assert_eq!(mode(log), 0o600));

    fs::rename(output.join("boot"), output.join("other")).unwrap();
    symlink(place.path(), output.join("boot")).unwrap();
    let said = stderr(&boot());
    assert!(said.contains("it is a symlink") && said.contains("--log-dir"), "{said}");
}

#[test]
fn a_signal_ends_what_reads_without_an_end() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let tree = image.path().join("images/tree");
    fs::create_dir(&tree).unwrap();
    let large = fs::File::create(tree.join("large")).unwrap();
    large.set_len(1 << 42).unwrap();
    let definition = image.path().join("images/test.toml");
    let text = fs::read_to_string(&definition).unwrap();
    fs::write(&definition, format!("extra_trees = [\"tree\"]\n{text}")).unwrap();
    let child = command_test(image.path(), "lock").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let open_files = PathBuf::from(format!("/proc/{}/fd", child.id()));
    let reads = || {
        let files = fs::read_dir(&open_files).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file == tree.join("large"))
    };
    eventually("the file is read", Duration::from_secs(60), reads);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut child = child;
    for _ in 0..1000 {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // One that has not ended yet must not read on behind the test; its exit code is none then.
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
    assert!(stderr(&output).contains("interrupted by SIGTERM"), "{}", stderr(&output));
}

/// Everything below a directory that anybody but its owner may do anything with.
fn open_to_others(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if mode(&path) & 0o077 != 0 && !path.is_symlink() {
            found.push(path.clone());
        }
        if path.is_dir() {
            found.extend(open_to_others(&path));
        }
    }
    found
}

#[test]
fn a_secret_of_an_extra_tree_is_for_nobody_elses_eyes_wherever_it_lies() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let tree = image.path().join("images/tree/etc");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("secret.key"), "secret").unwrap();
    let definition = image.path().join("images/test.toml");
    let text = fs::read_to_string(&definition).unwrap();
    fs::write(&definition, format!("extra_trees = [\"tree\"]\n{text}")).unwrap();
    let cache = image.path().join(CACHE).join("ocinitrd");
    // As an earlier version made it.
    fs::create_dir_all(cache.join("blobs/sha256")).unwrap();
    for directory in [cache.clone(), cache.join("blobs"), cache.join("blobs/sha256")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let build = build_test(image.path());
    let mut with_umask = Command::new("sh");
    with_umask.args(["-c", "umask 0 && exec \"$@\"", "sh"]).arg(build.get_program()).args(build.get_args());
    with_umask.args(["-t", "cpio,oci", "--segments"]).current_dir(image.path());
    succeed(with_umask.env("XDG_CACHE_HOME", image.path().join(CACHE)));
    assert_eq!(mode(&cache), 0o700);
    assert_eq!(open_to_others(&cache), Vec::<PathBuf>::new());
    let output = image.path().join("test");
    let public: Vec<String> = open_to_others(&output)
        .iter()
        .map(|path| path.strip_prefix(&output).unwrap().display().to_string())
        .filter(|name| name != "manifest.json" && !name.starts_with("vmlinuz"))
        .collect();
    assert_eq!(public, [""; 0]);
    assert!(output.join("oci/index.json").is_file(), "{:?}", names(&output));
}

/// Tests that take root: only root can make files of somebody else.
mod as_root {
    use super::*;

    fn belong_to_somebody(path: &Path) {
        succeed(Command::new("chown").arg("-R").arg(fixture::USER).arg(path));
    }

    #[test]
    fn roots_cache_is_nobody_elses() {
        assert!(fixture::is_root(), "this test takes root; leave it out with --skip as_root::");
        let base = directory(0o755);
        let (home, victim) = (base.path().join("home"), base.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        let list = |variable: &str, value: &Path| {
            let mut command = ocinitrd();
            command.args(["store", "list"]).env_remove("XDG_CACHE_HOME").env_remove("HOME").env(variable, value);
            command
        };
        fs::create_dir(&home).unwrap();
        belong_to_somebody(&home);
        // As with sudo: the home of the user, in which there is a cache or none.
        for prepared in [false, true] {
            let cache = home.join(".cache/ocinitrd");
            if prepared {
                fs::create_dir_all(cache.join("partial")).unwrap();
                symlink(&victim, cache.join("lock")).unwrap();
                belong_to_somebody(&home);
            }
            for (variable, value) in [("HOME", home.clone()), ("XDG_CACHE_HOME", home.join(".cache"))] {
                let said = fail(&mut list(variable, &value));
                assert!(said.contains("it belongs to the user ") && said.contains("sudo -H"), "{said}");
                assert_eq!(home.join(".cache").exists(), prepared, "nothing was made");
            }
        }
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        // A symlink of somebody else's leads nowhere, whatever is at its end.
        let sticky = directory(0o1777);
        fs::create_dir(base.path().join("own")).unwrap();
        symlink(base.path().join("own"), sticky.path().join("link")).unwrap();
        succeed(&mut list("XDG_CACHE_HOME", &sticky.path().join("link")));
        succeed(Command::new("chown").arg("--no-dereference").arg(fixture::USER).arg(sticky.path().join("link")));
        fail(&mut list("XDG_CACHE_HOME", &sticky.path().join("link")));
    }

    #[test]
    fn a_user_without_rights_uses_no_cache_of_roots_and_no_directory_for_everybody() {
        assert!(fixture::is_root(), "this test takes root; leave it out with --skip as_root::");
        let public = fixture::public_copy(&[]);
        let program = public.path().join("ocinitrd").display().to_string();
        let shared = directory(0o1777);
        let list = |base: &Path| {
            fixture::as_rootless_user([&format!("XDG_CACHE_HOME={}", base.display()), &program, "store", "list"])
        };
        let roots = shared.path().join("roots");
        fs::create_dir_all(roots.join("ocinitrd")).unwrap();
        fs::set_permissions(roots.join("ocinitrd"), fs::Permissions::from_mode(0o777)).unwrap();
        let said = fail(&mut list(&roots));
        assert!(said.contains("it belongs to the user 0, and this is the user "), "{said}");
        // What it makes in a directory for everybody is its own.
        succeed(&mut list(&shared.path().join("new")));
        assert_eq!(mode(&shared.path().join("new/ocinitrd")), 0o700);
    }

    #[test]
    fn a_cache_that_a_users_own_group_may_write_is_used_and_that_of_any_other_group_is_not() {
        assert!(fixture::is_root(), "this test takes root; leave it out with --skip as_root::");
        let public = fixture::public_copy(&[]);
        let program = public.path().join("ocinitrd").display().to_string();
        let base = directory(0o755);
        // With a umask of 002, as distributions have it that give each user a group.
        for (group, may_be_used) in [(fixture::USER, true), ("users", false), ("root", false)] {
            let cache = base.path().join(group);
            fs::create_dir_all(cache.join("ocinitrd")).unwrap();
            succeed(Command::new("chown").args(["-R", &format!("{}:{group}", fixture::USER)]).arg(&cache));
            succeed(Command::new("chmod").args(["-R", "0775"]).arg(&cache));
            let mut list =
                fixture::as_rootless_user([&format!("XDG_CACHE_HOME={}", cache.display()), &program, "store", "list"]);
            if may_be_used {
                succeed(&mut list);
                assert_eq!(mode(&cache.join("ocinitrd")), 0o700);
            } else {
                assert!(fail(&mut list).contains("other users may write to it (mode 0775"), "{group}");
            }
        }
    }

    #[test]
    fn logs_in_a_directory_of_somebody_else_go_nowhere_else_and_are_roots_alone() {
        assert!(fixture::is_root(), "this test takes root; leave it out with --skip as_root::");
        let place = directory(0o755);
        let output = place.path().join("out");
        fs::create_dir_all(output.join("boot")).unwrap();
        let victim = place.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::write(output.join("vmlinuz"), "no kernel").unwrap();
        fs::write(output.join("initrd"), "no initrd").unwrap();
        LOGS.iter().for_each(|log| symlink(&victim, output.join("boot").join(log)).unwrap());
        belong_to_somebody(&output);
        let said = fail(limited(place.path()).args(["boot", "out", "--timeout", "20"]));
        let logs = LOGS.iter().map(|log| output.join("boot").join(log)).filter(|log| !log.is_symlink());
        let owners: Vec<_> = logs.map(|log| (fs::metadata(&log).unwrap().uid(), mode(&log))).collect();
        assert!(!owners.is_empty() && owners.iter().all(|found| *found == (0, 0o600)), "{owners:?} {said}");
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }
}
