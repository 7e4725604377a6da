//! The parts of image definitions that depend on this machine: digests in, the text of a TOML file out.

use crate::builder::image_name;

/// The files, by path in the set-up's directory, that a definition includes to use a builder and a repository.
pub fn fragments(builder: &str, digest: &str) -> Vec<(String, String)> {
    let mut fragments = vec![(file_name(builder), fragment(builder, digest, &OFFLINE))];
    if builder == FEDORAS {
        fragments.push((format!("fedora44/{}", file_name(builder)), fragment(builder, digest, &FEDORA44)));
    }
    fragments
}

/// The builder that Fedora has.
pub const FEDORAS: &str = "dnf5";

/// Repositories with their directories, and the definition that uses them.
struct Repositories {
    definition: &'static str,
    repositories: &'static [(&'static str, &'static str)],
    keys: &'static [&'static str],
    /// Whether their metadata is verified, which Fedora's is not.
    repo_gpgcheck: bool,
}

const OFFLINE: Repositories = Repositories {
    definition: "images/offline.toml",
    repositories: &[("offline", "repo")],
    keys: &["keys/offline.asc"],
    repo_gpgcheck: true,
};

/// What is signed twice needs both keys.
const FEDORA44: Repositories = Repositories {
    definition: "images/offline-44.toml",
    repositories: &[("fedora", "fedora"), ("updates", "updates")],
    keys: &["../keys/offline.asc", "../keys/second.asc"],
    repo_gpgcheck: false,
};

fn fragment(builder: &str, digest: &str, of: &Repositories) -> String {
    let image = image_name(builder);
    let mut text = format!(
        "# Made by `offline-repo setup`; {} includes it.\n\
         [builder]\n\
         image = \"{image}@{digest}\"\n",
        of.definition
    );
    for (name, directory) in of.repositories {
        text += &format!(
            "\n[repos.{name}]\n\
             baseurl = \"{directory}\"\n\
             gpg_keys = {:?}\n",
            of.keys
        );
        if of.repo_gpgcheck {
            text += "repo_gpgcheck = true\n";
        }
    }
    text
}

/// The file's name: the builder that Fedora has goes without its own.
pub fn file_name(builder: &str) -> String {
    if builder == FEDORAS { "builder.toml".to_owned() } else { format!("builder-{builder}.toml") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_names_the_image_by_digest_and_every_repository() {
        let fragments = fragments("dnf5", "sha256:00");
        let paths: Vec<&str> = fragments.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["builder.toml", "fedora44/builder.toml"]);
        for (_, text) in &fragments {
            assert!(text.contains("\nimage = \"localhost/ocinitrd/offline-dnf5@sha256:00\"\n"), "{text}");
        }
        assert!(fragments[0].1.contains("\n[repos.offline]\nbaseurl = \"repo\"\ngpg_keys = [\"keys/offline.asc\"]\n"));
        assert!(fragments[1].1.contains("[repos.fedora]") && fragments[1].1.contains("[repos.updates]"));
        assert_eq!(super::fragments("dnf4", "sha256:00").len(), 1);
        assert_eq!(file_name("dnf4"), "builder-dnf4.toml");
    }
}
