//! Tables whose rows begin with the names that they are about.

/// Whether a row is about a name: it is one of the row's, which are separated by blanks, or begins as one that ends in `*`.
pub fn is_about(names: &str, name: &str) -> bool {
    let fits = |one: &str| one.strip_suffix('*').map_or(name == one, |beginning| name.starts_with(beginning));
    names.split_ascii_whitespace().any(fits)
}

/// What the first row about a name says.
pub fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(names, _)| is_about(names, name)).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_about_a_name_counts() {
        let table = [("a b", 1), ("b* c", 2)];
        assert_eq!(
            ["a", "b", "bc", "c", "ab"].map(|name| find(&table, name)),
            [Some(1), Some(1), Some(2), Some(2), None]
        );
    }
}
