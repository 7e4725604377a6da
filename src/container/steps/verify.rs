//! Verifies signatures of rpms with the rpm of the builder image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use crate::container::engine::{Builder, Job};
use crate::packages::rpm_file::{self, Signature};
use ocinitrd_format::openpgp::Fingerprint;
use ocinitrd_support::exhausted::Exhausted;
use ocinitrd_support::progress::Progress;

use super::input::Input;

/// A question: did this key make this signature of this rpm?
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// The key.
    pub key: &'a Fingerprint,
    /// The key itself.
    pub armored: &'a str,
    /// The rpm on this host.
    pub rpm: &'a Path,
    /// One of its signatures.
    pub signature: &'a Signature,
}

/// What rpm says about a signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The key made it, of exactly this package.
    Right,
    /// The signature is wrong or the package is damaged: rpm's words.
    Wrong(String),
    /// rpm cannot import the key or check this kind of signature: its words.
    Unknown(String),
}

impl Verdict {
    /// rpm's words.
    pub fn words(&self) -> &str {
        match self {
            Verdict::Right => "it verifies",
            Verdict::Wrong(words) | Verdict::Unknown(words) => words,
        }
    }
}

/// How rpm's line ends for a package that it verified in full.
const VERIFIED: &str = ": digests signatures OK";
/// How it ends for others.
const NOT_VERIFIED: &str = " NOT OK";

/// Lets rpm's own verifier answer `checks`. Each rpm is shown to it with only that signature, and only that key.
///
/// # Errors
/// Fails if an rpm cannot be read, or if rpm does not come to a verdict on each.
pub async fn verify(builder: &Builder, checks: &[Check<'_>], progress: &Progress) -> Result<Vec<Verdict>> {
    let input = input(checks)?;
    let (mut refused, mut verdicts, mut details) = (Vec::new(), Vec::new(), Vec::new());
    let job = Job {
        name: "verify",
        command: super::command("/bin/sh", "verify.sh"),
        environment: super::environment(None),
        capabilities: Vec::new(),
        memory_limit_bytes: None,
        input: Box::new(move |writer| input.write(writer)),
        outputs: vec![
            super::output("refused", &mut refused),
            super::output("verdicts", &mut verdicts),
            super::output("details", &mut details),
        ],
    };
    let result = builder.run(job, progress).await?;
    let failure = || super::failure::error(&result, "verifying the packages' signatures", str::to_owned);
    if result.exit_code != 0 {
        return Err(failure());
    }
    // rpm quotes damaged packages, which may hold any bytes.
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let answer = Answer { refused: lossy(&refused), verdicts: lossy(&verdicts), details: lossy(&details) };
    // On a machine that has run out of files or room, this is not an answer.
    if !answer.refused.is_empty() && Exhausted::in_log(&result.log).is_some() {
        return Err(failure());
    }
    let paths = checks.iter().enumerate().map(|(number, check)| path(number, check));
    paths.zip(checks).map(|(path, check)| answer.verdict(&path, check.key).ok_or_else(failure)).collect()
}

fn input(checks: &[Check<'_>]) -> Result<Input> {
    let mut input = Input::with_script("verify.sh", include_str!("verify.sh"));
    let keys: BTreeMap<&Fingerprint, &str> = checks.iter().map(|check| (check.key, check.armored)).collect();
    input.directory("keys");
    input.directory("rpms");
    for (key, armored) in keys {
        input.bytes(&format!("keys/{key}"), armored);
        input.directory(&format!("rpms/{key}"));
    }
    for (number, check) in checks.iter().enumerate() {
        let excerpt = rpm_file::with_one_signature(check.rpm, check.signature)?;
        input.rpm(&path(number, check), check.rpm, excerpt);
    }
    Ok(input)
}

/// Where the rpm of a check is in the container.
fn path(number: usize, check: &Check<'_>) -> String {
    format!("rpms/{}/{number}.rpm", check.key)
}

/// What the script leaves: rpm's words on keys that it cannot import, a line for each rpm, and the details of those that do not
/// verify.
struct Answer {
    refused: String,
    verdicts: String,
    details: String,
}

impl Answer {
    /// None if rpm came to no verdict.
    fn verdict(&self, path: &str, key: &Fingerprint) -> Option<Verdict> {
        if let Some(words) = section(&self.refused, &format!("{key}:")) {
            return Some(Verdict::Unknown(format!("rpm cannot import the key: {}", words.join("; "))));
        }
        let said = self.verdicts.lines().find_map(|line| line.strip_prefix(path))?;
        match said {
            VERIFIED => Some(Verdict::Right),
            _ if said.ends_with(NOT_VERIFIED) => Some(judge(&section(&self.details, &format!("{path}:"))?)),
            _ => None,
        }
    }
}

/// The lines below a heading, which are indented.
fn section<'t>(text: &'t str, heading: &str) -> Option<Vec<&'t str>> {
    let mut lines = text.lines().skip_while(|line| *line != heading);
    lines.next()?;
    Some(lines.take_while(|line| line.starts_with(' ')).map(str::trim).collect())
}

/// The verdict on a package that does not verify, by rpm's lines on each of its digests and signatures.
fn judge(lines: &[&str]) -> Verdict {
    let bad: Vec<&str> = lines.iter().copied().filter(|line| line.contains(": BAD")).collect();
    let words =
        |lines: &[&str]| lines.iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("; ");
    if bad.iter().any(|line| !is_unknown(line)) {
        return Verdict::Wrong(words(&bad));
    }
    let is_telling = |line: &&str| !line.ends_with(": OK") && !line.ends_with(": NOTFOUND") && line.contains(": ");
    let telling: Vec<&str> = lines.iter().copied().filter(is_telling).collect();
    match telling.is_empty() {
        true => Verdict::Unknown("rpm does not recognize the signature".to_owned()),
        false => Verdict::Unknown(format!("rpm says: {}", words(&telling))),
    }
}

/// Whether the line is about a signature that rpm cannot read, which it calls bad, too.
fn is_unknown(line: &str) -> bool {
    let is_signature = line.contains("ignature");
    let names_a_key = line.contains("key ID") || line.contains("key fingerprint");
    is_signature && (line.contains("Unknown ") || !names_a_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "rpms/06/7.rpm";

    fn verdict(verdicts: &str, details: &str) -> Option<Verdict> {
        let key: Fingerprint = "06".repeat(20).parse().unwrap();
        let (verdicts, details) = (verdicts.to_owned(), details.to_owned());
        Answer { refused: String::new(), verdicts, details }.verdict(PATH, &key)
    }

    /// What rpm 4.20 and rpm 6.1 say with `-v`.
    fn told(lines: &[&str]) -> Verdict {
        let details = format!("{PATH}:\n{}\nrpms/06/8.rpm:\n    Header digest: BAD\n", lines.join("\n"));
        verdict(&format!("{PATH}: digests SIGNATURES NOT OK\n"), &details).unwrap()
    }

    #[test]
    fn what_verifies_is_what_rpm_says_so_of_and_nothing_else() {
        let right = format!("rpms/06/6.rpm: digests SIGNATURES NOT OK\n{PATH}: digests signatures OK\n");
        assert_eq!(verdict(&right, ""), Some(Verdict::Right));
        // Digests alone, another package, and rpm ended before it came to a verdict.
        for verdicts in ["rpms/06/7.rpm: digests OK\n", "rpms/06/77.rpm: digests signatures OK\n", "rpms/06/7.rpm:", ""]
        {
            assert_eq!(verdict(verdicts, ""), None, "{verdicts}");
        }
        let joined = "rpms/06/6.rpm:rpms/06/7.rpm: digests signatures OK\n";
        assert_eq!(verdict(joined, ""), None);
    }

    #[test]
    fn damage_is_wrong_whatever_else_is_not_known() {
        for line in [
            "    Header OpenPGP V4 RSA/SHA512 signature, key fingerprint: 3238fbe65453c919: BAD",
            "    Header V4 RSA/SHA512 Signature, key ID 2f55bd3c: BAD",
            "    Payload SHA256 digest: BAD (Expected 8a10 != 0e44)",
        ] {
            let verdict = told(&["    Header RSA signature: NOTFOUND", line, "    Payload SHA512 digest: NOTFOUND"]);
            assert_eq!(verdict, Verdict::Wrong(line.trim().to_owned()));
        }
    }

    #[test]
    fn what_rpm_does_not_know_is_neither_right_nor_wrong() {
        let unknown = |words: &str| Verdict::Unknown(format!("rpm says: {words}"));
        for line in [
            "Header OpenPGP V4 Unknown public key algorithm/SHA512 signature, key ID 96bbf8c72f55bd3c: NOTTRUSTED",
            "Header V4 Unknown public key algorithm/SHA512 Signature, key ID 75a0c821: BAD",
            "Header OpenPGP V6 Ed25519/SHA512 signature, key ID 6a2ba3c3af311b59: NOKEY",
            "Header OpenPGP signature: BAD (package tag 278: invalid OpenPGP signature)",
        ] {
            assert_eq!(told(&[&format!("    {line}"), "    Header SHA256 digest: OK"]), unknown(line));
        }
        let long = [
            "    Header OpenPGP signature: BAD (package tag 278: invalid OpenPGP signature: Parsing an OpenPGP packet:",
            "  Failed to parse Signature Packet",
            "      because: Malformed packet: unknown version)",
        ];
        assert!(matches!(told(&long), Verdict::Unknown(words) if words.contains("unknown version")));
        let nothing = told(&["    Header RSA signature: NOTFOUND", "    Header SHA256 digest: OK"]);
        assert_eq!(nothing, Verdict::Unknown("rpm does not recognize the signature".to_owned()));
    }

    #[test]
    fn a_key_that_rpm_cannot_import_is_reported_in_its_words() {
        let key: Fingerprint = "06".repeat(20).parse().unwrap();
        let refused = format!("{key}:\n    error: Certificate 06:\n      No binding signature\n");
        let answer = Answer { refused, verdicts: String::new(), details: String::new() };
        let words = "rpm cannot import the key: error: Certificate 06:; No binding signature";
        assert_eq!(answer.verdict(PATH, &key), Some(Verdict::Unknown(words.to_owned())));
    }
}
