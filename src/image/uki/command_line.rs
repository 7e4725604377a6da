//! Command lines, and what becomes of them between an image and its kernel.
//!
//! systemd-stub takes a text up to its first NUL, and control characters in it for blanks; the kernel cuts off what is longer than it
//! takes. Neither says so where anybody sees it.

use anyhow::{Result, bail};

use super::Content;

/// Says what is wrong with a command line for a kernel that takes so many bytes, if that is known.
///
/// # Errors
/// Fails on a NUL, and on what is too long.
pub(super) fn check(text: &str, most_bytes: Option<u32>) -> Result<()> {
    let text = text.trim();
    if let Some(place) = text.find('\0') {
        bail!("it has a NUL as its byte {}, and the kernel gets nothing of what is behind", place + 1);
    }
    let size_bytes = text.len();
    match most_bytes {
        Some(most) if size_bytes > most as usize => {
            bail!("it has {size_bytes} bytes, and the kernel takes {most} and drops the others")
        }
        _ => Ok(()),
    }
}

/// What the section holds. A section without contents would be as good as none, so that a boot loader could give the kernel
/// options, also with Secure Boot: where there are none to be, there is a blank.
pub(super) fn content(text: &str) -> Content {
    Content::text(if text.trim().is_empty() { " " } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, most_bytes: Option<u32>) -> String {
        check(text, most_bytes).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_the_kernel_would_not_get_is_refused() {
        assert_eq!(
            told("", Some(3)) + &told("abc\n", Some(3)) + &told("ä", Some(2)) + &told(&"a".repeat(9999), None),
            ""
        );
        assert_eq!(told("abcd", Some(3)), "it has 4 bytes, and the kernel takes 3 and drops the others");
        assert_eq!(told("ää", Some(3)), "it has 4 bytes, and the kernel takes 3 and drops the others");
        let nul = "it has a NUL as its byte 3, and the kernel gets nothing of what is behind";
        assert_eq!((told("rw\0init=/bin/sh", None), told("rw\0", Some(9))), (nul.to_owned(), nul.to_owned()));
    }

    #[test]
    fn no_options_are_a_section_nevertheless() {
        let sizes = ["", " \n", "rw"].map(|text| content(text).size_bytes());
        assert_eq!(sizes, [1, 1, 2]);
    }
}
