//! `certs.d` ([containers-certs.d(5)](https://github.com/containers/image/blob/main/docs/containers-certs.d.5.md)): whom a registry is
//! vouched for by, and what shows it who asks. `HOST[:PORT]/*.crt` are authorities, `X.cert` with `X.key` are the client's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::packages::download::Trust;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

/// What the first of `directories` that has a directory for `registry` says.
///
/// # Errors
/// Fails when a file cannot be read, and when a client's certificate has no key.
pub fn find(directories: &[PathBuf], registry: &str) -> Result<Trust> {
    for directory in directories {
        let directory = directory.join(registry);
        match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            entries => {
                let entries = entries.and_then(Iterator::collect::<io::Result<Vec<_>>>);
                let entries = entries.with_context(|| format!("reading the directory {}", directory.display()))?;
                let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
                paths.sort();
                return read_all(&paths);
            }
        }
    }
    Ok(Trust::default())
}

fn read_all(paths: &[PathBuf]) -> Result<Trust> {
    let mut trust = Trust::default();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => trust.authorities.push(read(path)?),
            Some("cert") => {
                let mut pem = read(path)?;
                pem.push(b'\n');
                pem.extend(read(&path.with_extension("key"))?);
                trust.identity = Some(pem);
            }
            _ => {}
        }
    }
    Ok(trust)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    regular_file::read(path, TEXT_LIMIT_BYTES).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_and_the_clients_certificate_are_told_by_their_extensions() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("second/r.example:5000")).unwrap();
        for (name, text) in [("ca.crt", "CA"), ("client.cert", "CERT"), ("client.key", "KEY"), ("README", "x")] {
            fs::write(path("second/r.example:5000").join(name), text).unwrap();
        }
        let places = [path("first"), path("second")];
        let trust = find(&places, "r.example:5000").unwrap();
        assert_eq!((trust.authorities, trust.identity), (vec![b"CA".to_vec()], Some(b"CERT\nKEY".to_vec())));
        assert!(find(&places, "r.example").unwrap().authorities.is_empty());
        fs::remove_file(path("second/r.example:5000/client.key")).unwrap();
        let error = format!("{:#}", find(&places, "r.example:5000").unwrap_err());
        assert!(error.contains("client.key"), "{error}");
    }
}
