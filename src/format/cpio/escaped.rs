//! Paths as people see them: Linux names are bytes, a terminal and JSON want text.

use std::fmt;

/// Shows a path as text: UTF-8 as it is, control characters, backslashes and all other bytes as `\xNN`.
///
/// Different paths give different text.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() || character == '\\' {
                    let mut bytes = [0; 4];
                    write_bytes(formatter, character.encode_utf8(&mut bytes).as_bytes())?;
                } else {
                    fmt::Write::write_char(formatter, character)?;
                }
            }
            write_bytes(formatter, chunk.invalid())?;
        }
        Ok(())
    }
}

fn write_bytes(formatter: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(formatter, "\\x{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_and_other_bytes_become_visible() {
        assert_eq!(Escaped("usr/bin/grüß".as_bytes()).to_string(), "usr/bin/grüß");
        assert_eq!(Escaped(b"caf\xe9\n\\").to_string(), "caf\\xe9\\x0a\\x5c");
        assert_eq!(Escaped("\u{85}".as_bytes()).to_string(), "\\xc2\\x85");
    }
}
