//! Builds without an engine: in the builder image itself, and in the root of a build system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{
    USER, as_rootless_user, builder, checkout, container, fail_with, is_root, ocinitrd, offline_directory, public_copy,
    stderr, stdout, succeed,
};

/// The offline image with its packages and what podman builds of it, where everybody may read it, at a path that is the
/// same in a container.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place { directory: public_copy(&["repo"]) };
        succeed(Command::new("cp").arg("-r").arg(checkout().join("images")).arg(place.path("images")));
        _ = fs::remove_file(place.path("images/offline.lock"));
        fs::copy(offline_directory().join("builder.toml"), place.path("builder.toml")).unwrap();
        let definition = fs::read_to_string(place.path("images/offline.toml")).unwrap();
        let included = definition.replace("../target/offline/builder.toml", "../builder.toml");
        assert_ne!(included, definition);
        fs::write(place.path("images/offline.toml"), included).unwrap();
        // Whoever builds here has to write here.
        fs::set_permissions(place.directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        succeed(
            ocinitrd().arg("build").arg(place.definition()).args(["-t", "cpio,oci", "-O"]).arg(place.path("podman")),
        );
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn definition(&self) -> PathBuf {
        self.path("images/offline.toml")
    }

    /// The words that build here into `output`.
    fn build(&self, output: &str) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        let build = [path("ocinitrd"), "build".to_owned(), path("images/offline.toml")];
        let options = ["--engine", "in-place", "--locked", "--offline", "--rpm-dir", &path("repo/Packages")];
        let outputs = ["-t", "cpio,oci", "-O", &path(output)];
        build.into_iter().chain(options.into_iter().chain(outputs).map(str::to_owned)).collect()
    }

    /// A container of the builder image that sees this place and nothing else.
    fn container(&self, options: &[&str]) -> Command {
        self.container_of("dnf5", options)
    }

    fn container_of(&self, dnf: &str, options: &[&str]) -> Command {
        let mut command = container();
        command.arg("--env=XDG_CACHE_HOME=/var/tmp/cache").args(options);
        let here = self.directory.path().display();
        command.arg(format!("--volume={here}:{here}")).arg(builder(dnf));
        command
    }

    fn compare(&self, output: &str) {
        let compared = ocinitrd().arg("diff").args([self.path("podman"), self.path(output)]).output().unwrap();
        assert!(
            compared.status.success(),
            "{output} is not what podman gives:\n{}{}",
            stdout(&compared),
            stderr(&compared)
        );
        // What no comparison of contents sees.
        assert!(files(&self.path("podman")) == files(&self.path(output)), "{output} has other bytes");
    }
}

/// All files below a directory by their names in it.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let listed = succeed(Command::new("find").arg(".").args(["-type", "f"]).current_dir(directory));
    let mut names: Vec<PathBuf> = listed.lines().map(PathBuf::from).collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), fs::read(directory.join(&name)).unwrap())).collect()
}

#[test]
fn in_the_builder_image_the_outputs_are_those_of_podman_whatever_it_may_do() {
    let place = Place::new();
    // What mounts; what an engine gives by default, which may not; and a user who may make namespaces.
    let user = ["--user=1000", "--security-opt=seccomp=unconfined", "--env=HOME=/tmp"];
    for (output, options, says) in [
        ("mounts", &["--cap-add=SYS_ADMIN"][..], "engine: in place (unshare --mount --net), RPM version"),
        ("no-mounts", &[], "engine: in place (without namespaces), RPM version"),
        ("user", &user, "engine: in place (unshare --map-root-user --mount --net), RPM version"),
    ] {
        // The user of the container is another one outside, where the outputs are read and removed.
        let script = r#""$@" && chmod -R a+rwX "$0""#;
        let mut build = place.container(options);
        let built =
            build.args(["bash", "-c", script]).arg(place.path(output)).args(place.build(output)).output().unwrap();
        let said = stderr(&built);
        assert!(built.status.success() && said.contains(says), "{said}");
        place.compare(output);
    }

    // Elsewhere the same is only likely: that is told, and what was used is recorded.
    let other = place.container_of("dnf4", &[]).args(place.build("dnf4")).output().unwrap();
    let said = stderr(&other);
    assert!(other.status.success() && said.contains("the same bytes are promised with equal ones only"), "{said}");
    let manifest = fs::read_to_string(place.path("dnf4/manifest.json")).unwrap();
    let line = said.lines().find(|line| line.contains("the tools here are ")).unwrap();
    let tools = line.split("the tools here are ").nth(1).unwrap().split(", those of").next().unwrap();
    assert!(tools.split(", ").all(|tool| manifest.contains(&format!("\"{tool}\""))), "{tools}");

    let mut doctor = place.container(&[]);
    let said = succeed(doctor.arg(place.path("ocinitrd")).args(["doctor", "--engine", "in-place"]));
    assert!(said.contains("ok       engine    in place (without namespaces), RPM version"), "{said}");
    let nothing = ocinitrd().env("PATH", place.path("keys")).args(["doctor", "--engine", "in-place"]).output().unwrap();
    let said = stdout(&nothing);
    assert!(nothing.status.code() == Some(1) && said.contains("runs bash here, and it is not installed"), "{said}");

    // What cannot be done there is refused: nothing says which image it is.
    let mut lock = place.container(&[]);
    lock.arg(place.path("ocinitrd")).arg("lock").arg(place.definition());
    let said = fail_with(1, lock.args(["--engine", "in-place", "--profile", "network"]));
    assert!(said.contains("make the lock where podman is"), "{said}");
}

/// As mock has it: a chroot without network, whose only user is one that is nobody elsewhere; and it may not mount.
#[test]
fn in_the_root_of_a_build_system_with_one_user_the_outputs_are_those_of_podman() {
    let place = Place::new();
    let root = place.path("root");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        succeed(Command::new("chown").arg(USER).arg(&root));
    }
    let container = succeed(Command::new("podman").args(["create", "--entrypoint=[]", &builder("dnf5"), "true"]));
    let archive = place.path("root.tar");
    succeed(Command::new("podman").args(["export", "--output"]).arg(&archive).arg(container.trim()));
    succeed(Command::new("podman").args(["rm", container.trim()]));
    fs::set_permissions(&archive, fs::Permissions::from_mode(0o644)).unwrap();
    // Unpacked by that user; root of the name space has what is there of /proc and /dev shown in it, as mock does.
    let script = format!(
        "set -eu; cd {root}
        tar -x --no-same-owner --exclude='dev/*' -f {archive}
        mkdir -p .{place}; mount --bind {place} .{place}; mount --rbind /proc proc; mount --rbind /dev dev
        exec setpriv --bounding-set=-sys_admin chroot . env -i PATH=/usr/sbin:/usr/bin XDG_CACHE_HOME=/var/tmp/cache \"$@\"",
        root = root.display(),
        archive = archive.display(),
        place = place.directory.path().display(),
    );
    let words = ["unshare", "--map-root-user", "--mount", "--net", "bash", "-c", &script, "bash"].map(str::to_owned);
    let words = words.into_iter().chain(place.build("one-user"));
    let mut build = if is_root() {
        as_rootless_user(words)
    } else {
        let words: Vec<String> = words.collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    };
    let built = build.output().unwrap();
    let said = stderr(&built);
    assert!(built.status.success() && said.contains("engine: in place (without namespaces), RPM version"), "{said}");
    place.compare("one-user");
    let owned = succeed(ocinitrd().args(["inspect", "--list"]).arg(place.path("one-user/initrd")));
    let of_groups = owned.lines().filter(|line| line.split_whitespace().nth(2).is_some_and(|group| group != "0"));
    assert!(of_groups.count() > 0, "nothing belongs to a group: {owned}");
}
