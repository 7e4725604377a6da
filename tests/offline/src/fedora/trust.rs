//! Certificates as Fedora has them: one source in p11-kit's format, from which a scriptlet extracts bundles for each kind
//! of program, and links at all the places where programs look.

use anyhow::{Result, ensure};

use super::{add_directory, add_file, add_ghost, add_link};
use crate::package::{Content, Package};

const SOURCE: &str = "/usr/share/pki/ca-trust-source";
const TRUST: &str = "/etc/pki/ca-trust";
const TLS_BUNDLE: &str = "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem";

/// Makes Fedora's `ca-certificates` of Debian's, which holds a file for each certificate.
pub fn extract(package: &mut Package) -> Result<()> {
    let mut bundle = "# Certificates of Debian's package, in the format of the module p11-kit-trust.\n".to_owned();
    let mut count = 0;
    for (path, file) in &package.files {
        let Some(name) = path.strip_prefix("/usr/share/ca-certificates/mozilla/") else { continue };
        if let Content::Regular(pem) = &file.content {
            bundle += &object(name.trim_end_matches(".crt"), &String::from_utf8_lossy(pem));
            count += 1;
        }
    }
    ensure!(count > 100, "reading Debian's certificates: there are only {count}");
    package.files.retain(|path, _| path.starts_with("/usr/share/licenses/") || path.starts_with("/usr/share/doc/"));
    add_file(package, &format!("{SOURCE}/ca-bundle.trust.p11-kit"), bundle, 0o644);
    add_file(package, "/usr/bin/update-ca-trust", include_str!("../../files/fedora44/update-ca-trust"), 0o755);
    add_directories(package);
    for name in [
        "pem/tls-ca-bundle.pem",
        "pem/email-ca-bundle.pem",
        "pem/objsign-ca-bundle.pem",
        "java/cacerts",
        "edk2/cacerts.bin",
    ] {
        add_ghost(package, &format!("{TRUST}/extracted/{name}"));
    }
    for (path, target) in [
        ("/etc/pki/tls/cert.pem", TLS_BUNDLE),
        ("/etc/pki/tls/certs/ca-bundle.crt", TLS_BUNDLE),
        ("/etc/pki/tls/certs/ca-certificates.crt", TLS_BUNDLE),
        ("/etc/pki/java/cacerts", "/etc/pki/ca-trust/extracted/java/cacerts"),
        ("/etc/ssl/certs", "/etc/pki/tls/certs"),
        ("/etc/ssl/cert.pem", TLS_BUNDLE),
        ("/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf"),
    ] {
        add_link(package, path, target);
    }
    Ok(())
}

fn add_directories(package: &mut Package) {
    for path in ["/etc/ssl", "/etc/pki/tls", "/etc/pki/tls/certs", "/etc/pki/java", "/usr/share/pki", SOURCE, TRUST] {
        add_directory(package, path);
    }
    for name in [
        "source",
        "source/anchors",
        "source/blocklist",
        "extracted",
        "extracted/pem",
        "extracted/pem/directory-hash",
        "extracted/openssl",
        "extracted/java",
        "extracted/edk2",
    ] {
        add_directory(package, &format!("{TRUST}/{name}"));
    }
    for name in ["anchors", "blocklist"] {
        add_directory(package, &format!("{SOURCE}/{name}"));
    }
}

/// A certificate that servers are trusted by.
fn object(name: &str, pem: &str) -> String {
    format!(
        "\n[p11-kit-object-v1]\nlabel: \"{name}\"\ntrusted: true\nnss-mozilla-ca-policy: true\nmodifiable: false\n{}\n",
        pem.trim_end()
    )
}

/// Points the module to Fedora's directories; Debian's build of it has another path inside.
pub fn configure(package: &mut Package) {
    let path = "/usr/share/p11-kit/modules/p11-kit-trust.module";
    let text = format!(
        "module: p11-kit-trust.so\npriority: 1\ntrust-policy: yes\ndisable-in: p11-kit-proxy\n\
         x-trust-lookup: pkcs11:library-description=PKCS%2311%20Kit%20Trust%20Module\n\
         x-init-reserved: paths='{TRUST}/source:{SOURCE}'\n"
    );
    add_file(package, path, text, 0o644);
}
