//! The kernel's command line: a text in, its options out.
//!
//! Two programs read it, each by rules of its own:
//!
//! | | the kernel: `next_arg` in `lib/cmdline.c` | systemd: `proc-cmdline.c`, `extract-word.c` |
//! |---|---|---|
//! | blanks stay together | between `"` | between `"`, and between `'` |
//! | quotes are dropped | around an option as a whole, and around its value | wherever they are |
//!
//! To both a backslash is a letter like others, quotes that are not closed reach to the end, and `-` and `_` are the same in names.

/// Who reads the options.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reader {
    /// The kernel, and so its modules.
    Kernel,
    /// systemd, in the initrd and after it.
    Systemd,
}

/// An option.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KernelOption {
    /// Its name, with `_` for `-`.
    pub name: String,
    /// What follows the first `=`.
    pub value: Option<String>,
    /// All of it without quotes.
    pub text: String,
}

impl Reader {
    /// The options of a command line.
    pub fn options(self, text: &str) -> Vec<KernelOption> {
        let options = self.words(text).into_iter().map(|word| match self {
            Reader::Kernel => of_kernel(word),
            Reader::Systemd => of_systemd(word),
        });
        options.filter(|option| !option.text.is_empty()).collect()
    }

    /// The words of a command line as they are written, with their quotes.
    pub fn words(self, text: &str) -> Vec<&str> {
        let mut open = None;
        let words = text.split(move |character: char| {
            match open {
                Some(quote) if quote == character => open = None,
                None if self.is_quote(character) => open = Some(character),
                _ => {}
            }
            // The vertical tab is a blank to the kernel alone.
            open.is_none() && (character.is_ascii_whitespace() || (character == '\x0b' && self == Reader::Kernel))
        });
        words.filter(|word| !word.is_empty()).collect()
    }

    fn is_quote(self, character: char) -> bool {
        character == '"' || (character == '\'' && self == Reader::Systemd)
    }
}

/// The command line that a file such as `/etc/kernel/cmdline` holds: kernel-install joins its lines, but for comments.
pub fn of_file(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join(" ")
}

fn of_kernel(word: &str) -> KernelOption {
    let within = word.strip_prefix('"');
    let rest = within.unwrap_or(word);
    let whole = |text: &str| if within.is_some() { without_last_quote(text) } else { text }.to_owned();
    // What begins with `=` has no name before it, and is one as a whole.
    let equals = rest.find('=').filter(|place| *place > 0);
    let Some((name, value)) = equals.map(|place| (&rest[..place], &rest[place + 1..])) else {
        return option(&whole(rest), None);
    };
    let value = match value.strip_prefix('"') {
        Some(value) => without_last_quote(value).to_owned(),
        None => whole(value),
    };
    option(name, Some(value))
}

fn without_last_quote(text: &str) -> &str {
    text.strip_suffix('"').unwrap_or(text)
}

fn of_systemd(word: &str) -> KernelOption {
    let mut open = None;
    let mut text = String::new();
    for character in word.chars() {
        match open {
            Some(quote) if quote == character => open = None,
            None if Reader::Systemd.is_quote(character) => open = Some(character),
            _ => text.push(character),
        }
    }
    match text.split_once('=') {
        Some((name, value)) => option(name, Some(value.to_owned())),
        None => option(&text, None),
    }
}

fn option(name: &str, value: Option<String>) -> KernelOption {
    let text = value.as_ref().map_or_else(|| name.to_owned(), |value| format!("{name}={value}"));
    KernelOption { name: name.replace('-', "_"), value, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reader: Reader, text: &str) -> Vec<String> {
        let told = |KernelOption { name, value, .. }| value.map_or(name.clone(), |value| format!("{name}[{value}]"));
        reader.options(text).into_iter().map(told).collect()
    }

    #[test]
    fn quotes_around_options_and_values_are_dropped() {
        for (text, expected) in [
            ("root=UUID=12 quiet\n", &["root[UUID=12]", "quiet"][..]),
            ("\"rd.break\" rd.luks.uuid=\"a\"", &["rd.break", "rd.luks.uuid[a]"]),
            ("\"x=a b\"\ty=\"c  d\" z", &["x[a b]", "y[c  d]", "z"]),
            ("usb-storage.quirks-x=1 dyndbg=\"file a-b +p\"", &["usb_storage.quirks_x[1]", "dyndbg[file a-b +p]"]),
            ("a=\"b c", &["a[b c]"]),
            ("a= \"\" b=\"\"", &["a[]", "b[]"]),
            (" \t", &[]),
        ] {
            for reader in [Reader::Kernel, Reader::Systemd] {
                assert_eq!(told(reader, text), expected, "{reader:?}: {text}");
            }
        }
    }

    #[test]
    fn the_kernel_and_systemd_differ_in_quotes_within_a_value_and_in_single_ones() {
        for (text, kernel, systemd) in [
            ("a='b c' d", &["a['b]", "c'", "d"][..], &["a[b c]", "d"][..]),
            ("a=b\" c\" d", &["a[b\" c\"]", "d"], &["a[b c]", "d"]),
            ("a=\"b\"c\"d\"", &["a[b\"c\"d]"], &["a[bcd]"]),
            ("a=\\\"b c\\\" d", &["a[\\\"b c\\\"]", "d"], &["a[\\b c\\]", "d"]),
            ("\"a=\"b c\"\"", &["a[b]", "c\"\""], &["a[b]", "c"]),
            ("a\x0bb", &["a", "b"], &["a\x0bb"]),
        ] {
            assert_eq!(told(Reader::Kernel, text), kernel, "the kernel: {text}");
            assert_eq!(told(Reader::Systemd, text), systemd, "systemd: {text}");
        }
    }

    #[test]
    fn words_are_as_written_and_a_file_has_comments() {
        let text = of_file("root=LABEL=a\n  # quiet \"\nrw x=#1\n#\n\"b  c\"\n");
        assert_eq!(Reader::Kernel.words(&text), ["root=LABEL=a", "rw", "x=#1", "\"b  c\""]);
        assert_eq!(Reader::Systemd.options("'a b'=c")[0].text, "a b=c");
    }

    proptest::proptest! {
        #[test]
        fn each_text_has_words_of_it(text in "([a-c]|[ \\t\\n\"'=\\\\#é])*") {
            for reader in [Reader::Kernel, Reader::Systemd] {
                assert!(reader.words(&text).into_iter().all(|word| text.contains(word)));
                assert!(reader.options(&text).len() <= reader.words(&text).len());
            }
        }
    }
}
