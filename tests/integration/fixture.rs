//! What the tests share: the program, the offline repository, one build of the offline image, and a user without rights.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program under test, started in the checkout.
pub fn ocinitrd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocinitrd"));
    command.current_dir(checkout());
    command
}

/// Where `offline-repo setup` put the repository and the builder images.
pub fn offline_directory() -> PathBuf {
    let directory = checkout().join("target/offline");
    assert!(
        directory.join("builder.toml").is_file() && directory.join("builder-dnf4.toml").is_file(),
        "{} is missing: run `make test`, or `cargo run -p offline-repo -- setup --builder all`",
        directory.display()
    );
    directory
}

/// The pinned builder image with `dnf5` or `dnf4`.
pub fn builder(dnf: &str) -> String {
    let name = if dnf == "dnf5" { "builder.toml" } else { "builder-dnf4.toml" };
    let text = fs::read_to_string(offline_directory().join(name)).unwrap();
    let line = text.lines().find(|line| line.starts_with("image = ")).expect("the file names an image");
    line.split('"').nth(1).expect("the image is quoted").to_owned()
}

/// What `ocinitrd build offline -t cpio,oci` gives; built once a run of the tests.
pub fn offline_output() -> PathBuf {
    static OUTPUT: OnceLock<PathBuf> = OnceLock::new();
    OUTPUT
        .get_or_init(|| {
            // The repository may have been made anew since an earlier run.
            let lock = checkout().join("images/offline.lock");
            let repomd = offline_directory().join("repo/repodata/repomd.xml");
            let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
            if changed(&lock) < changed(&repomd) {
                let _ = fs::remove_file(&lock);
            }
            let directory = checkout().join("target/test-output/offline");
            // That of another version may have a manifest that is none any more.
            let _ = fs::remove_dir_all(&directory);
            succeed(ocinitrd().args(["build", "offline", "-t", "cpio,oci", "-O"]).arg(&directory));
            directory
        })
        .clone()
}

/// The initrd whose programs make the disks of boots, and its kernel; built once a run of the tests.
pub fn disk_maker_output() -> PathBuf {
    static OUTPUT: OnceLock<PathBuf> = OnceLock::new();
    OUTPUT.get_or_init(|| offline_variant("disk-maker", "default_profiles = [\"disk-maker\"]")).clone()
}

/// The offline image with the profile `nfs`; built once a run of the tests.
pub fn nfs_output() -> PathBuf {
    static OUTPUT: OnceLock<PathBuf> = OnceLock::new();
    OUTPUT.get_or_init(|| offline_variant("nfs", "default_profiles = [\"nfs\"]")).clone()
}

/// What is built of the offline image with further lines of a definition, which has a lock of its own.
pub fn offline_variant(name: &str, lines: &str) -> PathBuf {
    let definition = variant_definition(name, lines);
    let output = definition.with_file_name("out");
    succeed(ocinitrd().arg("build").arg(&definition).arg("-O").arg(&output));
    output
}

/// The definition of the offline image with further lines, in a directory of its own in which nothing else is.
pub fn variant_definition(name: &str, lines: &str) -> PathBuf {
    let directory = checkout().join("target/test-output").join(name);
    // What was locked in an earlier run is not what the repository has now.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let definition = directory.join(format!("{name}.toml"));
    fs::write(&definition, format!("include = [\"../../../images/offline.toml\"]\n{lines}\n")).unwrap();
    definition
}

/// Runs a command to its end and insists on success; returns its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?} failed:\n{}{}", stdout(&output), stderr(&output));
    stdout(&output)
}

/// Runs a command to its end and insists on exit code 1; returns its standard error.
pub fn fail(command: &mut Command) -> String {
    fail_with(1, command)
}

/// Runs a command to its end and insists on that exit code; returns its standard error.
pub fn fail_with(code: i32, command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{command:?}:\n{}{}", stdout(&output), stderr(&output));
    stderr(&output)
}

/// The digest of a file, as another program says it and as reports have it.
pub fn sha256(file: &Path) -> String {
    format!("sha256:{}", succeed(Command::new("sha256sum").arg(file)).split(' ').next().unwrap())
}

/// What containers have: no network, and no more files and processes than can be had where the tests themselves run in a container.
pub const CONTAINER_LIMITS: [&str; 3] = ["--network=none", "--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"];

/// The beginning of a command that runs a container, of which nothing is kept.
pub fn container() -> Command {
    let mut command = Command::new("podman");
    command.args(["run", "--rm", "--security-opt=label=disable"]).args(CONTAINER_LIMITS);
    command
}

/// What was printed as the result.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What was narrated.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The name of a cache directory of a test's own.
pub const CACHE: &str = ".cache";

/// The names in a directory, sorted; a test's own cache is not counted.
pub fn names(directory: &Path) -> Vec<String> {
    let listing = fs::read_dir(directory).unwrap();
    let names = listing.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name != CACHE).collect();
    names.sort();
    names
}

/// Whether these tests run as root: then they can also run the program as somebody else.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The user without rights that `make test` as root makes.
pub const USER: &str = "ocinitrd-test";

/// A command line run as a user without rights, who has sub-ids and the builder images: `make test` as root makes one.
pub fn as_rootless_user<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", USER, "--", "env", "-i"]);
    command.args([
        format!("HOME=/home/{USER}"),
        "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned(),
        format!("XDG_RUNTIME_DIR=/run/{USER}"),
    ]);
    command.args(words).current_dir("/");
    command
}

/// Copies of the program, `repository` and the keys where a user without rights may read them, wherever the checkout is.
pub fn public_copy(repositories: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("ocinitrd-test.").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_ocinitrd"), directory.path().join("ocinitrd")).unwrap();
    for name in repositories.iter().chain(&["keys"]) {
        succeed(
            Command::new("cp").args(["-a", "--reflink=auto"]).arg(offline_directory().join(name)).arg(directory.path()),
        );
    }
    directory
}
