//! What the `rpm` crate, which shares no code with the writer, reads in the packages that it wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::write;
use crate::package::{Class, Content, Dependency, File, FileTrigger, Package, Script, Scriptlets};
use crate::version::Evr;

fn sample() -> Package {
    let shared = Content::Regular(Arc::new(b"shared".to_vec()));
    let mut program = File::of_root(Content::Regular(Arc::new(b"program".to_vec())), 0o4755, 30);
    program.capabilities = Some("cap_net_raw=ep".to_owned());
    let mut manual = File::of_root(Content::Regular(Arc::new(Vec::new())), 0o644, 30);
    manual.class = Class::Documentation;
    let files = [
        ("/usr", File::of_root(Content::Directory, 0o755, 10)),
        ("/usr/bin/program", program),
        ("/usr/bin/link", File::of_root(Content::Symlink("program".to_owned()), 0o777, 20)),
        ("/usr/share/a", File::of_root(shared.clone(), 0o644, 30)),
        ("/usr/share/b", File::of_root(shared, 0o644, 30)),
        ("/usr/share/man/program.1", manual),
    ];
    Package {
        name: "sample".to_owned(),
        evr: Evr::from_debian("2:1.0-3").unwrap(),
        arch: "x86_64".to_owned(),
        summary: "A sample".to_owned(),
        description: "For the tests".to_owned(),
        license: "MIT".to_owned(),
        url: String::new(),
        source_rpm: "source-1.0-3.src.rpm".to_owned(),
        build_time: 1_700_000_000,
        provides: vec![Dependency::equal("sample", "2:1.0-3")],
        requires: vec![Dependency::any("(deb(a) or deb(b))")],
        recommends: vec![Dependency::any("weak")],
        conflicts: Vec::new(),
        scriptlets: Scriptlets {
            pretrans: Some(Script::lua("posix.mkdir('/usr')\n")),
            post: Some(Script::shell("true\n")),
            posttrans: None,
            triggers: vec![FileTrigger {
                directories: vec!["/usr/lib".to_owned(), "/usr/lib64".to_owned()],
                priority: 5,
                script: Script::shell("ldconfig\n"),
            }],
        },
        files: files.into_iter().map(|(path, file)| (path.to_owned(), file)).collect(),
    }
}

fn read(package: &Package) -> rpm::Package {
    rpm::Package::parse(&mut write(package, 3).unwrap().as_slice()).unwrap()
}

#[test]
fn a_written_package_has_the_digests_that_it_declares() {
    let read = read(&sample());
    read.verify_digests().unwrap();
    let mut bytes = write(&sample(), 3).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(rpm::Package::parse(&mut bytes.as_slice()).unwrap().verify_digests().is_err());
}

#[test]
fn identity_and_source_are_read_back() {
    let metadata = read(&sample()).metadata;
    assert_eq!(metadata.get_nevra().unwrap().to_string(), "sample-2:1.0-3.x86_64");
    assert_eq!(metadata.get_source_rpm().unwrap(), "source-1.0-3.src.rpm");
    assert_eq!(metadata.get_license().unwrap(), "MIT");
    assert_eq!(metadata.get_build_time().unwrap(), 1_700_000_000);
    // The two names of one file are counted once.
    assert_eq!(metadata.get_installed_size().unwrap(), ("program".len() * 2 + "shared".len()) as u64);
}

#[test]
fn files_keep_modes_links_flags_and_capabilities() {
    let metadata = read(&sample()).metadata;
    let files: BTreeMap<String, rpm::FileEntry> = metadata
        .get_file_entries()
        .unwrap()
        .into_iter()
        .map(|entry| (entry.path().to_string_lossy().into_owned(), entry))
        .collect();
    assert_eq!(files.len(), 6);
    let program = &files["/usr/bin/program"];
    assert_eq!(program.mode().permissions(), 0o4755);
    assert_eq!(program.caps(), Some("cap_net_raw=ep"));
    assert_eq!(files["/usr/bin/link"].linkto(), Some("program"));
    assert!(files["/usr/share/man/program.1"].flags().contains(rpm::FileFlags::DOC));
}

#[test]
fn the_payload_holds_every_file_and_shared_bytes_once() {
    let package = read(&sample());
    let sizes: BTreeMap<String, usize> = package
        .files()
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| (file.metadata.path().to_string_lossy().into_owned(), file.content().map_or(0, <[u8]>::len)))
        .collect();
    assert_eq!(sizes["/usr/bin/program"], "program".len());
    // The bytes of a file with several names follow its last.
    assert_eq!((sizes["/usr/share/a"], sizes["/usr/share/b"]), (0, "shared".len()));
}

#[test]
fn dependencies_of_the_format_are_added() {
    let names: Vec<String> =
        read(&sample()).metadata.get_requires().unwrap().into_iter().map(|dependency| dependency.name).collect();
    for name in ["(deb(a) or deb(b))", "/bin/sh", "rpmlib(RichDependencies)", "rpmlib(FileCaps)"] {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
}

#[test]
fn the_same_package_gives_the_same_bytes() {
    assert_eq!(write(&sample(), 3).unwrap(), write(&sample(), 3).unwrap());
}
