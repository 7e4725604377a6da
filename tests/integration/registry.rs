//! A builder image that has to be pulled: from a registry that serves it over HTTP as registries do
//! (<https://github.com/opencontainers/distribution-spec>), and from one that serves something else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use ocinitrd::engine::ImageReference;
use ocinitrd::format::digest::Digest;
use serde_json::Value;

use crate::fixture::{self, CACHE, fail, names, succeed};
use crate::http_server::{Fault, Server};
use crate::images::{changed_image, command_test};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The offline builder image as the files of a registry: `v2/builder/blobs/DIGEST` and `v2/builder/manifests/DIGEST`.
/// Its configuration says that it is another image, so that the engine does not have it.
struct Registry {
    server: Server,
    directory: tempfile::TempDir,
    digest: Digest,
}

impl Registry {
    fn start() -> Self {
        let directory = tempfile::tempdir_in(fixture::checkout().join("target")).unwrap();
        let layout = fixture::offline_directory().join("builder-dnf5.oci.tar");
        succeed(Command::new("tar").arg("-xf").arg(layout).arg("-C").arg(directory.path()));
        let (blobs, manifests) =
            (directory.path().join("v2/builder/blobs"), directory.path().join("v2/builder/manifests"));
        fs::create_dir_all(&manifests).unwrap();
        fs::rename(directory.path().join("blobs/sha256"), &blobs).unwrap();
        for hex in names(&blobs) {
            fs::rename(blobs.join(&hex), blobs.join(format!("sha256:{hex}"))).unwrap();
        }
        let pinned: ImageReference = fixture::builder("dnf5").parse().unwrap();
        let mut manifest = json(&blobs.join(pinned.digest().to_string()));
        let mut configuration = json(&blobs.join(manifest["config"]["digest"].as_str().unwrap()));
        configuration["author"] = Value::from(format!("a test in {}", directory.path().display()));
        let configuration = serde_json::to_vec(&configuration).unwrap();
        manifest["config"]["digest"] = Value::from(Digest::of(&configuration).to_string());
        manifest["config"]["size"] = Value::from(configuration.len());
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let digest = Digest::of(&manifest);
        fs::write(blobs.join(Digest::of(&configuration).to_string()), configuration).unwrap();
        fs::write(manifests.join(digest.to_string()), manifest).unwrap();
        let server = Server::start(directory.path());
        server.answer_with(&format!("/v2/builder/manifests/{digest}"), MANIFEST);
        fs::write(directory.path().join("v2/index.html"), "{}").unwrap();
        Registry { server, directory, digest }
    }

    /// Its name, as references begin with it.
    fn name(&self) -> String {
        self.server.url("").trim_start_matches("http://").to_owned()
    }

    /// The image as a definition names it.
    fn image(&self) -> String {
        format!("{}/builder@{}", self.name(), self.digest)
    }

    /// `ocinitrd build test` with an engine that takes this registry's word without TLS.
    fn build(&self, directory: &Path) -> Command {
        self.run(directory, "build")
    }

    /// The same with another command.
    fn run(&self, directory: &Path, command: &str) -> Command {
        let configuration = self.directory.path().join("registries.conf");
        let text = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", self.name());
        fs::write(&configuration, text).unwrap();
        let mut command = command_test(directory, command);
        command.args(["--engine", "podman"]).env("CONTAINERS_REGISTRIES_CONF", configuration);
        command
    }

    /// The small image built by this registry's image.
    fn definition(&self) -> tempfile::TempDir {
        changed_image(&fixture::builder("dnf5"), &self.image())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = Command::new("podman").args(["rmi", &self.image()]).output();
    }
}

#[test]
fn a_builder_image_that_is_not_there_is_pulled_once() {
    let registry = Registry::start();
    let image = registry.definition();
    succeed(&mut registry.build(image.path()));
    let asked = registry.server.take_requests();
    assert!(asked.iter().any(|request| request.path == format!("/v2/builder/manifests/{}", registry.digest)));
    assert_eq!(names(&image.path().join("test")), ["initrd", "manifest.json", "vmlinuz"]);
    succeed(&mut registry.build(image.path()));
    assert_eq!(registry.server.take_requests(), [], "a pinned image that is there needs no registry");
}

#[test]
fn a_registry_that_serves_another_image_is_refused() {
    let registry = Registry::start();
    let image = registry.definition();
    let manifest = format!("/v2/builder/manifests/{}", registry.digest);
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
    registry.server.fail_always(&format!("/v2/builder/manifests/{}", registry.digest), Fault::Status(403));
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
    let forget = || succeed(Command::new("podman").args(["rmi", "--force", &registry.image()]));
    forget();
    registry.server.fail_always("/v2/", Fault::Status(404));
    registry.server.take_requests();
    let loaded = registry.run(image.path(), "fetch").output().unwrap();
    assert!(loaded.status.success() && fixture::stderr(&loaded).contains("loading "), "{}", fixture::stderr(&loaded));
    assert_eq!(registry.server.take_requests(), [], "what the store has needs no registry");
    succeed(Command::new("podman").args(["image", "exists", &registry.image()]));

    forget();
    let manifest = image.path().join(CACHE).join("ocinitrd/blobs/sha256").join(registry.digest.hex());
    fs::remove_file(&manifest).unwrap();
    fs::write(&manifest, "damaged").unwrap();
    fs::set_permissions(&manifest, PermissionsExt::from_mode(0o400)).unwrap();
    let error = fail(&mut registry.run(image.path(), "fetch"));
    assert!(error.contains("this digest is gone") && error.contains("[builder] mirrors"), "{error}");
    let error = fail(registry.run(image.path(), "fetch").arg("--offline"));
    assert!(error.contains("--offline forbids to ask a registry"), "{error}");
}

#[test]
fn what_is_wrong_with_a_registry_is_told_apart() {
    let registry = Registry::start();
    let image = registry.definition();
    let manifest = format!("/v2/builder/manifests/{}", registry.digest);
    for (fault, expected) in [
        (Fault::Status(404), "this digest is gone"),
        (Fault::Status(401), "credentials are wanted"),
        (Fault::Status(500), "no registry answers"),
        (Fault::Html, "an HTML page instead of the file"),
    ] {
        registry.server.fail_always(&manifest, fault);
        let error = fail(&mut registry.build(image.path()));
        assert!(error.contains(expected) && error.contains("hint: "), "{error}");
        assert_eq!(names(image.path()), ["images"]);
    }
}
