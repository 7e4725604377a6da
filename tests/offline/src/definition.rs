//! The parts of image definitions that depend on this machine: digests in, the text of a TOML file out.

use crate::builder::image_name;

/// The file that a definition includes to use a builder and the repository beside the file.
pub fn fragment(builder: &str, digest: &str) -> String {
    let image = image_name(builder);
    format!(
        "# Made by `offline-repo setup`; images/offline.toml includes it.\n\
         [builder]\n\
         image = \"{image}@{digest}\"\n\
         \n\
         [repos.offline]\n\
         baseurl = \"repo\"\n\
         gpg_keys = [\"keys/offline.asc\"]\n\
         repo_gpgcheck = true\n"
    )
}

/// The file's name: the builder that Fedora has goes without its own.
pub fn file_name(builder: &str) -> String {
    if builder == "dnf5" { "builder.toml".to_owned() } else { format!("builder-{builder}.toml") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_names_the_image_by_digest() {
        let text = fragment("dnf5", "sha256:00");
        assert!(text.contains("\nimage = \"localhost/ocinitrd/offline-dnf5@sha256:00\"\n"), "{text}");
        assert_eq!((file_name("dnf5"), file_name("dnf4")), ("builder.toml".into(), "builder-dnf4.toml".into()));
    }
}
