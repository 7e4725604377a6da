//! Accounts as rpm 4.19 and newer make them: for each line in a package's `sysusers.d` it provides `user(NAME)` or
//! `group(NAME)` with the line as the version, in Base64, and rpm adds the account before it unpacks the files. No package
//! calls useradd.

use crate::package::{Content, Dependency, Package};

/// Adds what the files in `sysusers.d` of `package` provide.
pub fn provide(package: &mut Package) {
    let texts = package.files.iter().filter_map(|(path, file)| match &file.content {
        Content::Regular(bytes) if path.starts_with("/usr/lib/sysusers.d/") => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        _ => None,
    });
    let mut provides: Vec<Dependency> =
        texts.flat_map(|text| text.lines().flat_map(provisions).collect::<Vec<_>>()).collect();
    package.provides.append(&mut provides);
}

/// What one line of sysusers.d(5) provides.
fn provisions(line: &str) -> Vec<Dependency> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let coded = |line: &str| base64(line.as_bytes());
    match words.as_slice() {
        [kind, name, ..] if kind.starts_with('u') => {
            vec![Dependency::equal(format!("user({name})"), coded(line)), Dependency::any(format!("group({name})"))]
        }
        [kind, name, ..] if kind.starts_with('g') => vec![Dependency::equal(format!("group({name})"), coded(line))],
        ["m", user, group, ..] => vec![Dependency::equal(format!("groupmember({user}/{group})"), coded(line))],
        _ => Vec::new(),
    }
}

/// RFC 4648's usual alphabet, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = (0..3).fold(0, |number, index| number << 8 | usize::from(*chunk.get(index).unwrap_or(&0)));
        for place in 0..4 {
            let digit = ALPHABET[number >> (18 - 6 * place) & 63];
            text.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_what_rpm_reads_an_account_from() {
        let found = provisions("u tss 59 \"TPM access\" /");
        assert_eq!(
            found,
            [Dependency::equal("user(tss)", "dSB0c3MgNTkgIlRQTSBhY2Nlc3MiIC8="), Dependency::any("group(tss)")]
        );
        assert_eq!(provisions("g kvm 36"), [Dependency::equal("group(kvm)", "ZyBrdm0gMzY=")]);
        assert_eq!(provisions("m a b"), [Dependency::equal("groupmember(a/b)", "bSBhIGI=")]);
        assert!(provisions("# comment").is_empty() && provisions("r - 500-900").is_empty());
    }
}
