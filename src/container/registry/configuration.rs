//! `registries.conf`, version 2 ([containers-registries.conf(5)](https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md)):
//! where images of a name are to be had on this machine. Of it are read: location, mirrors, `blocked` and `insecure`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// Where images may come from on this machine.
#[derive(Debug, Default)]
pub struct Configuration {
    /// By prefix. `*.example.org` stands for all hosts of a domain.
    registries: BTreeMap<String, Registry>,
}

/// A place that may have an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Location {
    /// `registry[:port]/name`.
    pub repository: String,
    /// Whether it may be asked over HTTP, or have a certificate of its own making.
    pub insecure: bool,
}

#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    registry: Vec<Registry>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Registry {
    prefix: Option<String>,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Deserialize)]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default, rename = "pull-from-mirror")]
    pull_from_mirror: String,
}

impl Configuration {
    /// Reads the files, of which those behind replace what those before say of the same prefix; a directory stands for all
    /// `*.conf` in it, in the order of their names.
    ///
    /// # Errors
    /// Fails when a file cannot be read or is not of this format.
    pub fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut configuration = Configuration::default();
        for path in paths {
            for path in files(path)? {
                let text = regular_file::read_text(&path, TEXT_LIMIT_BYTES);
                let text = text.with_context(|| format!("reading {}", path.display()))?;
                configuration.add(&text).with_context(|| format!("reading {}", path.display()))?;
            }
        }
        Ok(configuration)
    }

    fn add(&mut self, text: &str) -> Result<()> {
        let file: File = toml::from_str(text)?;
        for registry in file.registry {
            let prefix = registry.prefix.clone().filter(|prefix| !prefix.is_empty());
            self.registries.insert(prefix.unwrap_or_else(|| registry.location.clone()), registry);
        }
        Ok(())
    }

    /// Where images of `repository` are to be had by digest, the best place first; none if it is blocked.
    pub fn locations(&self, repository: &str) -> Vec<Location> {
        let Some((prefix, registry)) = self.registry_of(repository) else {
            return vec![Location { repository: repository.to_owned(), insecure: false }];
        };
        if registry.blocked {
            return Vec::new();
        }
        let rest = repository.strip_prefix(prefix).unwrap_or_default();
        let at = |location: &str| if location.is_empty() { repository.to_owned() } else { format!("{location}{rest}") };
        let mirrors = registry.mirror.iter().filter(|mirror| mirror.pull_from_mirror != "tag-only");
        let mirrors = mirrors.map(|mirror| Location { repository: at(&mirror.location), insecure: mirror.insecure });
        mirrors.chain([Location { repository: at(&registry.location), insecure: registry.insecure }]).collect()
    }

    /// The entry with the longest prefix of `repository`, and that prefix.
    fn registry_of<'r>(&self, repository: &'r str) -> Option<(&'r str, &Registry)> {
        let prefixes = repository.match_indices('/').map(|(end, _)| &repository[..end]).chain([repository]);
        let mut prefixes: Vec<&str> = prefixes.collect();
        prefixes.reverse();
        let by_name = prefixes.iter().find_map(|prefix| Some((*prefix, self.registries.get(*prefix)?)));
        by_name.or_else(|| {
            let host = prefixes.last()?;
            let domains = host.match_indices('.').map(|(start, _)| format!("*{}", &host[start..]));
            domains.into_iter().find_map(|domain| Some((*host, self.registries.get(&domain)?)))
        })
    }
}

/// The file at `path`, or the `*.conf` in that directory; none if there is nothing.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(vec![path.to_owned()]),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>),
    };
    let entries = entries.with_context(|| format!("reading the directory {}", path.display()))?;
    let mut files: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(repository: &str, insecure: bool) -> Location {
        Location { repository: repository.to_owned(), insecure }
    }

    fn configuration(text: &str) -> Configuration {
        let mut configuration = Configuration::default();
        configuration.add(text).unwrap();
        configuration
    }

    #[test]
    fn without_an_entry_an_image_is_where_its_name_says() {
        let fedora = "registry.fedoraproject.org/fedora";
        assert_eq!(Configuration::default().locations(fedora), [location(fedora, false)]);
        let others =
            configuration("unqualified-search-registries = ['a.example']\n[[registry]]\nlocation = 'registry'\n");
        assert_eq!(others.locations(fedora), [location(fedora, false)]);
    }

    #[test]
    fn mirrors_come_first_and_the_longest_prefix_counts() {
        let configuration = configuration(
            "[[registry]]\nprefix = 'quay.io'\nlocation = 'cache.example:5000/quay'\ninsecure = true\n\
             [[registry]]\nlocation = 'quay.io/fedora'\n\
             [[registry.mirror]]\nlocation = 'mirror.example/f'\n\
             [[registry.mirror]]\nlocation = 'tags.example'\npull-from-mirror = 'tag-only'\n\
             [[registry.mirror]]\nlocation = 'digests.example/f'\npull-from-mirror = 'digest-only'\ninsecure = true\n\
             [[registry]]\nprefix = '*.example.org'\nlocation = 'inside.example/o'\n",
        );
        assert_eq!(
            configuration.locations("quay.io/centos/centos"),
            [location("cache.example:5000/quay/centos/centos", true)]
        );
        assert_eq!(
            configuration.locations("quay.io/fedora/fedora"),
            [
                location("mirror.example/f/fedora", false),
                location("digests.example/f/fedora", true),
                location("quay.io/fedora/fedora", false)
            ]
        );
        assert_eq!(configuration.locations("a.b.example.org/x"), [location("inside.example/o/x", false)]);
        assert_eq!(configuration.locations("quay.io.evil/x"), [location("quay.io.evil/x", false)]);
    }

    #[test]
    fn a_blocked_registry_is_not_asked() {
        let configuration = configuration("[[registry]]\nlocation = 'quay.io'\nblocked = true\n");
        assert_eq!(configuration.locations("quay.io/x"), []);
    }

    #[test]
    fn later_files_replace_what_earlier_ones_say() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("d")).unwrap();
        for (name, text) in [
            ("registries.conf", "[[registry]]\nlocation = 'a.example'\ninsecure = true\n"),
            ("d/20.conf", "[[registry]]\nprefix = 'a.example'\nlocation = 'b.example'\n"),
            ("d/10.conf", "[[registry]]\nprefix = 'a.example'\nlocation = 'c.example'\n"),
            ("d/README", "no TOML"),
        ] {
            std::fs::write(path(name), text).unwrap();
        }
        let read = |names: &[&str]| Configuration::read(&names.iter().map(|name| path(name)).collect::<Vec<_>>());
        assert_eq!(
            read(&["registries.conf", "d", "absent"]).unwrap().locations("a.example/x"),
            [location("b.example/x", false)]
        );
        std::fs::write(path("d/30.conf"), "[[registry]\n").unwrap();
        let error = format!("{:#}", read(&["d"]).unwrap_err());
        assert!(error.contains("d/30.conf"), "{error}");
    }
}
