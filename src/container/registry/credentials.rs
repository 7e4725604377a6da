//! `auth.json` ([containers-auth.json(5)](https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md)) and Docker's
//! `config.json`: what `podman login` and `docker login` have kept. Helper programs named there are not run.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::packages::download::authorization::Credentials;
use ocinitrd_format::text::escaped_error;
use ocinitrd_support::regular_file::{self, TEXT_LIMIT_BYTES};

#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// The credentials for `repository` (`registry[:port]/name`): of the first file that has some, and in it of the longest
/// prefix, down to the registry.
///
/// # Errors
/// Fails when a file cannot be read or is not of this format. Its content is not quoted.
pub fn find(files: &[PathBuf], repository: &str) -> Result<Option<Credentials>> {
    for path in files {
        let reading = || format!("reading the credentials in {}", path.display());
        let json = match regular_file::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.and_then(|file| regular_file::read_all(file, TEXT_LIMIT_BYTES)).with_context(reading)?,
        };
        let file: File = serde_json::from_slice(&json).map_err(escaped_error).with_context(reading)?;
        if let Some((key, entry)) = file.entry(repository) {
            return Ok(Some(credentials(entry).with_context(|| format!("{}, of {key}", reading()))?));
        }
    }
    Ok(None)
}

impl File {
    fn entry(&self, repository: &str) -> Option<(&str, &Entry)> {
        let mut key = repository;
        loop {
            let old_forms =
                [key.to_owned(), format!("https://{key}"), format!("https://{key}/v1/"), format!("https://{key}/v2/")];
            let found = old_forms.iter().find_map(|form| self.auths.get_key_value(form));
            // A file may say only that a helper program has them.
            let found = found.filter(|(_, entry)| !entry.is_empty());
            if let Some((key, entry)) = found {
                return Some((key, entry));
            }
            key = key.rsplit_once('/')?.0;
        }
    }
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.auth.is_empty() && self.username.is_empty() && self.identitytoken.is_empty()
    }
}

fn credentials(entry: &Entry) -> Result<Credentials> {
    if !entry.identitytoken.is_empty() {
        return Ok(Credentials::RefreshToken(entry.identitytoken.clone()));
    }
    if entry.auth.is_empty() {
        return Ok(Credentials::Password { user: entry.username.clone(), password: entry.password.clone() });
    }
    // The error would quote what it could not decode.
    let decoded = STANDARD.decode(&entry.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let (user, password) = decoded
        .as_deref()
        .and_then(|text| text.split_once(':'))
        .ok_or_else(|| anyhow!("\"auth\" is not the base64 form of USER:PASSWORD; log in again"))?;
    Ok(Credentials::Password { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str, repository: &str) -> Result<Option<Credentials>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auth.json");
        std::fs::write(&path, json).unwrap();
        find(&[directory.path().join("absent"), path], repository)
    }

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn the_longest_prefix_counts() {
        let auth = |text: &str| STANDARD.encode(text);
        let json = format!(
            r#"{{"auths": {{"quay.io": {{"auth": "{}"}}, "quay.io/team": {{"auth": "{}"}},
                "https://docker.example/v1/": {{"username": "u", "password": "p"}},
                "token.example": {{"auth": "{}", "identitytoken": "t"}}, "helped.example": {{}}}},
                "credHelpers": {{"helped.example": "secretservice"}}}}"#,
            auth("one:a:b"),
            auth("two:c"),
            auth("three:")
        );
        let of = |repository: &str| found(&json, repository).unwrap();
        assert!(of("quay.io/centos/centos") == password("one", "a:b"));
        assert!(of("quay.io/team/builder") == password("two", "c"));
        assert!(of("docker.example/x") == password("u", "p"));
        assert!(of("token.example/x") == Some(Credentials::RefreshToken("t".to_owned())));
        assert!(of("quay.io.evil/team/x").is_none() && of("helped.example/x").is_none());
        assert!(found("{}", "quay.io/x").unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_read_is_named_and_not_quoted() {
        for json in
            [r#"{"auths": {"r.example": {"auth": "secret"}}}"#, r#"{"auths": {"r.example": {"auth": 12}}}"#, "[", ""]
        {
            let Err(error) = found(json, "r.example/x") else { panic!("{json}") };
            let message = format!("{error:#}");
            assert!(message.contains("auth.json") && !message.contains("secret"), "{message}");
        }
    }
}
