//! `.sbat`: which generation of what an image is made of, so that a bad one can be revoked.

/// The version of the format itself, which is the first line.
const HEADER: &str = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md";
/// What an image says of itself where nobody says more.
pub const DEFAULT: &str = "uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/";

/// The lines of all texts, each once, behind one header, and a NUL as ukify(1) puts it.
pub fn merge<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut lines = vec![HEADER];
    for line in texts.into_iter().flat_map(str::lines).map(|line| line.trim_end_matches('\0').trim()) {
        if !line.is_empty() && !line.starts_with("sbat,") && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.push("\0");
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_come_once_behind_one_header() {
        let stub =
            "sbat,1,SBAT Version,sbat,1,https://x\nsystemd-stub,1,The systemd Developers,systemd,257,https://x\n\0";
        let expected = format!("{HEADER}\nsystemd-stub,1,The systemd Developers,systemd,257,https://x\n{DEFAULT}\n\0");
        assert_eq!(merge([stub, DEFAULT, stub]), expected);
    }
}
