//! Many findings of few kinds as few lines: each kind with its first examples and how many there are.

use std::collections::BTreeMap;

/// As many show what the others look like.
const EXAMPLES: usize = 3;

/// Findings by their kinds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    kinds: BTreeMap<String, Findings>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Findings {
    examples: Vec<String>,
    count: usize,
}

impl Tally {
    /// Counts one more of a kind. `example` tells it from the others, and is fit to be shown.
    pub fn add(&mut self, kind: &str, example: &str) {
        if !self.kinds.contains_key(kind) {
            self.kinds.insert(kind.to_owned(), Findings::default());
        }
        if let Some(findings) = self.kinds.get_mut(kind) {
            findings.count += 1;
            findings.keep(example);
        }
    }

    /// Counts what another counted.
    pub fn merge(&mut self, other: Tally) {
        for (kind, theirs) in other.kinds {
            let ours = self.kinds.entry(kind).or_default();
            ours.count += theirs.count;
            theirs.examples.iter().for_each(|example| ours.keep(example));
        }
    }

    /// A line for each kind, in byte order.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.kinds.iter().map(|(kind, findings)| {
            let times = if findings.count > findings.examples.len() {
                format!(", ... ({} in all)", findings.count)
            } else {
                String::new()
            };
            format!("{kind}: {}{times}", findings.examples.join(", "))
        })
    }
}

impl Findings {
    fn keep(&mut self, example: &str) {
        if self.examples.len() < EXAMPLES && !self.examples.iter().any(|known| known == example) {
            self.examples.push(example.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_one_line_however_often_it_is_found() {
        let mut tally = Tally::default();
        tally.add("odd", "a");
        (0..50_000).for_each(|number| tally.add("strange", &number.to_string()));
        let lines: Vec<String> = tally.lines().collect();
        assert_eq!(lines, ["odd: a", "strange: 0, 1, 2, ... (50000 in all)"]);
        tally.merge(tally.clone());
        let lines: Vec<String> = tally.lines().collect();
        assert_eq!(lines, ["odd: a, ... (2 in all)", "strange: 0, 1, 2, ... (100000 in all)"]);
    }
}
