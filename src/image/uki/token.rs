//! Keys in tokens, which a URI of PKCS #11 names (RFC 7512).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use percent_encoding::percent_decode_str;
use rustix::fs::MemfdFlags;

use ocinitrd_support::process::Program;

/// What begins the URI of a key that is in a token.
pub const TOKEN: &str = "pkcs11:";
/// What has the PIN in a URI.
const PIN: &str = "pin-value=";
/// What names the module of a token, where p11-kit does not know it: for OpenSSL's provider, and for its engine.
const MODULE_VARIABLES: [&str; 2] = ["PKCS11_PROVIDER_MODULE", "PKCS11_MODULE_PATH"];

/// A key's URI for the arguments of a program: without a PIN, which everybody could read there, and errors would show.
#[derive(Debug)]
pub struct TokenKey {
    /// The URI, with a `pin-source` for a PIN that was in it.
    pub uri: OsString,
    /// What that names: in memory, and open in programs that are started while it is open here.
    _pin: Option<File>,
}

impl TokenKey {
    /// Takes the PIN out of a URI.
    ///
    /// # Errors
    /// Fails where the system has no memory for it.
    pub fn new(uri: &OsStr) -> Result<Self> {
        let parts = uri.to_str().and_then(|uri| uri.split_once('?'));
        let found =
            parts.and_then(|(key, rest)| Some((key, rest, rest.split('&').find_map(|part| part.strip_prefix(PIN))?)));
        let Some((key, rest, pin)) = found else { return Ok(TokenKey { uri: uri.to_owned(), _pin: None }) };
        let holding = "holding the PIN of a token in memory";
        let mut file = File::from(rustix::fs::memfd_create("pin", MemfdFlags::empty()).context(holding)?);
        file.write_all(&percent_decode_str(pin).collect::<Vec<u8>>()).context(holding)?;
        let source = format!("pin-source=file:/proc/self/fd/{}", file.as_raw_fd());
        let rest: Vec<&str> = rest.split('&').map(|part| if part.starts_with(PIN) { &source } else { part }).collect();
        Ok(TokenKey { uri: format!("{key}?{}", rest.join("&")).into(), _pin: Some(file) })
    }
}

/// Whether OpenSSL loads the provider that reaches tokens, as the package pkcs11-provider brings it.
///
/// # Errors
/// Fails where openssl cannot be started.
pub fn has_provider() -> Result<bool> {
    Ok(Program::new("openssl").args(["list", "-providers", "-provider", "pkcs11"]).output()?.status.success())
}

/// Tells a program the module of the token, whether it asks for it as the provider does or as the engine does.
#[expect(clippy::disallowed_methods, reason = "it is OpenSSL's own setting that is handed on to OpenSSL")]
pub fn module_variables(program: Program) -> Program {
    let Some(module) = MODULE_VARIABLES.iter().find_map(std::env::var_os) else { return program };
    let missing = MODULE_VARIABLES.into_iter().filter(|name| std::env::var_os(name).is_none());
    missing.fold(program, |program, name| program.env(name, &module))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_pin_is_in_memory_and_not_in_the_uri() {
        let key =
            TokenKey::new("pkcs11:token=a;object=pin-value=b?module-name=c&pin-value=1%2634&x=y".as_ref()).unwrap();
        let uri = key.uri.to_str().unwrap();
        let (before, behind) = uri.split_once("pin-source=file:").unwrap();
        let (path, behind) = behind.split_once('&').unwrap();
        assert_eq!((before, behind), ("pkcs11:token=a;object=pin-value=b?module-name=c&", "x=y"));
        assert_eq!(fs::read(path).unwrap(), b"1&34");
    }

    #[test]
    fn a_uri_without_a_pin_stays_as_it_is() {
        for uri in ["pkcs11:object=pin-value=1", "pkcs11:object=a?pin-source=file:/pin"] {
            assert_eq!(TokenKey::new(uri.as_ref()).unwrap().uri, uri);
        }
    }
}
