//! A builder image in the registry that most people run (<https://distribution.github.io/distribution/>), behind a password and TLS.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::engine::eventually;
use crate::fixture::{self, fail, succeed};
use crate::images::{changed_image, command_test};
use crate::registry::{Registry, TAG};

/// `htpasswd -nbB tester secret`: this registry takes bcrypt only.
const PASSWORDS: &str = "tester:$2y$05$SLrM2/HOpIaCvFca2tDWPuWYypbnwi1Xh4jt1tHPQuEjjfiPJH/9a\n";
/// `tester:secret` and `tester:wrong` as auth.json has them.
const RIGHT: &str = "dGVzdGVyOnNlY3JldA==";
const WRONG: &str = "dGVzdGVyOndyb25n";

/// A running registry, with its storage and certificates in a directory of its own.
struct RealRegistry {
    directory: tempfile::TempDir,
    name: String,
    server: Child,
}

impl RealRegistry {
    /// One with TLS and a password.
    fn start() -> Self {
        RealRegistry::start_with(|here| {
            make_certificates(Path::new(here));
            format!(
                "  tls:\n    certificate: {here}/server.crt\n    key: {here}/server.key\n\
                 auth:\n  htpasswd:\n    realm: test\n    path: {here}/htpasswd\n"
            )
        })
    }

    /// One whose `http` has these further lines, in which its directory may be named.
    fn start_with(lines: impl Fn(&str) -> String) -> Self {
        let directory = tempfile::tempdir_in(fixture::checkout().join("target")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let name = format!("127.0.0.1:{port}");
        let at = |path: &str| directory.path().join(path);
        fs::write(at("htpasswd"), PASSWORDS).unwrap();
        let here = directory.path().to_str().unwrap();
        let storage = format!("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {here}/storage\n");
        fs::write(at("config.yml"), format!("{storage}http:\n  addr: {name}\n{}", lines(here))).unwrap();
        if at("ca.crt").exists() {
            fs::create_dir_all(at("containers/certs.d").join(&name)).unwrap();
            fs::copy(at("ca.crt"), at("containers/certs.d").join(&name).join("ca.crt")).unwrap();
        }
        let program = ["docker-registry", "registry"].into_iter().find(|program| has(program));
        let mut command =
            Command::new(program.expect("docker-registry (Fedora: docker-distribution) is not installed"));
        command.arg("serve").arg(at("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().unwrap();
        eventually("the registry listens", Duration::from_secs(30), || TcpStream::connect(&name).is_ok());
        RealRegistry { directory, name, server }
    }

    /// Copies the image of another registry here, bytes and digests as they are.
    fn take_from(&self, other: &Registry) {
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", "--dest-creds=tester:secret"]);
        copy.arg(format!("--dest-cert-dir={}/containers/certs.d/{}", self.directory.path().display(), self.name));
        copy.arg(format!("docker://{}/builder:{TAG}", other.name()));
        succeed(copy.arg(format!("docker://{}/builder:{TAG}", self.name)));
    }

    /// `ocinitrd COMMAND test` by a user who has logged in with `auth`, and has the registry's certificate or not.
    fn run(&self, image: &Path, command: &str, auth: Option<&str>, has_certificate: bool) -> Command {
        let credentials = self.directory.path().join("auth.json");
        let auths = auth.map(|auth| format!("{{\"{}\": {{\"auth\": \"{auth}\"}}}}", self.name));
        fs::write(&credentials, format!("{{\"auths\": {}}}", auths.as_deref().unwrap_or("{}"))).unwrap();
        let mut command = command_test(image, command);
        command.args(["--engine", "podman"]).env("REGISTRY_AUTH_FILE", credentials);
        let settings =
            if has_certificate { self.directory.path().to_owned() } else { self.directory.path().join("none") };
        command.env("XDG_CONFIG_HOME", settings);
        command
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// The engine knows an image that it has pushed by the digest of its own copy, too.
#[test]
fn an_image_that_was_pushed_from_here_is_locked_by_what_the_registry_has() {
    let registry = RealRegistry::start();
    let repository = format!("{}/pushed", registry.name);
    let certificates = registry.directory.path().join("containers/certs.d").join(&registry.name);
    let digest_file = registry.directory.path().join("digest");
    let mut push = Command::new("podman");
    push.args(["push", "--quiet", "--creds=tester:secret", "--cert-dir"]).arg(certificates);
    push.arg("--digestfile").arg(&digest_file).arg("localhost/ocinitrd/offline-dnf5:latest");
    succeed(push.arg(format!("docker://{repository}:{TAG}")));
    let digest = fs::read_to_string(digest_file).unwrap();
    let pinned = format!("{repository}@{digest}");
    succeed(Command::new("podman").args([
        "tag",
        "localhost/ocinitrd/offline-dnf5:latest",
        &format!("{repository}:{TAG}"),
    ]));
    let image = changed_image(&fixture::builder("dnf5"), &format!("{repository}:{TAG}@{digest}"));
    succeed(&mut registry.run(image.path(), "lock", Some(RIGHT), true));
    let lock = fs::read_to_string(image.path().join("images/test.lock")).unwrap();
    assert!(lock.contains(&format!("platform_digest = \"{digest}\"")), "{pinned}: {lock}");
    succeed(Command::new("podman").args(["rmi", &format!("{repository}:{TAG}")]));
}

/// An authority, and a certificate of it for 127.0.0.1.
fn make_certificates(directory: &Path) {
    let openssl = |words: &[&str]| {
        let mut command = Command::new("openssl");
        succeed(command.args(words).current_dir(directory));
    };
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        "-subj",
        "/CN=test authority",
    ]);
    openssl(&[
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
        "-subj",
        "/CN=registry",
    ]);
    fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "server.crt",
        "-extfile",
        "names",
    ]);
}

#[test]
fn a_registry_with_a_password_and_tls_gives_the_builder_image_which_outlives_it() {
    let (other, mut registry) = (Registry::start(), RealRegistry::start());
    registry.take_from(&other);
    let pinned = format!("{}/builder@{}", registry.name, other.digest);
    let image = changed_image(&fixture::builder("dnf5"), &format!("{}/builder:{TAG}@{}", registry.name, other.digest));
    for (auth, has_certificate, words) in [
        (None, true, "credentials are wanted"),
        (Some(WRONG), true, "credentials are wanted"),
        (Some(RIGHT), false, "certificate"),
    ] {
        let error = fail(&mut registry.run(image.path(), "lock", auth, has_certificate));
        assert!(error.contains(words) && error.contains("hint: "), "{error}");
    }
    let update = registry.run(image.path(), "update", Some(RIGHT), true).arg("--builder").output().unwrap();
    assert!(update.status.success(), "{}", fixture::stderr(&update));
    assert!(fixture::stderr(&update).contains("the builder image is the newest"), "{}", fixture::stderr(&update));
    succeed(&mut registry.run(image.path(), "lock", Some(RIGHT), true));

    registry.server.kill().unwrap();
    registry.server.wait().unwrap();
    succeed(Command::new("podman").args(["rmi", "--force", &pinned]));
    let loaded = registry.run(image.path(), "fetch", None, false).output().unwrap();
    assert!(loaded.status.success() && fixture::stderr(&loaded).contains("loading "), "{}", fixture::stderr(&loaded));
    succeed(Command::new("podman").args(["rmi", "--force", &pinned]));
}

#[test]
fn a_registry_without_tls_is_named_with_the_setting_that_allows_it() {
    let registry = RealRegistry::start_with(|_| String::new());
    let pinned = format!("{}/builder:{TAG}@sha256:{}", registry.name, "0c".repeat(32));
    let image = changed_image(&fixture::builder("dnf5"), &pinned);
    let error = fail(&mut registry.run(image.path(), "lock", None, false));
    for part in ["the registry answers without TLS", "/v2/builder/manifests/sha256:", "insecure = true"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("InvalidContentType"), "{error}");
}
