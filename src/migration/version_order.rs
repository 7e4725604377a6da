//! The order of `sort --version-sort`, in which dracut and mkinitcpio read the files of a directory: `9-a.conf` before `10-b.conf`.
//!
//! That of gnulib's `filevercmp`, for names in ASCII; others follow by their bytes.

use std::cmp::Ordering;

/// Compares two names of files.
pub fn compare(one: &str, other: &str) -> Ordering {
    let is_hidden = |name: &str| name.starts_with('.');
    // What is hidden comes first.
    is_hidden(other)
        .cmp(&is_hidden(one))
        .then_with(|| compare_parts(without_suffix(one), without_suffix(other)))
        .then_with(|| compare_parts(one.as_bytes(), other.as_bytes()))
        .then_with(|| one.cmp(other))
}

/// The name without endings such as `.conf`, which begin with a letter.
fn without_suffix(name: &str) -> &[u8] {
    let bytes = name.as_bytes();
    let mut end = bytes.len();
    while let Some(dot) = bytes[..end].iter().rposition(|byte| *byte == b'.') {
        let is_ending = |part: &[u8]| {
            let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'~';
            part.first().is_some_and(is_letter) && part.iter().all(|byte| is_letter(byte) || byte.is_ascii_digit())
        };
        if dot == 0 || !is_ending(&bytes[dot + 1..end]) {
            break;
        }
        end = dot;
    }
    &bytes[..end]
}

/// Text and numbers take turns; numbers are compared by what they are worth.
fn compare_parts(mut one: &[u8], mut other: &[u8]) -> Ordering {
    while !one.is_empty() || !other.is_empty() {
        let (text, number) = split(one);
        let (other_text, other_number) = split(other);
        for place in 0..text.len().max(other_text.len()) {
            // Behind the end of a text is a number, or nothing at all.
            let weight = |text: &[u8], rest: &[u8]| match text.get(place) {
                Some(byte) => weight(*byte),
                None if rest.is_empty() => -1,
                None => 0,
            };
            let order = weight(text, number).cmp(&weight(other_text, other_number));
            if order.is_ne() {
                return order;
            }
        }
        let digits = |rest: &[u8]| rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, other_digits) = (digits(number), digits(other_number));
        let order = compare_numbers(&number[..digits], &other_number[..other_digits]);
        if order.is_ne() {
            return order;
        }
        (one, other) = (&number[digits..], &other_number[other_digits..]);
    }
    Ordering::Equal
}

/// What comes before the first digit, and the rest.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(u8::is_ascii_digit).unwrap_or(text.len()))
}

fn compare_numbers(one: &[u8], other: &[u8]) -> Ordering {
    let [one, other] = [one, other].map(|digits| {
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        &digits[zeros..]
    });
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// Letters come before other characters, and `~` before all, the end included.
fn weight(byte: u8) -> i32 {
    match byte {
        b'~' => -2,
        _ if byte.is_ascii_alphabetic() => byte.into(),
        _ => i32::from(byte) + 256,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests spawn programs as they like")]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    fn sorted_by_coreutils(names: &[String]) -> Vec<String> {
        let mut sort = Command::new("sort");
        sort.arg("--version-sort").env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = sort.spawn().unwrap();
        child.stdin.take().unwrap().write_all(names.join("\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn numbers_count_by_what_they_are_worth() {
        let mut names = ["10-b.conf", "9-a.conf", "09-c.conf", "a.conf", "a1.conf", "a-1.conf", "a~.conf", "A.conf"];
        names.sort_by(|one, other| compare(one, other));
        let names = names.map(str::to_owned);
        assert_eq!(sorted_by_coreutils(&names), names);
        assert!(compare("9-a.conf", "10-b.conf").is_lt());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        // Of hidden names versions of coreutils have different opinions.
        fn the_order_is_that_of_coreutils(names in prop::collection::vec("([a-cA-C]|[0-9~_-]|00|10)([a-cA-C]|[0-9~._-]|00|10){0,6}(\\.conf)?", 1..12)) {
            let expected = sorted_by_coreutils(&names);
            let mut ours = names;
            ours.sort_by(|one, other| compare(one, other));
            prop_assert_eq!(ours, expected);
        }
    }
}
