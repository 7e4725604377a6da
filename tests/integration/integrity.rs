//! What must never be taken for what was locked: packages, metadata and cached results that are damaged, exchanged or half
//! written, by a server, a disk, or a run that was killed. Real dnf and podman, the real program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use ocinitrd::lock::file::Lock;
use ocinitrd_format::digest::Digest;

use crate::fixture::{self, CACHE, fail, names, ocinitrd, succeed};
use crate::http_server::{Fault, Server};
use crate::images::{SMALL, build_test, change, command_test, small_image, varied};

/// The small image with the repository `second` in a directory of its own, which the server serves too.
struct Served {
    server: Server,
    image: tempfile::TempDir,
}

impl Served {
    /// With what the repository `from` has, and `package` of it in the image.
    fn new(builder: &str, from: &str, package: &str) -> Self {
        let image = small_image(builder, "repo-foreign", &format!("{SMALL}, \"{package}\""));
        let second = image.path().join("second");
        succeed(Command::new("cp").arg("-rT").arg(fixture::offline_directory().join(from)).arg(&second));
        let server = Server::start(&second);
        let offline = fixture::offline_directory();
        change(&image, &format!("{}/repo-foreign", offline.display()), &server.url(""));
        Served { server, image }
    }

    fn path(&self) -> &Path {
        self.image.path()
    }

    fn packages(&self) -> PathBuf {
        self.path().join("second/Packages")
    }

    /// The one rpm whose name begins so.
    fn rpm(&self, name: &str) -> PathBuf {
        let rpms = names(&self.packages());
        self.packages().join(rpms.iter().find(|rpm| rpm.starts_with(name)).expect("the repository has it"))
    }

    /// Writes the metadata anew for the rpms as they are now.
    fn index(&self) {
        let second = self.path().join("second");
        succeed(Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(second));
    }

    /// That a command fails, and leaves neither a lock nor an output.
    fn refused(&self, command: &str) -> String {
        let error = fail(&mut command_test(self.path(), command));
        assert_eq!(names(self.path()), ["images", "second"], "{error}");
        error
    }
}

/// Changes one byte of a file.
fn flip(path: &Path, offset: impl Fn(&[u8]) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let offset = offset(&bytes);
    bytes[offset] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Where the text is that every sample package has in its header.
fn in_header(bytes: &[u8]) -> usize {
    let text = b"A package that is updated";
    bytes.windows(text.len()).position(|window| window == text).expect("the header has the summary")
}

#[test]
fn a_package_that_was_tampered_with_is_refused_whatever_the_metadata_say() {
    for (builder, where_, offset) in
        [("dnf5", "payload", (|bytes: &[u8]| bytes.len() - 9) as fn(&[u8]) -> usize), ("dnf4", "header", in_header)]
    {
        let served = Served::new(builder, "repo-update-1", "update-sample");
        flip(&served.rpm("update-sample"), offset);
        served.index();
        let error = served.refused("lock");
        assert!(error.contains("update-sample-1-1.noarch") && error.contains("does not verify"), "{where_}: {error}");
        assert_eq!(names(&served.path().join("images")), ["test.toml"], "{where_}");
    }
}

#[test]
fn a_server_that_serves_something_else_than_what_is_locked_is_refused() {
    let served = Served::new("dnf5", "repo-update-1", "update-sample");
    succeed(&mut command_test(served.path(), "lock"));
    let lock = fs::read(served.path().join("images/test.lock")).unwrap();
    let name = served.rpm("update-sample").file_name().unwrap().to_str().unwrap().to_owned();
    let path = format!("/Packages/{name}");
    let rpm = fs::read(served.rpm("update-sample")).unwrap();
    // Signed by the right key, and another package.
    let other = fs::read(served.rpm("update-other")).unwrap();
    let mut tampered = rpm.clone();
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    for (fault, message) in [
        (Fault::Bytes(other), "instead of"),
        (Fault::Bytes(tampered), "the file there is another: its checksum is"),
        (Fault::Bytes(rpm[..rpm.len() / 2].to_vec()), "instead of"),
        (Fault::Html, "HTML page instead of the file"),
        (Fault::Status(500), "HTTP status 500"),
        (Fault::Status(404), "HTTP status 404"),
    ] {
        served.server.fail_always(&path, fault);
        fs::remove_dir_all(served.path().join(CACHE)).unwrap();
        let error = fail(build_test(served.path()).arg("--locked"));
        assert!(error.contains("package update-sample-1-1.noarch of repository second"), "{error}");
        assert!(error.contains(message), "{error}");
        assert!(error.contains("ocinitrd update test update-sample"), "{error}");
        assert_eq!(names(served.path()), ["images", "second"], "{error}");
        assert_eq!(fs::read(served.path().join("images/test.lock")).unwrap(), lock);
    }
}

#[test]
fn metadata_with_a_signature_of_something_else_is_refused() {
    for builder in ["dnf5", "dnf4"] {
        let served = Served::new(builder, "repo-update-1", "update-sample");
        change(&served.image, "[repos.second]", "[repos.second]\nrepo_gpgcheck = true");
        let other = fixture::offline_directory().join("repo/repodata/repomd.xml.asc");
        fs::copy(other, served.path().join("second/repodata/repomd.xml.asc")).unwrap();
        let error = served.refused("lock");
        assert!(error.to_lowercase().contains("signature") && error.contains("second"), "{error}");
        assert_eq!(names(&served.path().join("images")), ["test.toml"]);
    }
}

/// The files below a directory of the cache.
fn cached(image: &Path, kind: &str) -> Vec<PathBuf> {
    let directory = image.join(CACHE).join("ocinitrd").join(kind);
    names(&directory).into_iter().map(|name| directory.join(name)).collect()
}

#[test]
fn damaged_files_of_the_store_are_made_or_fetched_again() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let reference = varied(image.path(), "test", build_test(image.path()));
    let again = || {
        let output = build_test(image.path()).args(["--locked", "-O", "again"]).output().unwrap();
        assert!(output.status.success(), "{}", fixture::stderr(&output));
        let directory = image.path().join("again");
        for (name, bytes) in &reference {
            assert!(fs::read(directory.join(name)).unwrap() == *bytes, "{name} differs");
        }
        fs::remove_dir_all(directory).unwrap();
        fixture::stderr(&output)
    };
    // Segments, installed trees, kernels: all are verified when they are used.
    for data in cached(image.path(), "cache/data") {
        flip(&data, |bytes| bytes.len() / 2);
    }
    let said = again();
    assert!(said.contains("installing") && said.contains("selecting modules"), "{said}");
    // Records that were cut off.
    for kind in ["cache/segment", "cache/layer", "cache/kernel"] {
        for record in cached(image.path(), kind) {
            let bytes = fs::read(&record).unwrap();
            fs::write(&record, &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    // And a package.
    let bash = fixture::offline_directory().join("repo/Packages");
    let name = names(&bash).into_iter().find(|name| name.starts_with("bash-")).unwrap();
    let digest = Digest::of(&fs::read(bash.join(name)).unwrap());
    let blob = image.path().join(CACHE).join("ocinitrd/blobs/sha256").join(digest.hex());
    fs::remove_file(&blob).unwrap();
    fs::write(&blob, "not an rpm").unwrap();
    let said = again();
    assert!(
        said.contains("the store's copy of bash-") && said.contains("was damaged, so it has to be fetched again"),
        "{said}"
    );
}

#[test]
fn what_a_lock_says_wrongly_of_a_kernel_is_told_before_anything_is_installed() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    succeed(&mut command_test(image.path(), "lock"));
    let lock = image.path().join("images/test.lock");
    let text = fs::read_to_string(&lock).unwrap();
    let kernel = text.split("\n\n").find(|table| table.contains("reason = \"kernel\"")).unwrap();
    let line = |key: &str| kernel.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
    let refused = |from: &str, to: &str| {
        // Whoever means to deceive renews the digests.
        let edited: Lock = toml::from_str(&text.replace(kernel, &kernel.replace(from, to))).unwrap();
        fs::write(&lock, edited.to_toml().unwrap()).unwrap();
        let said = fail(build_test(image.path()).arg("--locked"));
        assert!(!said.contains("installing"), "{said}");
        said
    };
    let said = refused(line("size"), "size = 1");
    assert!(said.contains("has 1 bytes by what describes it"), "{said}");
    let digest = line("sha256").split('"').nth(1).unwrap().trim_start_matches("sha256:");
    fs::remove_file(image.path().join(CACHE).join("ocinitrd/blobs/sha256").join(digest)).unwrap();
    let said = refused(line("location"), "location = \"Packages/absent.rpm\"");
    assert!(said.contains("fetching package kernel") && said.contains("Packages/absent.rpm"), "{said}");
}

#[test]
fn two_builds_at_once_share_a_cache_and_fetch_everything_once() {
    let served = Served::new("dnf5", "repo-update-1", "update-sample");
    succeed(&mut command_test(served.path(), "lock"));
    fs::remove_dir_all(served.path().join(CACHE)).unwrap();
    served.server.take_requests();
    let start = |output: &str| -> Child {
        let mut build = build_test(served.path());
        build.args(["--locked", "-O", output]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for build in [start("one"), start("other")] {
        let output = build.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", fixture::stderr(&output));
    }
    for name in ["initrd", "vmlinuz", "manifest.json"] {
        let read = |output: &str| fs::read(served.path().join(output).join(name)).unwrap();
        assert!(read("one") == read("other"), "{name} differs");
    }
    let requests = served.server.take_requests();
    let mut packages: Vec<&str> =
        requests.iter().map(|request| request.path.as_str()).filter(|path| path.ends_with(".rpm")).collect();
    packages.sort_unstable();
    assert_eq!(packages.len(), 3, "{packages:?}");
}

/// Kills builds at moments spread over their length, and lets the next one end: it must be whole.
fn kill_and_build(moments: u32) {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    succeed(&mut command_test(image.path(), "lock"));
    let started = Instant::now();
    let reference = varied(image.path(), "test", build_test(image.path()));
    let length = started.elapsed();
    for moment in 0..moments {
        // Every second time all results are there but what the killed run was at.
        if moment % 2 == 0 {
            fs::remove_dir_all(image.path().join(CACHE).join("ocinitrd/cache")).unwrap();
        }
        let mut build = build_test(image.path());
        let mut build = build.args(["-O", "killed"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Spread evenly and not by chance: the same moments every time.
        thread::sleep(length.mul_f64(f64::from(moment) / f64::from(moments)));
        build.kill().unwrap();
        build.wait().unwrap();
        let after = varied(image.path(), "after", {
            let mut build = build_test(image.path());
            build.args(["-O", "after"]);
            build
        });
        for (name, bytes) in &reference {
            assert!(after[name] == *bytes, "{name} differs after a kill at moment {moment} of {moments}");
        }
        for output in ["killed", "after"] {
            let _ = fs::remove_dir_all(image.path().join(output));
        }
    }
    succeed(ocinitrd().args(["store", "verify"]).env("XDG_CACHE_HOME", image.path().join(CACHE)));
}

#[test]
fn whatever_a_killed_build_left_the_next_one_is_right() {
    kill_and_build(4);
}

#[test]
#[ignore = "takes some minutes: part of make test-matrix"]
fn whatever_builds_killed_at_fifty_moments_left_the_next_ones_are_right() {
    kill_and_build(50);
}

/// Lists a zchunk form of the primary metadata beside the other, as Fedora's repositories do.
fn add_zchunk_form(repomd: &Path) {
    let text = fs::read_to_string(repomd).unwrap();
    let start = text.find("<data type=\"primary\">").unwrap();
    let end = start + text[start..].find("</data>").unwrap() + "</data>".len();
    let form = text[start..end].replace("\"primary\"", "\"primary_zck\"").replace("primary.xml.gz", "primary.xml.zck");
    assert!(form.contains("primary.xml.zck"), "{form}");
    fs::write(repomd, format!("{}{form}{}", &text[..end], &text[end..])).unwrap();
}

#[test]
fn fedoras_definition_is_locked_and_built_from_mirrors_that_a_metalink_names() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let mirror = tempfile::tempdir().unwrap();
    let repository = mirror.path().join("pub/44/Everything/x86_64/os");
    fs::create_dir_all(&repository).unwrap();
    succeed(Command::new("cp").arg("-rT").arg(fixture::offline_directory().join("repo")).arg(&repository));
    add_zchunk_form(&repository.join("repodata/repomd.xml"));
    let server = Server::start(mirror.path());
    let repomd = fs::read(repository.join("repodata/repomd.xml")).unwrap();
    let metalink = format!(
        "<metalink xmlns=\"http://www.metalinker.org/\"><files><file name=\"repomd.xml\"><size>{}</size>\
         <verification><hash type=\"sha256\">{}</hash></verification><resources>\
         <url protocol=\"http\" preference=\"100\">{}</url><url protocol=\"http\" preference=\"90\">{}</url>\
         </resources></file></files></metalink>",
        repomd.len(),
        Digest::of(&repomd).hex(),
        server.url("/gone/repodata/repomd.xml"),
        server.url("/pub/44/Everything/x86_64/os/repodata/repomd.xml"),
    );
    fs::write(mirror.path().join("metalink?repo=fedora-44&arch=x86_64"), metalink).unwrap();

    let shipped = fs::read_to_string(fixture::checkout().join("images/parts/fedora-44.toml")).unwrap();
    let (_, after) = shipped.split_once("[repos.fedora]").unwrap();
    let (fedora, _) = after.split_once("[repos.updates]").unwrap();
    let key = fixture::offline_directory().join("keys/offline.asc");
    let fedora = fedora
        .replace("https://mirrors.fedoraproject.org/", &server.url("/"))
        .replace("builder:/etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-$releasever-$basearch", key.to_str().unwrap());
    let definition = format!(
        "releasever = \"44\"\n[builder]\nimage = \"{}\"\n[repos.fedora]{fedora}\n[packages]\ninstall = [{SMALL}]\n\
         [kernel]\npackages = [\"kernel-cloud-core\"]\nmodules = [\"ext4\"]\n",
        fixture::builder("dnf5")
    );
    fs::write(image.path().join("images/test.toml"), definition).unwrap();
    succeed(&mut command_test(image.path(), "lock"));
    let lock = fs::read_to_string(image.path().join("images/test.lock")).unwrap();
    let first = format!("base_urls = [\n    \"{}\",", server.url("/pub/44/Everything/x86_64/os"));
    assert!(lock.contains(&first), "the mirror that answered comes first: {lock}");
    assert!(!server.take_requests().iter().any(|request| request.path.ends_with(".zck")));
    succeed(build_test(image.path()).arg("--locked"));
    assert_eq!(names(&image.path().join("test")), ["initrd", "manifest.json", "vmlinuz"]);
}

#[test]
fn a_clock_in_the_past_changes_nothing_and_is_told() {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    let reference = varied(image.path(), "test", build_test(image.path()));
    let mut late = Command::new("faketime");
    late.args(["2001-02-03 04:05:06", env!("CARGO_BIN_EXE_ocinitrd"), "build", "test", "-O", "late"])
        .current_dir(image.path())
        .env("DONT_FAKE_MONOTONIC", "1")
        .env("XDG_CACHE_HOME", image.path().join("late-cache"));
    let output = late.output().unwrap();
    let said = fixture::stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the clock of this machine says 2001-02-03"), "{said}");
    for (name, bytes) in &reference {
        assert!(fs::read(image.path().join("late").join(name)).unwrap() == *bytes, "{name} depends on the clock");
    }
}
