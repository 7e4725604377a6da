//! A builder image that has to be pulled: from a registry that serves it over HTTP as registries do
//! (<https://github.com/opencontainers/distribution-spec>), and from one that serves something else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ocinitrd::container::engine::ImageReference;
use ocinitrd_format::digest::Digest;
use serde_json::Value;

use crate::engine::TcpService;
use crate::fixture::{self, CACHE, fail, fail_with, names, ocinitrd, stderr, stdout, succeed};
use crate::http_server::{Fault, Request, Server};
use crate::images::{changed_image, command_test};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The offline builder image as the files of a registry: `v2/builder/blobs/DIGEST` and `v2/builder/manifests/DIGEST`.
/// Its configuration says that it is another image, so that the engine does not have it.
pub struct Registry {
    server: Server,
    directory: tempfile::TempDir,
    pub digest: Digest,
}

/// The tag of the image in a [`Registry`].
pub const TAG: &str = "44";

impl Registry {
    pub fn start() -> Self {
        let directory = tempfile::tempdir_in(fixture::checkout().join("target")).unwrap();
        let layout = fixture::offline_directory().join("builder-dnf5.oci.tar");
        succeed(Command::new("tar").arg("-xf").arg(layout).arg("-C").arg(directory.path()));
        let blobs = directory.path().join("v2/builder/blobs");
        fs::create_dir_all(directory.path().join("v2/builder/manifests")).unwrap();
        fs::rename(directory.path().join("blobs/sha256"), &blobs).unwrap();
        for hex in names(&blobs) {
            fs::rename(blobs.join(&hex), blobs.join(format!("sha256:{hex}"))).unwrap();
        }
        fs::write(directory.path().join("v2/index.html"), "{}").unwrap();
        let server = Server::start(directory.path());
        let pinned: ImageReference = fixture::builder("dnf5").parse().unwrap();
        let mut registry = Registry { server, directory, digest: pinned.digest() };
        registry.digest = registry.publish("the first");
        registry
    }

    /// Adds an image like that of the fixture by another author, and lets the tag name it.
    fn publish(&self, author: &str) -> Digest {
        let pinned: ImageReference = fixture::builder("dnf5").parse().unwrap();
        let blob = |digest: &str| self.directory.path().join("v2/builder/blobs").join(digest);
        let mut manifest = json(&blob(&pinned.digest().to_string()));
        let mut configuration = json(&blob(manifest["config"]["digest"].as_str().unwrap()));
        configuration["author"] = Value::from(format!("{author} of a test in {}", self.directory.path().display()));
        let configuration = serde_json::to_vec(&configuration).unwrap();
        manifest["config"]["digest"] = Value::from(Digest::of(&configuration).to_string());
        manifest["config"]["size"] = Value::from(configuration.len());
        fs::write(blob(&Digest::of(&configuration).to_string()), configuration).unwrap();
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let digest = Digest::of(&manifest);
        for name in [&digest.to_string(), TAG] {
            fs::write(self.directory.path().join("v2/builder/manifests").join(name), &manifest).unwrap();
            self.server.answer_with(&manifest_path(name), MANIFEST);
        }
        digest
    }

    /// Its name, as references begin with it.
    pub fn name(&self) -> String {
        self.server.url("").trim_start_matches("http://").to_owned()
    }

    /// The image as a definition names it.
    fn image(&self) -> String {
        self.image_of(self.digest)
    }

    fn image_of(&self, digest: Digest) -> String {
        format!("{}/builder:{TAG}@{digest}", self.name())
    }

    /// What engines call it: they take no tag beside a digest.
    fn pinned(&self, digest: Digest) -> String {
        format!("{}/builder@{digest}", self.name())
    }

    /// `ocinitrd build test` with an engine that takes this registry's word without TLS.
    fn build(&self, directory: &Path) -> Command {
        self.run(directory, "build")
    }

    /// The same with another command.
    fn run(&self, directory: &Path, command: &str) -> Command {
        let mut command = command_test(directory, command);
        command.args(["--engine", "podman"]).env("CONTAINERS_REGISTRIES_CONF", self.configuration());
        command
    }

    fn doctor(&self, directory: &Path) -> Output {
        let mut command = ocinitrd();
        command.args(["doctor", "--engine", "podman", "--image", "test"]).current_dir(directory);
        command.env("CONTAINERS_REGISTRIES_CONF", self.configuration());
        command.env("XDG_CACHE_HOME", directory.join(CACHE)).output().unwrap()
    }

    /// A registries.conf by which it needs no TLS.
    fn configuration(&self) -> PathBuf {
        let configuration = self.directory.path().join("registries.conf");
        let text = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", self.name());
        fs::write(&configuration, text).unwrap();
        configuration
    }

    /// The small image built by this registry's image.
    fn definition(&self) -> tempfile::TempDir {
        changed_image(&fixture::builder("dnf5"), &self.image())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        for name in names(&self.directory.path().join("v2/builder/manifests")) {
            let image = format!("{}/builder@{name}", self.name());
            let _ = Command::new("podman").args(["rmi", &image]).output();
        }
    }
}

/// Where a registry has a manifest, by its digest or its tag.
fn manifest_path(name: &str) -> String {
    format!("/v2/builder/manifests/{name}")
}

#[test]
fn a_builder_image_that_is_not_there_is_pulled_once() {
    let registry = Registry::start();
    let image = registry.definition();
    succeed(&mut registry.build(image.path()));
    let asked = registry.server.take_requests();
    assert!(asked.iter().any(|request| request.path == manifest_path(&registry.digest.to_string())));
    assert_eq!(names(&image.path().join("test")), ["initrd", "manifest.json", "vmlinuz"]);
    succeed(&mut registry.build(image.path()));
    assert_eq!(registry.server.take_requests(), [], "a pinned image that is there needs no registry");
}

#[test]
fn a_registry_that_serves_another_image_is_refused() {
    let registry = Registry::start();
    let image = registry.definition();
    let manifest = manifest_path(&registry.digest.to_string());
    let mut bytes = fs::read(registry.directory.path().join(manifest.trim_start_matches('/'))).unwrap();
    bytes.push(b'\n');
    registry.server.fail_always(&manifest, Fault::Bytes(bytes));
    let error = fail(&mut registry.build(image.path()));
    assert!(error.contains("the manifest there has the digest sha256:"), "{error}");
    assert!(error.contains(&registry.digest.to_string()) && error.contains("no registry gives it"), "{error}");
    assert_eq!(names(image.path()), ["images"]);
}

#[test]
fn a_registry_that_wants_a_password_is_named_with_the_command_that_logs_in() {
    let registry = Registry::start();
    let image = registry.definition();
    registry.server.fail_always(&manifest_path(&registry.digest.to_string()), Fault::Status(403));
    let error = fail(&mut registry.build(image.path()));
    assert!(error.contains("credentials are wanted") && error.contains("podman login 127.0.0.1:"), "{error}");
    assert_eq!(names(image.path()), ["images"]);
}

/// What a week does to a digest whose tag moves.
#[test]
fn a_builder_image_that_is_gone_is_loaded_from_the_store() {
    let registry = Registry::start();
    let image = registry.definition();
    succeed(&mut registry.run(image.path(), "lock"));
    succeed(&mut registry.run(image.path(), "fetch"));
    let forget = || succeed(Command::new("podman").args(["rmi", "--force", &registry.pinned(registry.digest)]));
    forget();
    registry.server.fail_always("/v2/", Fault::Status(404));
    registry.server.take_requests();
    let loaded = registry.run(image.path(), "fetch").output().unwrap();
    assert!(loaded.status.success() && fixture::stderr(&loaded).contains("loading "), "{}", fixture::stderr(&loaded));
    assert_eq!(registry.server.take_requests(), [], "what the store has needs no registry");
    succeed(Command::new("podman").args(["image", "exists", &registry.pinned(registry.digest)]));

    // An engine that is reached over the network gets it from here, too.
    forget();
    let service = TcpService::start();
    succeed(command_test(image.path(), "fetch").args(["--engine", &service.url]));
    succeed(Command::new("podman").args(["image", "exists", &registry.pinned(registry.digest)]));
    drop(service);

    forget();
    let blobs = image.path().join(CACHE).join("ocinitrd/blobs/sha256");
    let layer = json(&blobs.join(registry.digest.hex()))["layers"][0]["digest"].as_str().unwrap().to_owned();
    for digest in [layer, registry.digest.to_string()] {
        let blob = blobs.join(digest.trim_start_matches("sha256:"));
        fs::remove_file(&blob).unwrap();
        fs::write(&blob, "damaged").unwrap();
        fs::set_permissions(&blob, PermissionsExt::from_mode(0o400)).unwrap();
        let error = fail(&mut registry.run(image.path(), "fetch"));
        let warning =
            format!("the store's copy of {digest}, a part of the builder image {}, was damaged", registry.digest);
        assert!(error.contains(&warning), "{error}");
        assert!(error.contains("this digest is gone") && error.contains("[builder] mirrors"), "{error}");
        assert!(error.contains("ocinitrd update test --builder"), "{error}");
        // What a build would find: a manifest alone is no image.
        let found = registry.doctor(image.path());
        assert!(!found.status.success() && stdout(&found).contains("problem  builder"), "{}", stdout(&found));
    }
    let error = fail(registry.run(image.path(), "fetch").arg("--offline"));
    assert!(error.contains("--offline forbids to ask a registry"), "{error}");
}

#[test]
fn what_is_wrong_with_a_registry_is_told_apart() {
    let registry = Registry::start();
    let image = registry.definition();
    let manifest = manifest_path(&registry.digest.to_string());
    for (fault, expected) in [
        (Fault::Status(404), "this digest is gone"),
        (Fault::Status(401), "credentials are wanted"),
        (Fault::Status(500), "no registry answers"),
        (Fault::StatusWith(429, "Retry-After: 86400\r\n".to_owned()), "has been asked too often"),
        (Fault::Html, "an HTML page instead of the file"),
    ] {
        registry.server.fail_always(&manifest, fault);
        let error = fail(&mut registry.build(image.path()));
        assert!(error.contains(expected) && error.contains("hint: "), "{error}");
        assert_eq!(names(image.path()), ["images"]);
    }
}

#[test]
fn a_blob_of_another_size_or_content_is_refused_and_nothing_of_it_stays() {
    let registry = Registry::start();
    let image = registry.definition();
    let manifest = json(&registry.directory.path().join(manifest_path(TAG).trim_start_matches('/')));
    let configuration = manifest["config"]["digest"].as_str().unwrap();
    let path = format!("/v2/builder/blobs/{configuration}");
    let bytes = fs::read(registry.directory.path().join(path.trim_start_matches('/'))).unwrap();
    let (mut longer, mut changed) = (bytes.clone(), bytes);
    longer.push(b'\n');
    changed[0] ^= 1;
    for (bytes, words) in [(longer, "bytes"), (changed, "digest")] {
        registry.server.fail_always(&path, Fault::Bytes(bytes));
        let error = fail(&mut registry.run(image.path(), "lock"));
        assert!(error.contains(configuration) && error.contains(words), "{error}");
        assert_eq!(names(&image.path().join("images")), ["test.toml"]);
        let blob =
            image.path().join(CACHE).join("ocinitrd/blobs/sha256").join(configuration.trim_start_matches("sha256:"));
        assert!(!blob.exists());
    }
}

/// Registries send clients to storage on other hosts, which must not learn the password.
#[test]
fn a_redirection_to_another_host_is_followed_without_credentials() {
    let registry = Registry::start();
    let storage = Server::start(registry.directory.path());
    let image = registry.definition();
    let path = manifest_path(&registry.digest.to_string());
    let challenge = "WWW-Authenticate: Basic realm=\"test\"\r\n".to_owned();
    registry.server.fail_once(&path, Fault::StatusWith(401, challenge));
    let manifest = json(&registry.directory.path().join(path.trim_start_matches('/')));
    let descriptors = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
    let blobs: Vec<String> =
        descriptors.map(|descriptor| format!("/v2/builder/blobs/{}", descriptor["digest"].as_str().unwrap())).collect();
    for blob in &blobs {
        // `localhost` is another host than 127.0.0.1.
        let url = storage.url(blob).replace("127.0.0.1", "localhost");
        registry.server.fail_always(blob, Fault::Redirect(url));
    }
    let credentials = registry.directory.path().join("auth.json");
    // tester:secret
    let text = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"dGVzdGVyOnNlY3JldA==\"}}}}}}", registry.name());
    fs::write(&credentials, text).unwrap();
    succeed(registry.run(image.path(), "lock").env("REGISTRY_AUTH_FILE", credentials));
    let asked = registry.server.take_requests();
    let with_password = |request: &&Request| request.authorization.as_deref() == Some("Basic dGVzdGVyOnNlY3JldA==");
    assert!(asked.iter().filter(with_password).count() > blobs.len(), "{asked:?}");
    let stored = storage.take_requests();
    assert_eq!(stored.len(), blobs.len(), "{stored:?}");
    assert!(stored.iter().all(|request| request.authorization.is_none()), "{stored:?}");
}

#[test]
fn mirrors_are_asked_in_turn_and_named_when_all_are_dead() {
    let registry = Registry::start();
    let dead = Server::start(registry.directory.path());
    dead.fail_always("/", Fault::Status(404));
    let dead_name = dead.url("").trim_start_matches("http://").to_owned();
    let image = changed_image(
        &format!("image = \"{}\"", fixture::builder("dnf5")),
        &format!(
            "image = \"{dead_name}/gone:{TAG}@{}\"\nmirrors = [\"{dead_name}/copy\", \"{}/builder\"]",
            registry.digest,
            registry.name()
        ),
    );
    let configuration = registry.configuration();
    let mut text = fs::read_to_string(&configuration).unwrap();
    text.push_str(&format!("[[registry]]\nlocation = \"{dead_name}\"\ninsecure = true\n"));
    let lock = || {
        let command = registry.run(image.path(), "lock");
        fs::write(registry.directory.path().join("registries.conf"), &text).unwrap();
        command
    };
    let manifest = manifest_path(&registry.digest.to_string());
    registry.server.fail_always(&manifest, Fault::Status(404));
    let error = fail(&mut lock());
    for place in [&dead.url("/v2/gone/"), &dead.url("/v2/copy/"), &registry.server.url("/v2/builder/")] {
        assert!(error.contains(place.as_str()), "{place}: {error}");
    }
    assert!(error.contains("this digest is gone"), "{error}");
    assert_eq!(names(&image.path().join("images")), ["test.toml"]);

    registry.server.heal(&manifest);
    succeed(&mut lock());
    let _ = Command::new("podman").args(["rmi", &format!("{dead_name}/gone@{}", registry.digest)]).output();
}

/// A definition that includes the file with the pin, as Fedora's does.
fn definition_with_included_pin(image: &str) -> tempfile::TempDir {
    let directory = changed_image(&format!("[builder]\nimage = \"{}\"\n", fixture::builder("dnf5")), "");
    let definition = directory.path().join("images/test.toml");
    let text = fs::read_to_string(&definition).unwrap();
    fs::write(&definition, format!("include = [\"parts/builder.toml\"]\n{text}")).unwrap();
    fs::create_dir(directory.path().join("images/parts")).unwrap();
    fs::write(directory.path().join("images/parts/builder.toml"), pin(image)).unwrap();
    directory
}

fn pin(image: &str) -> String {
    format!("# What builds.\n[builder]\nimage   = '{image}' # renewed weekly\n")
}

#[test]
fn the_pin_of_the_builder_image_is_renewed_to_what_its_tag_names() {
    let registry = Registry::start();
    let image = definition_with_included_pin(&registry.image());
    let part = image.path().join("images/parts/builder.toml");
    let definition = fs::read(image.path().join("images/test.toml")).unwrap();
    succeed(&mut registry.run(image.path(), "lock"));
    let doctor = || registry.doctor(image.path());
    let check = || registry.run(image.path(), "lock").args(["--check", "--builder"]).output().unwrap();
    let checked = check();
    assert!(checked.status.success() && stdout(&checked).contains(": the newest"), "{}", stdout(&checked));
    let told = stderr(registry.run(image.path(), "update").arg("--builder").output().as_ref().unwrap());
    assert!(told.contains("the builder image is the newest"), "{told}");
    let unchanged = succeed(registry.run(image.path(), "update").args(["--builder", "--json"]));
    let unchanged: Value = serde_json::from_str(&unchanged).unwrap();
    assert_eq!(unchanged["after"]["digest"], registry.digest.to_string());
    assert_eq!(unchanged["before"], unchanged["after"]);
    assert!(stdout(&doctor()).contains("its tag names no other"), "{}", stdout(&doctor()));

    let newer = registry.publish("the second");
    let checked = check();
    assert_eq!(checked.status.code(), Some(1));
    let expected = format!("not the newest, the tag names {newer} now; to renew it: ocinitrd update test --builder");
    assert!(stdout(&checked).contains(&expected), "{}", stdout(&checked));
    let found = stdout(&doctor());
    assert!(found.contains("warning  builder") && found.contains("cure: ocinitrd update test --builder"), "{found}");

    let tried = succeed(registry.run(image.path(), "update").args(["--builder", "--dry-run"]));
    assert_eq!(fs::read_to_string(&part).unwrap(), pin(&registry.image()));
    let changed = succeed(registry.run(image.path(), "update").args(["--builder", "--json"]));
    let changed: Value = serde_json::from_str(&changed).unwrap();
    for digest in [&changed["before"]["digest"], &changed["after"]["digest"]] {
        assert!(tried.contains(digest.as_str().unwrap()), "{tried}");
    }
    assert_eq!(changed["after"]["digest"], newer.to_string());
    assert_eq!(changed["before"]["tools"], changed["after"]["tools"]);
    assert!(changed["after"]["tools"][0].as_str().unwrap().starts_with("RPM version"), "{changed}");
    assert_eq!(fs::read_to_string(&part).unwrap(), pin(&registry.image_of(newer)));
    assert_eq!(fs::read(image.path().join("images/test.toml")).unwrap(), definition);
    fail_with(1, registry.run(image.path(), "lock").arg("--check"));
    succeed(&mut registry.run(image.path(), "lock"));
    succeed(registry.run(image.path(), "lock").args(["--check", "--builder"]));
}

#[test]
fn a_pin_that_cannot_be_renewed_stays_with_a_reason() {
    let registry = Registry::start();
    let newer = registry.publish("the second");
    let other = definition_with_included_pin(&registry.image());
    let part = other.path().join("images/parts/builder.toml");
    let update = |options: &[&str]| {
        let mut command = registry.run(other.path(), "update");
        command.arg("--builder").args(options);
        command
    };
    let refused = |words: &[&str], mut command: Command| {
        let before = fs::read(&part).unwrap();
        let error = fail(&mut command);
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
        assert_eq!(fs::read(&part).unwrap(), before, "{error}");
        assert_eq!(names(&other.path().join("images/parts")), ["builder.toml"]);
    };
    refused(&["--offline forbids"], update(&["--offline"]));
    fs::set_permissions(&part, PermissionsExt::from_mode(0o444)).unwrap();
    refused(&["parts/builder.toml", "read-only", "hint: "], update(&[]));
    fs::set_permissions(&part, PermissionsExt::from_mode(0o644)).unwrap();
    let tag = manifest_path(TAG);
    let index = r#"{"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha256:0c9e3bd058489120cd8089a4a52f6ef4873af1d29b86744381ccec07094d7f61", "size": 2,
        "platform": {"os": "linux", "architecture": "s390x"}}]}"#;
    for (fault, words) in [
        (Fault::Status(404), &["no registry has this tag", "hint: "][..]),
        (Fault::Status(401), &["credentials are wanted", "podman login"]),
        (Fault::Status(503), &["no registry answers"]),
        (Fault::Html, &["an HTML page instead of the file"]),
        (Fault::Bytes(b"{}".to_vec()), &["reading what the tag"]),
        (Fault::Bytes(index.as_bytes().to_vec()), &["linux/s390x", "hint: "]),
    ] {
        registry.server.fail_always(&tag, fault);
        refused(words, update(&[]));
    }
    registry.server.heal(&tag);
    fs::write(&part, pin(&registry.pinned(registry.digest))).unwrap();
    refused(&["has no tag", "hint: "], update(&[]));
    fs::write(&part, pin(&fixture::builder("dnf5"))).unwrap();
    refused(&["is made on this machine"], update(&[]));

    // A definition that was written with a tag alone is pinned.
    fs::write(&part, pin(&format!("{}/builder:{TAG}", registry.name()))).unwrap();
    refused(
        &["is not pinned by digest", "hint: `ocinitrd update IMAGE --builder`"],
        registry.run(other.path(), "lock"),
    );
    succeed(&mut update(&[]));
    assert_eq!(fs::read_to_string(&part).unwrap(), pin(&registry.image_of(newer)));
}

/// `make initrd` takes another image where there is no network, and for no other reason.
#[test]
fn the_default_build_is_of_the_offline_image_only_if_no_registry_answers() {
    let registry = Registry::start();
    let directory = registry.definition();
    let path = |name: &str| directory.path().join(name);
    fs::rename(path("images/test.toml"), path("images/fedora-44.toml")).unwrap();
    fs::write(path("Makefile"), "offline:\n\t@echo the offline repository is made\n").unwrap();
    let run = || {
        let mut command = Command::new(fixture::checkout().join("scripts/initrd.sh"));
        command.arg(env!("CARGO_BIN_EXE_ocinitrd")).current_dir(directory.path());
        command.env("CONTAINERS_REGISTRIES_CONF", registry.configuration()).env("XDG_CACHE_HOME", path(CACHE));
        let output = command.output().unwrap();
        (output.status.success(), stdout(&output), stderr(&output))
    };
    registry.server.fail_always("/v2/", Fault::Status(404));
    let (succeeded, printed, error) = run();
    assert!(!succeeded && error.contains("this digest is gone"), "{printed}{error}");
    assert!(!printed.contains("offline"), "{printed}");
    registry.server.fail_always("/v2/", Fault::Status(503));
    let (succeeded, printed, error) = run();
    assert!(printed.starts_with("No container registry answers: building the offline image"), "{printed}{error}");
    assert!(printed.contains("the offline repository is made"), "{printed}");
    assert!(!succeeded && error.contains("there is no image \"offline\""), "{error}");
}
