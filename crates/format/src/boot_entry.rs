//! A boot loader entry of type 1, `loader/entries/*.conf` of the Boot Loader Specification: a text in, its keys and values out.

/// The keys and values of an entry in the order of its lines. Comments and empty lines are none; a key may come several times.
pub fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        (key, value.trim_start())
    })
}

/// The first value of a key.
pub fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    fields(text).find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// The initrds of an entry: each may have a line of its own, and GRUB takes several in a line, variables among them.
pub fn initrds(text: &str) -> impl Iterator<Item = &str> {
    fields(text).filter(|(key, _)| *key == "initrd").flat_map(|(_, value)| value.split_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_told_apart_by_blanks() {
        let text =
            "# title no\r\n title\t a  b \r\nversion 1\n#linux /x\nlinux  /a\n\ngrub_users\nversion 2\nversions 3\n";
        let expected = [
            ("title", "a  b"),
            ("version", "1"),
            ("linux", "/a"),
            ("grub_users", ""),
            ("version", "2"),
            ("versions", "3"),
        ];
        assert_eq!(fields(text).collect::<Vec<_>>(), expected);
        assert_eq!((value(text, "version"), value(text, "linux"), value(text, "efi")), (Some("1"), Some("/a"), None));
    }

    #[test]
    fn initrds_are_in_one_line_or_in_several() {
        let text =
            "title x\ninitrd /initramfs-1.img $tuned_initrd\n initrd\t/a/b\nlinux /initrd\ninitrdefi /c\n#initrd /d\n";
        assert_eq!(initrds(text).collect::<Vec<_>>(), ["/initramfs-1.img", "$tuned_initrd", "/a/b"]);
    }
}
