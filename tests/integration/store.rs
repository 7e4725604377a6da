//! `ocinitrd store`: its five actions on a store of their own, with packages made here.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use ocinitrd::packages::store::Store;
use ocinitrd_format::digest::Digest;
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{self, fail, succeed};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A store in a cache directory of its own, with the packages alpha and beta, metadata and a layer; and a directory.
struct Setting {
    root: TempDir,
    alpha: Digest,
    beta: Digest,
}

impl Setting {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("directory")).unwrap();
        let mut setting = Setting { root, alpha: Digest::of(b""), beta: Digest::of(b"") };
        let store = setting.store();
        setting.alpha = store.insert(&package("alpha")).unwrap();
        setting.beta = store.insert(&package("beta")).unwrap();
        store.insert(b"<?xml version=\"1.0\"?>\n<repomd/>\n").unwrap();
        let layers = store.root().join("cache/layer");
        fs::create_dir_all(&layers).unwrap();
        fs::write(layers.join(Digest::of(b"inputs").hex()), "a layer").unwrap();
        setting
    }

    fn store(&self) -> Store {
        Store::open(&self.root.path().join("ocinitrd")).unwrap()
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("directory")
    }

    /// `ocinitrd store ARGUMENTS DIRECTORY`
    fn command(&self, arguments: &[&str], directory: Option<&Path>) -> Command {
        let mut command = fixture::ocinitrd();
        command.env("XDG_CACHE_HOME", self.root.path()).arg("store").args(arguments).args(directory);
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        succeed(&mut self.command(arguments, None))
    }

    fn use_long_ago(&self, digest: &Digest, days: u32) {
        let path = self.root.path().join("ocinitrd/blobs/sha256").join(digest.hex());
        File::open(path).unwrap().set_modified(SystemTime::now() - DAY * days).unwrap();
    }

    fn blobs(&self) -> Vec<String> {
        fixture::names(&self.root.path().join("ocinitrd/blobs/sha256"))
    }
}

fn package(name: &str) -> Vec<u8> {
    let mut builder = rpm::PackageBuilder::new(name, "1.2", "MIT", "x86_64", "for the tests");
    let mut bytes = Vec::new();
    builder.release("3.fc44").epoch(2).build().unwrap().write(&mut bytes).unwrap();
    bytes
}

#[test]
fn list_says_what_everything_is_with_its_size_and_last_use() {
    let setting = Setting::new();
    File::open(setting.store().path(&setting.alpha))
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000))
        .unwrap();
    let text = setting.run(&["list"]);
    let line = |words: &str| text.lines().find(|line| line.contains(words)).unwrap().to_owned();
    let alpha = format!("  2026-05-28  {}  alpha-2:1.2-3.fc44.x86_64", setting.alpha);
    assert!(line("alpha").starts_with("rpm ") && line("alpha").ends_with(&alpha), "{text}");
    assert!(line("metadata").contains("      32 B  "), "{text}");
    assert!(line("layer").ends_with(&Digest::of(b"inputs").to_string()), "{text}");
    let kinds: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["layer", "metadata", "rpm", "rpm", "total"]);
    assert!(text.lines().last().unwrap().starts_with("total 4 files ("), "{text}");
    assert!(text.find("  alpha-2:").unwrap() < text.find("  beta-2:").unwrap(), "{text}");

    let json: Value = serde_json::from_str(&setting.run(&["list", "--json"])).unwrap();
    let items = json["items"].as_array().unwrap();
    let alpha = items.iter().find(|item| item["digest"] == setting.alpha.to_string()).unwrap();
    assert_eq!((&alpha["kind"], &alpha["name"]), (&"rpm".into(), &"alpha-2:1.2-3.fc44.x86_64".into()));
    assert_eq!(
        (&alpha["size_bytes"], &alpha["last_use"]),
        (&package("alpha").len().into(), &"2026-05-28T20:26:40Z".into())
    );
    let total: u64 = items.iter().map(|item| item["size_bytes"].as_u64().unwrap()).sum();
    assert_eq!(json["size_bytes"], total);
}

#[test]
fn gc_removes_what_was_not_used_and_what_killed_runs_left() {
    let setting = Setting::new();
    setting.use_long_ago(&setting.alpha, 32);
    setting.use_long_ago(&setting.beta, 30);
    let partial = setting.root.path().join("ocinitrd/partial/sha256-00");
    fs::write(&partial, "left").unwrap();
    File::open(&partial).unwrap().set_modified(SystemTime::now() - DAY * 2).unwrap();
    let before = setting.blobs();
    let text = setting.run(&["gc", "--dry-run"]);
    assert!(text.contains(&setting.alpha.to_string()) && !text.contains(&setting.beta.to_string()), "{text}");
    assert!(text.lines().last().unwrap().starts_with("would remove 2 files ("), "{text}");
    assert_eq!((setting.blobs(), partial.exists()), (before, true));

    let removed = setting.run(&["gc"]);
    assert_eq!(removed, text.replace("would remove", "removed"));
    assert!(!setting.blobs().contains(&setting.alpha.hex()) && setting.blobs().contains(&setting.beta.hex()));
    assert!(!partial.exists());
    assert!(setting.run(&["gc", "--days", "20"]).contains(&setting.beta.to_string()));
    assert!(setting.run(&["gc", "--all"]).ends_with("removed 2 files (39 B), keep 0 files (0 B)\n"));
    assert_eq!(setting.blobs(), [""; 0]);
}

#[test]
fn gc_and_removal_are_refused_while_the_store_is_in_use() {
    let setting = Setting::new();
    let store = setting.store();
    let damaged = store.path(&setting.alpha);
    fs::remove_file(&damaged).unwrap();
    fs::write(&damaged, "other").unwrap();
    let before = setting.blobs();
    for arguments in [&["gc", "--all"][..], &["verify", "--remove"]] {
        let message = fail(&mut setting.command(arguments, None));
        assert!(message.contains("error: another ocinitrd is using the store "), "{message}");
        assert_eq!(setting.blobs(), before);
    }
    setting.run(&["gc", "--all", "--dry-run"]);
    drop(store);
    setting.run(&["gc", "--all"]);
    assert_eq!(setting.blobs(), [""; 0]);
}

#[test]
fn verify_names_and_removes_what_is_not_what_its_name_says() {
    let setting = Setting::new();
    assert!(setting.run(&["verify"]).starts_with("0 of 3 files ("));
    let path = setting.store().path(&setting.alpha);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "other").unwrap();
    let output = setting.command(&["verify"], None).output().unwrap();
    let text = fixture::stdout(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.starts_with(&format!("{} is wrong: {}\n1 of 3 files (", setting.alpha, Digest::of(b"other"))),
        "{text}"
    );
    assert!(path.exists());
    let output = setting.command(&["verify", "--json", "--remove"], None).output().unwrap();
    let json: Value = serde_json::from_str(&fixture::stdout(&output)).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let wrong = serde_json::json!([{
        "digest": setting.alpha.to_string(), "found": Digest::of(b"other").to_string(), "removed": true
    }]);
    assert_eq!((&json["blobs"], &json["wrong"]), (&3.into(), &wrong));
    assert!(!path.exists());
    setting.run(&["verify"]);
}

#[test]
fn packages_go_out_under_their_names_and_in_again() {
    let setting = Setting::new();
    let directory = setting.directory();
    let text = succeed(&mut setting.command(&["export"], Some(&directory)));
    assert!(text.starts_with("2 packages written to ") && text.ends_with(", 0 were there already\n"), "{text}");
    let names = ["alpha-1.2-3.fc44.x86_64.rpm", "beta-1.2-3.fc44.x86_64.rpm"];
    assert_eq!(fixture::names(&directory), names);
    let digests = names.map(|name| Digest::of(&fs::read(directory.join(name)).unwrap()));
    assert_eq!(digests, [setting.alpha, setting.beta]);
    // Others take it for a repository.
    succeed(Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(&directory));

    setting.run(&["gc", "--all"]);
    fs::write(directory.join("wrong.rpm"), "no rpm").unwrap();
    let output = setting.command(&["import"], Some(&directory)).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fixture::stdout(&output), "2 packages imported, 0 were there already\n");
    let message = fixture::stderr(&output);
    assert!(message.contains("error: of 3 files, 1 could not be imported:\n  reading "), "{message}");
    assert!(message.contains("/wrong.rpm: it is no rpm file"), "{message}");
    assert_eq!(setting.blobs().len(), 2);
    fs::remove_file(directory.join("wrong.rpm")).unwrap();
    let text = succeed(&mut setting.command(&["import"], Some(&directory)));
    assert_eq!(text, "0 packages imported, 2 were there already\n");
}

#[test]
fn what_stands_in_the_way_is_named_and_stays() {
    let setting = Setting::new();
    let directory = setting.directory();
    fs::write(directory.join("beta-1.2-3.fc44.x86_64.rpm"), "mine").unwrap();
    let message = fail(&mut setting.command(&["export"], Some(&directory)));
    assert!(message.contains("not replaced: beta-1.2-3.fc44.x86_64.rpm; "), "{message}");
    assert_eq!(fixture::names(&directory), ["beta-1.2-3.fc44.x86_64.rpm"]);
    for action in ["export", "import"] {
        let message = fail(&mut setting.command(&[action], Some(&setting.root.path().join("absent"))));
        assert!(message.contains("error: there is no directory ") && message.contains("/absent"), "{message}");
    }
    fs::remove_dir_all(setting.root.path().join("ocinitrd")).unwrap();
    fs::write(setting.root.path().join("ocinitrd"), "no directory").unwrap();
    let message = fail(&mut setting.command(&["list"], None));
    assert!(message.contains("error: creating ") && message.contains("/ocinitrd"), "{message}");
}

#[test]
fn packages_of_the_offline_repository_keep_their_names() {
    let setting = Setting::new();
    setting.run(&["gc", "--all"]);
    let packages = fixture::offline_directory().join("repo/Packages");
    succeed(&mut setting.command(&["import"], Some(&packages)));
    let directory = setting.directory();
    succeed(&mut setting.command(&["export"], Some(&directory)));
    assert_eq!(fixture::names(&directory), fixture::names(&packages));
    succeed(Command::new("diff").arg("-r").arg(&packages).arg(&directory));
}
