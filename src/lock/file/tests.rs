use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::definition::Definition;
use crate::definition::dnf::Change;
use ocinitrd_format::digest::Digest;
use ocinitrd_format::openpgp::Fingerprint;
use ocinitrd_format::time::Timestamp;

const KEY: &str = "36f612dcf27f7d1a48a835e4dbfcf71c6d9f90a6";

fn key() -> Fingerprint {
    KEY.parse().unwrap()
}

fn package(name: &str, version: &str, reason: Reason) -> LockedPackage {
    LockedPackage {
        name: name.to_owned(),
        epoch: 0,
        version: version.to_owned(),
        release: "1".to_owned(),
        arch: "noarch".to_owned(),
        repo: "fedora".to_owned(),
        location: format!("Packages/{name}-{version}.rpm"),
        sha256: Digest::of(format!("{name} {version}").as_bytes()),
        size: 10,
        installed_size: 1_000_000 * version.len() as u64,
        build_time: Timestamp::from_seconds(7),
        source_rpm: format!("{name}-{version}-1.src.rpm"),
        license: "MIT".to_owned(),
        key: key(),
        reason,
    }
}

fn nevras(packages: &[LockedPackage]) -> BTreeSet<String> {
    packages.iter().map(LockedPackage::nevra).collect()
}

fn section(packages: Vec<LockedPackage>) -> Section {
    let digest = Digest::of(b"builder");
    let repository = Repository {
        base_urls: vec!["https://mirror.example/os".to_owned()],
        archive: Vec::new(),
        repomd: Digest::of(b"repomd"),
        priority: 99,
        repo_gpgcheck: true,
        keys: BTreeSet::from([key()]),
    };
    let solution =
        Solution { profiles: BTreeSet::new(), epoch: Timestamp::from_seconds(7), packages: nevras(&packages) };
    let armored = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxyz\n-----END PGP PUBLIC KEY BLOCK-----\n".to_owned();
    Section {
        builder: Builder { image: "a.example/b".to_owned(), digest, platform_digest: digest, tools: Vec::new() },
        inputs: Inputs::default(),
        repos: BTreeMap::from([("fedora".to_owned(), repository)]),
        keys: BTreeMap::from([(key(), Key { user_ids: vec!["Fedora".to_owned()], armored })]),
        solutions: vec![solution],
        kernels: Vec::new(),
        packages,
    }
}

fn sample() -> Section {
    section(vec![package("bash", "5.2", Reason::User), package("glibc", "2.40", Reason::Dependency)])
}

fn lock(section: Section) -> Lock {
    let mut lock = Lock::new("test");
    lock.arch.insert("x86_64".to_owned(), section);
    lock
}

#[test]
fn lock_reads_as_it_was_written() {
    let lock = lock(sample());
    let text = lock.to_toml().unwrap();
    assert_eq!(Lock::parse(&text).unwrap(), lock);
    assert_eq!(Lock::parse(&text).unwrap().to_toml().unwrap(), text);
    assert!(text.contains("[[arch.x86_64.package]]\nname = \"bash\"\nversion = \"5.2\"\n"), "{text}");
}

#[test]
fn lock_of_another_schema_names_both() {
    let text = lock(sample()).to_toml().unwrap().replace("schema = 1", "schema = 2\nsomething_new = true");
    let error = format!("{:#}", Lock::parse(&text).unwrap_err());
    assert!(error.contains("it has schema 2") && error.contains("reads schema 1"), "{error}");
}

#[test]
fn edits_that_contradict_are_found() {
    let text = lock(sample()).to_toml().unwrap();
    let other = KEY.replace("36f6", "46f6");
    for (from, to, message) in [
        ("version = \"5.2\"", "version = \"5.3\"", "bash-5.2-1.noarch is named, but not described"),
        ("build_time = 7", "build_time = 8", "has the epoch 7, its newest package is of 8"),
        ("repo = \"fedora\"", "repo = \"updates\"", "the repository updates, which is not described"),
        (&format!("key = \"{KEY}\""), &format!("key = \"{other}\""), "which is no key of its repository"),
        (&format!("keys = [\"{KEY}\"]"), &format!("keys = [\"{KEY}\", \"{other}\"]"), "is named, but not there"),
        ("license = \"MIT\"", "licence = \"MIT\"", "unknown field `licence`"),
        ("    \"glibc-2.40-1.noarch\",\n", "", "no solution and no kernel names the package glibc-2.40-1.noarch"),
    ] {
        assert!(text.contains(from), "{from}:\n{text}");
        let error = format!("{:#}", Lock::parse(&text.replacen(from, to, 1)).unwrap_err());
        assert!(error.contains(message), "{from}: {error}");
    }
    // What contradicts nothing is found by its digest.
    let image = "image = \"a.example/b\"";
    let error = format!("{:#}", Lock::parse(&text.replacen(image, "image = \"a.example/c\"", 1)).unwrap_err());
    assert!(error.starts_with("what is below [arch.x86_64] is not what its digest in [digests] is of"), "{error}");
    let doubled = format!(
        "{text}{}",
        text.split_once("[[arch.x86_64.package]]").map(|(_, rest)| format!("\n[[arch.x86_64.package]]{rest}")).unwrap()
    );
    assert!(format!("{:#}", Lock::parse(&doubled).unwrap_err()).contains("a package is listed twice"));
}

#[test]
fn a_lock_that_is_not_there_is_none_and_a_foreign_or_broken_one_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.lock");
    assert_eq!(Lock::load(&path, "test", "test").unwrap(), None);
    let lock = lock(sample());
    lock.save(&path).unwrap();
    assert_eq!(Lock::load(&path, "test", "test").unwrap(), Some(lock));
    let error = format!("{:#}", Lock::load(&path, "other", "other").unwrap_err());
    assert!(error.contains("is the lock of the image test, not of other"), "{error}");
    fs::write(&path, "schema = 1\nimage = \"test\"\n<<<<<<< HEAD\n").unwrap();
    let error = format!("{:#}", Lock::load(&path, "test", "test").unwrap_err());
    assert!(error.contains("not to be edited") && error.contains("ocinitrd lock test"), "{error}");
}

#[test]
fn difference_tells_what_came_went_and_changed() {
    let before = sample();
    let mut after = section(vec![
        package("bash", "5.3.9", Reason::User),
        package("glibc", "2.40", Reason::Dependency),
        package("less", "6", Reason::User),
    ]);
    after.repos.get_mut("fedora").unwrap().repomd = Digest::of(b"another");
    let difference = Difference::between(Some(&before), &after);
    insta::assert_snapshot!(difference.to_string(), @r"
      repository fedora: its metadata changed
      added    less-6-1.noarch (+1.0 MB)
      changed  bash.noarch 5.2-1 -> 5.3.9-1 (+2.0 MB)
    1 added, 0 removed, 1 changed, +3.0 MB installed
    ");
    assert_eq!(difference.size_change(), 3_000_000);
    let back = Difference::between(Some(&after), &before);
    assert_eq!((back.removed.len(), back.size_change()), (1, -3_000_000));
    assert!(Difference::between(Some(&after), &after).is_empty());
    assert_eq!(Difference::between(None, &after).added.len(), 3);
}

#[test]
fn kernels_of_one_package_name_come_and_go_each() {
    let kernels = |versions: &[&str]| {
        section(versions.iter().map(|version| package("kernel-core", version, Reason::Kernel)).collect())
    };
    let difference = Difference::between(Some(&kernels(&["6.1", "6.2"])), &kernels(&["6.2", "6.3", "6.4"]));
    assert_eq!(difference.removed.keys().collect::<Vec<_>>(), ["kernel-core-6.1-1.noarch"]);
    assert_eq!(difference.added.len(), 2);
    assert!(difference.changed.is_empty());
}

#[test]
fn packages_are_taken_in_the_place_of_those_that_go() {
    let mut section = sample();
    let change = Change {
        installed: ["bash-5.3-1.noarch", "new-1-1.noarch"]
            .map(|nevra| crate::definition::dnf::Chosen { repository: "fedora".to_owned(), nevra: nevra.to_owned() })
            .into(),
        removed: BTreeSet::from(["bash-5.2-1.noarch".to_owned()]),
    };
    let newer = LockedPackage { build_time: Timestamp::from_seconds(9), ..package("bash", "5.3", Reason::Dependency) };
    section.take(&[change], vec![newer, package("new", "1", Reason::Dependency)]);
    section.check().unwrap();
    let rows: Vec<(String, Reason)> = section.packages.iter().map(|one| (one.nevra(), one.reason)).collect();
    let expected = [
        ("bash-5.3-1.noarch", Reason::User),
        ("glibc-2.40-1.noarch", Reason::Dependency),
        ("new-1-1.noarch", Reason::Dependency),
    ];
    assert_eq!(rows, expected.map(|(nevra, reason)| (nevra.to_owned(), reason)));
    assert_eq!(section.solutions[0].epoch, Timestamp::from_seconds(9));
}

#[test]
fn kernels_by_version_stay_when_all_is_renewed() {
    let mut before = sample();
    let kernel = package("kernel-core", "6.1", Reason::Kernel);
    before.kernels =
        vec![Kernel { version: "6.1".to_owned(), by_version: true, packages: nevras(std::slice::from_ref(&kernel)) }];
    before.packages.push(kernel);
    let mut after = sample();
    after.keep_kernels_by_version(&before).unwrap();
    assert_eq!(after.kernel_versions(), ["6.1"]);
    assert_eq!(after.packages.len(), 3);
    assert!(after.kernel(None).is_none() && after.kernel(Some("6.1")).is_some());
}

const DEFINITION: &str = r#"
releasever = "44"
extra_trees = ["tree"]
[builder]
image = "registry.example/fedora@sha256:00"
[repos.fedora]
baseurl = "repo"
gpg_keys = ["a.asc", "builder:/etc/key"]
[packages]
install = ["systemd", "bash"]
[kernel]
modules = ["ext4"]
[profiles.lvm]
install = ["lvm2"]
"#;

/// The changes that an edit of the definition, or of a file that it names, makes.
fn changes(edit: impl Fn(&Path), profiles: &[&str]) -> Changes {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.toml");
    fs::write(&path, DEFINITION).unwrap();
    fs::write(directory.path().join("a.asc"), "key").unwrap();
    fs::create_dir(directory.path().join("tree")).unwrap();
    fs::write(directory.path().join("tree/rules"), "rule").unwrap();
    let profiles = profiles.iter().map(|profile| (*profile).to_owned()).collect();
    let inputs = || Inputs::of(&Definition::load("./test.toml", directory.path()).unwrap(), &profiles).unwrap();
    let before = inputs();
    edit(directory.path());
    before.changes(&inputs())
}

fn replace(from: &'static str, to: &'static str) -> impl Fn(&Path) {
    move |directory| {
        let path = directory.join("test.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        fs::write(&path, text.replace(from, to)).unwrap();
    }
}

#[test]
fn every_input_that_changes_is_named_and_its_kind_told() {
    let named = |changes: Changes| (changes.packages.join(", "), changes.contents.join(", "));
    let packages = |name: &str| (name.to_owned(), String::new());
    let contents = |name: &str| (String::new(), name.to_owned());
    let changed = |from, to, profiles: &[&str]| named(changes(replace(from, to), profiles));
    assert_eq!(changed("\"44\"", "\"45\"", &[]), packages("releasever"));
    assert_eq!(changed("sha256:00", "sha256:01", &[]), packages("[builder] image"));
    assert_eq!(changed("\"repo\"", "\"other\"", &[]), packages("[repos.fedora]"));
    assert_eq!(changed("\"bash\"", "\"less\"", &[]), packages("[packages] install"));
    assert_eq!(changed("[kernel]", "[kernel]\npackages = [\"kernel\"]", &[]), packages("[kernel] packages"));
    assert_eq!(changed("lvm2", "lvm3", &["lvm"]), packages("[profiles.lvm] install"));
    assert_eq!(changed("\"ext4\"", "\"xfs\"", &[]), contents("[kernel] modules"));
    assert_eq!(changed("[kernel]", "[output]\ncompression = \"xz\"\n[kernel]", &[]), contents("[output] compression"));
    assert_eq!(named(changes(|d| fs::write(d.join("a.asc"), "other").unwrap(), &[])), packages("the key a.asc"));
    let edit = |directory: &Path| fs::write(directory.join("tree/rules"), "other").unwrap();
    assert_eq!(named(changes(edit, &[])), contents("the extra tree tree"));
}

#[test]
fn what_says_the_same_is_no_change() {
    for (from, to) in [
        ("[\"systemd\", \"bash\"]", "[\"bash\", \"systemd\"]"),
        ("[kernel]", "# a comment\n[kernel]"),
        // Only the profiles that are locked count.
        ("lvm2", "lvm3"),
    ] {
        assert!(changes(replace(from, to), &[]).is_empty(), "{to}");
    }
}

#[test]
fn times_and_names_that_no_package_has_are_refused_whoever_wrote_the_lock() {
    let text = lock(sample()).to_toml().unwrap();
    for time in ["9223372036854775807", "100000000000", "-1"] {
        for key in ["build_time", "epoch"] {
            let edited = text.replace(&format!("{key} = 7\n"), &format!("{key} = {time}\n"));
            assert_ne!(edited, text);
            let error = format!("{:#}", Lock::parse(&edited).unwrap_err());
            assert!(error.contains("it is not a lock: line "), "{error}");
        }
    }
    // The digests are right: whoever means to deceive renews them.
    let error_of = |change: &dyn Fn(&mut Section)| {
        let mut section = sample();
        change(&mut section);
        let names = nevras(&section.packages);
        section.solutions[0].packages = names;
        format!("{:#}", Lock::parse(&lock(section).to_toml().unwrap()).unwrap_err())
    };
    let package = |change: &dyn Fn(&mut LockedPackage)| error_of(&|section| change(&mut section.packages[0]));
    let text = |text: &str| text.to_owned();
    for (error, words) in [
        (package(&|one| one.name = text("-x")), "is not the name of a package"),
        (package(&|one| one.name = text("../x")), "is not the name of a package"),
        (package(&|one| one.version = text("1 --enablerepo=x")), "is not the version of a package"),
        (package(&|one| one.release = text("1\n2")), "is not the release of a package"),
        (package(&|one| one.arch = text("a/b")), "is not the architecture of a package"),
        (package(&|one| one.location = text("../../etc/shadow")), "is outside the repository"),
        (package(&|one| one.location = text("ftp://a.example/x")), "is outside the repository"),
        (package(&|one| one.source_rpm = text("../x.src.rpm")), "is no name of a file"),
        (package(&|one| one.size = u64::MAX >> 1), "is said to have 9223372036854775807 bytes"),
        (package(&|one| one.installed_size = u64::MAX >> 1), "9223372036854775807 bytes when installed"),
        (
            error_of(&|section| {
                let repository = section.repos.remove("fedora").unwrap();
                section.repos.insert(text("a]\n[main"), repository);
                section.packages.iter_mut().for_each(|one| one.repo = text("a]\n[main"));
            }),
            "is not the id of a repository",
        ),
        (
            error_of(&|section| section.repos.get_mut("fedora").unwrap().base_urls.push(text("ftp://a"))),
            "does not begin with http://",
        ),
        (error_of(&|section| section.repos.get_mut("fedora").unwrap().archive = vec![text("x")]), "is not an address"),
        (
            error_of(&|section| {
                let packages = nevras(&section.packages);
                section.kernels.push(Kernel { version: text("../../x"), by_version: true, packages });
            }),
            "is not the version of a kernel",
        ),
        (error_of(&|section| section.solutions[0].profiles = [text("a b")].into()), "is not the name of a profile"),
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn what_another_file_holds_is_not_shown_in_place_of_a_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.lock");
    for content in ["root:$6$secret:20000::::::\n", "schema = 1\nimage = [\"secret\"]\n", "schema = \"secret\"\n"] {
        fs::write(&path, content).unwrap();
        let error = format!("{:#}", Lock::load(&path, "test", "test").unwrap_err());
        assert!(error.contains("it is not a lock: line ") && !error.contains("secret"), "{error}");
    }
}
