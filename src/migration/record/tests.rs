//! What is written can be taken back, to the bit.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use super::*;
use crate::analysis::machine::fixture::Fixture;

/// All that lies below a root: modes, times and contents.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let facts = fs::symlink_metadata(entry.path()).unwrap();
            let text = if facts.is_dir() {
                waiting.push(entry.path());
                format!("{:o}", facts.mode())
            } else if facts.is_symlink() {
                format!("-> {}", fs::read_link(entry.path()).unwrap().display())
            } else {
                let content = fs::read(entry.path()).unwrap();
                format!(
                    "{:o} {}:{} {}.{} {content:?}",
                    facts.mode(),
                    facts.uid(),
                    facts.gid(),
                    facts.mtime(),
                    facts.mtime_nsec()
                )
            };
            found.insert(entry.path(), text);
        }
    }
    found
}

fn change(path: &str, text: &str) -> Change {
    Change { path: path.to_owned(), content: Content::Bytes(text.into()), mode: 0o644 }
}

fn write(root: &Fixture, changes: &[Change]) -> Result<Vec<String>> {
    Record::load(root.path()).unwrap().write(changes)
}

fn machine() -> Fixture {
    let root = Fixture::new();
    root.write("etc/kernel/install.conf", "layout=bls\n").directory("var/lib");
    let conf = root.path().join("etc/kernel/install.conf");
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o640)).unwrap();
    File::options()
        .write(true)
        .open(conf)
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 7))
        .unwrap();
    root
}

#[test]
fn once_or_twice_it_goes_back_to_the_bit() {
    let root = machine();
    let before = tree(root.path());
    let conf = "/etc/kernel/install.conf";
    let changed =
        write(&root, &[change("/etc/ocinitrd/50-setup.toml", "modules = []\n"), change(conf, "layout=bls\nx=1\n")])
            .unwrap();
    assert_eq!(changed, ["/etc/ocinitrd/50-setup.toml", conf]);
    let place = root.path().join("etc/kernel/install.conf");
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o640, "it keeps its mode");
    let record = Record::load(root.path()).unwrap();
    assert_eq!(record.original(conf), Some(Some(b"layout=bls\n".to_vec())));
    assert_eq!((record.original("/etc/ocinitrd/50-setup.toml"), record.original("/etc/passwd")), (Some(None), None));
    // The same again changes nothing.
    let once = tree(root.path());
    let again = [change("/etc/ocinitrd/50-setup.toml", "modules = []\n"), change(conf, "layout=bls\nx=1\n")];
    assert_eq!(write(&root, &again).unwrap(), [""; 0]);
    let differing: Vec<_> = tree(root.path())
        .into_iter()
        .filter(|(path, text)| !path.ends_with(RECORD) && once.get(path) != Some(text))
        .collect();
    assert_eq!(differing, []);
    // What is no longer wanted is put back, what is new is remembered.
    let changed = write(&root, &[change(conf, "layout=bls\nx=2\n"), change("/boot/new", "new")]).unwrap();
    assert_eq!(changed, [conf, "/boot/new", "/etc/ocinitrd/50-setup.toml"]);
    assert!(!root.path().join("etc/ocinitrd/50-setup.toml").exists());
    assert_eq!(undo(root.path()).unwrap(), [conf, "/boot/new"]);
    assert_eq!(tree(root.path()), before);
    assert!(undo(root.path()).unwrap_err().to_string().contains("nothing to undo"));
}

/// Of any size, as an initrd is: and what is put back by a later run leaves nothing in the record's directory.
#[test]
fn what_is_no_longer_wanted_is_put_back_with_all_that_was_kept_of_it() {
    let root = machine();
    let image = root.path().join("boot-image");
    fs::write(&image, vec![7_u8; 17 << 20]).unwrap();
    let before = tree(root.path());
    let conf = "/etc/kernel/install.conf";
    write(&root, &[change(conf, "x=1\n"), change("/boot-image", "trial")]).unwrap();
    write(&root, &[change("/etc/new", "new\n")]).unwrap();
    let names = |path: &str| fs::read_dir(root.path().join(path)).unwrap().count();
    assert_eq!(names(STATE.trim_start_matches('/')), 1, "the record alone");
    assert_eq!(undo(root.path()).unwrap(), ["/etc/new"]);
    assert_eq!(tree(root.path()), before);
}

#[test]
fn what_was_edited_is_neither_replaced_nor_taken_back() {
    let root = machine();
    let changes = [change("/etc/kernel/install.conf", "x=1\n"), change("/etc/new", "new\n")];
    write(&root, &changes).unwrap();
    root.write("etc/new", "mine\n");
    let edited = tree(root.path());
    for error in [undo(root.path()).unwrap_err(), write(&root, &changes).unwrap_err()] {
        let error = error.to_string();
        assert!(
            error.contains("etc/new was edited since setup wrote it") && error.contains("nothing was changed"),
            "{error}"
        );
    }
    assert_eq!(tree(root.path()), edited);
    // Moved away, or put back by hand, it is nobody's trouble.
    fs::remove_file(root.path().join("etc/new")).unwrap();
    root.write("etc/kernel/install.conf", "layout=bls\n");
    assert_eq!(undo(root.path()).unwrap(), [""; 0]);
    assert!(!root.path().join("var/lib/ocinitrd").exists());
}

#[test]
fn a_run_that_fails_or_is_killed_leaves_what_was_there() {
    let root = machine();
    root.write("etc/blocker", "a file");
    let before = tree(root.path());
    let error = write(&root, &[change("/etc/kernel/install.conf", "x\n"), change("/etc/blocker/a", "")]).unwrap_err();
    assert!(format!("{error:#}").contains("etc/blocker"), "{error:#}");
    assert_eq!(tree(root.path()), before);
    // Killed between the record and the files.
    let mut record = Record::load(root.path()).unwrap();
    record.make_directories(STATE).unwrap();
    record.remember("/etc/kernel/install.conf", Digest::of(b"never written")).unwrap();
    record.store().unwrap();
    assert_eq!(undo(root.path()).unwrap(), [""; 0]);
    assert_eq!(tree(root.path()), before);
}

#[test]
fn links_directories_and_records_of_others_are_refused() {
    let root = machine();
    symlink("../elsewhere", root.path().join("etc/link")).unwrap();
    let error = write(&root, &[change("/etc/link", "")]).unwrap_err().to_string();
    assert!(error.contains("is a symlink to ../elsewhere"), "{error}");
    assert!(write(&root, &[change("/etc/kernel", "")]).unwrap_err().to_string().contains("no regular file"));
    assert!(!root.path().join("var/lib/ocinitrd").exists());
    let record = "var/lib/ocinitrd/setup/record.json";
    for (text, part) in [
        ("{", "which says what setup wrote"),
        (r#"{"schema":2,"entries":{}}"#, "another version"),
        (r#"{"schema":1,"files":[],"directories":["/../x"]}"#, "no absolute path without .."),
    ] {
        root.write(record, text);
        let error = format!("{:#}", undo(root.path()).unwrap_err());
        assert!(error.contains(part), "{error}");
    }
    fs::set_permissions(root.path().join(record), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(format!("{:#}", undo(root.path()).unwrap_err()).contains("other users may write to it"));
}
