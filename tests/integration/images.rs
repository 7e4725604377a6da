//! Small image definitions for the tests of `ocinitrd build`, and what comes out of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fixture::{self, names, ocinitrd, succeed};

/// The packages of the smallest image that is an initrd.
pub const SMALL: &str = "\"systemd\", \"systemd-udev\", \"bash\", \"util-linux-core\", \"fedora-release-common\"";

/// An images directory of its own with a definition that includes the offline one's parts.
fn image(text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir_in(fixture::checkout().join("target")).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(directory.path().join("images")).unwrap();
    fs::write(directory.path().join("images/test.toml"), text).unwrap();
    directory
}

/// A small image, also from the repository `repository` below the offline directory.
pub fn small_image(builder: &str, repository: &str, packages: &str) -> tempfile::TempDir {
    let offline = fixture::offline_directory();
    let offline = offline.display();
    image(&format!(
        "releasever = \"44\"\n\
         [builder]\nimage = \"{}\"\n\
         [repos.offline]\nbaseurl = \"{offline}/repo\"\ngpg_keys = [\"{offline}/keys/offline.asc\"]\nrepo_gpgcheck = true\n\
         [repos.second]\nbaseurl = \"{offline}/{repository}\"\ngpg_keys = [\"{offline}/keys/offline.asc\"]\n\
         [packages]\ninstall = [{packages}]\n\
         [kernel]\npackages = [\"kernel-cloud-core\"]\nmodules = [\"ext4\", \"virtio_blk\"]\n",
        fixture::builder(builder)
    ))
}

/// The small image with `from` of its definition replaced.
pub fn changed_image(from: &str, to: &str) -> tempfile::TempDir {
    let image = small_image("dnf5", "repo-foreign", SMALL);
    change(&image, from, to);
    image
}

/// Replaces `from` in the definition of an image.
pub fn change(image: &tempfile::TempDir, from: &str, to: &str) {
    let definition = image.path().join("images/test.toml");
    let text = fs::read_to_string(&definition).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&definition, text.replace(from, to)).unwrap();
}

/// An image whose second repository is a directory of its own, with the packages that `from` of it has.
pub fn image_with_samples(from: &str) -> tempfile::TempDir {
    let image = small_image("dnf5", "repo-foreign", &format!("{SMALL}, \"update-sample\""));
    let second = image.path().join("second");
    let offline = fixture::offline_directory();
    change(&image, &format!("{}/repo-foreign", offline.display()), second.to_str().unwrap());
    serve(&second, from);
    image
}

/// Lets the directory have what the repository `from` has.
pub fn serve(directory: &Path, from: &str) {
    let _ = fs::remove_dir_all(directory);
    succeed(Command::new("cp").arg("-rT").arg(fixture::offline_directory().join(from)).arg(directory));
}

/// What a build says of itself.
pub fn manifest(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap()
}

/// `ocinitrd COMMAND test` in the directory of an image, with a cache of its own: what another test built is not taken
/// from it.
pub fn command_test(directory: &Path, command: &str) -> Command {
    let mut words = ocinitrd();
    words.args([command, "test"]).current_dir(directory).env("XDG_CACHE_HOME", directory.join(fixture::CACHE));
    words
}

/// `ocinitrd build test` in the directory of an image.
pub fn build_test(directory: &Path) -> Command {
    command_test(directory, "build")
}

/// `ocinitrd build test` that finds nothing in a cache.
pub fn build_test_anew(directory: &Path) -> Command {
    let _ = fs::remove_dir_all(directory.join(fixture::CACHE).join("ocinitrd/cache"));
    build_test(directory)
}

/// Runs the build `variation` and returns the outputs that it put in `name` below `directory`.
pub fn varied(directory: &Path, name: &str, mut variation: Command) -> BTreeMap<String, Vec<u8>> {
    succeed(&mut variation);
    let output = directory.join(name);
    names(&output).into_iter().map(|file| (file.clone(), fs::read(output.join(file)).unwrap())).collect()
}
