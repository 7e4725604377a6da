//! Standard output and standard error that take nothing: one rule for all commands.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::fixture::{self, ocinitrd, stderr};
use crate::handmade::{Place, file};
use crate::images::{SMALL, small_image};

/// Commands of every kind whose results are text or JSON, with the exit code that each has.
fn commands(place: &Place) -> Vec<(Command, i32)> {
    let initrd = place.initrd("base", vec![file("data", "content")], "none");
    let output = place.output("out", [&initrd, &initrd]);
    let damaged = place.output("damaged", [&initrd, &initrd]);
    fs::remove_file(damaged.join("vmlinuz")).unwrap();
    let cache = place.path("cache");
    let is_usable = |json: &str| ocinitrd().args(["doctor", json]).output().unwrap().status.code().unwrap();
    let words = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
        let mut command = ocinitrd();
        command.args(words).env("XDG_CACHE_HOME", &cache);
        command
    };
    let doctor = is_usable("--json");
    vec![
        (words(&[&"--help"]), 0),
        (words(&[&"--version"]), 0),
        (words(&[&"build", &"--help"]), 0),
        (words(&[&"help", &"store"]), 0),
        (words(&[&"doctor"]), doctor),
        (words(&[&"doctor", &"--json"]), doctor),
        (words(&[&"boot", &"--list"]), 0),
        (words(&[&"check", &"--list"]), 0),
        (words(&[&"check", &initrd, &"--needs", &"lvm"]), 1),
        (words(&[&"inspect", &initrd]), 0),
        (words(&[&"inspect", &initrd, &"--list"]), 0),
        (words(&[&"verify", &output]), 0),
        (words(&[&"verify", &damaged]), 1),
        (words(&[&"diff", &output, &output]), 0),
        (words(&[&"diff", &output, &output, &"--json"]), 0),
        (words(&[&"store", &"list", &"--json"]), 0),
    ]
}

fn converted(place: &Place, output: &str) -> Command {
    let tree = place.path("tree.tar");
    if !tree.exists() {
        let mut archive = tar::Builder::new(File::create(&tree).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o755);
        archive.append_data(&mut header, "init", &b"text"[..]).unwrap();
        archive.finish().unwrap();
    }
    let mut command = ocinitrd();
    command.arg("convert").arg(tree).arg("-o").arg(place.path(output));
    command
}

#[test]
fn a_result_that_cannot_be_written_is_an_error_of_every_command() {
    let place = Place::new();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let commands = commands(&place).into_iter().map(|(command, _)| command).chain([converted(&place, "full")]);
    for mut command in commands {
        let answer = command.stdout(full()).stderr(Stdio::piped()).output().unwrap();
        let said = stderr(&answer);
        assert!(matches!(answer.status.code(), Some(1 | 2)), "{command:?}: {answer:?}");
        let expected = "writing to standard output: No space left on device";
        assert!(said.contains(expected) && !said.contains("panicked"), "{command:?}: {said}");
    }
}

#[test]
fn a_closed_pipe_changes_nothing_about_any_command() {
    let place = Place::new();
    for (mut command, code) in commands(&place).into_iter().chain([(converted(&place, "closed"), 0)]) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let answer = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(answer.status.code(), Some(code), "{command:?}: {}", stderr(&answer));
        assert!(!stderr(&answer).contains("panicked") && !stderr(&answer).contains("Broken pipe"), "{command:?}");
    }
    assert!(place.path("closed").exists());
}

#[test]
fn narration_that_nobody_reads_changes_nothing() {
    let place = Place::new();
    let run = |stderr: Stdio, log: &str| {
        let name = format!("narrated-{}", log.len());
        let mut command = converted(&place, &name);
        let code = command.env("OCINITRD_LOG", log).stdout(Stdio::null()).stderr(stderr).status().unwrap().code();
        assert_eq!(code, Some(0), "{log}");
        assert!(is_private_file(&place.path(&name)));
    };
    for log in ["off", "trace", "no=such=filter"] {
        run(File::options().write(true).open("/dev/full").unwrap().into(), log);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        run(writer.into(), log);
    }
    // What is wrong with the command line still has its exit code.
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(ocinitrd().arg("--no-such-option").stderr(full).status().unwrap().code(), Some(2));
}

fn is_private_file(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o600)
}

/// On a terminal, as script(1) has it.
#[test]
fn lines_on_a_terminal_begin_where_no_bar_is() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let record = image.path().join("record");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command"]);
    script.arg(format!("stty cols 200; {} -v build test", env!("CARGO_BIN_EXE_ocinitrd"))).arg(&record);
    script.current_dir(image.path()).env("XDG_CACHE_HOME", image.path().join(fixture::CACHE));
    let answer = script.stdin(Stdio::null()).output().unwrap();
    let record = fs::read_to_string(&record).unwrap();
    assert!(answer.status.success(), "{record}");
    // What begins a line anew also clears it.
    let written = |line: &str| line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default().to_owned();
    let is_frame = |character: char| ('\u{2801}'..='\u{28ff}').contains(&character);
    let said: Vec<String> = record.split('\n').map(written).filter(|line| line.contains("  | ")).collect();
    assert!(record.contains(is_frame) && said.len() > 50, "{record}");
    let with_frames: Vec<&String> = said.iter().filter(|line| line.contains(is_frame)).collect();
    assert!(with_frames.is_empty(), "{} of {}: {with_frames:#?}", with_frames.len(), said.len());
}
