//! Which segment of A is to be compared with which of B: a segment more at the front must not make all others differ.

use std::collections::BTreeMap;

use super::entries::is_like;
use crate::inspect::Archived;

/// Above this many possible pairs (a thousand segments on both sides), segments are paired by position.
const PAIRS_MAX: usize = 1 << 20;

/// Positions in A and in B, in an order that keeps both ascending; none where the other side has no such segment.
pub(super) type Pair = (Option<usize>, Option<usize>);

/// Pairs segments so that those together have as many entries in common as can be; where nothing speaks for another
/// pairing, by position.
pub(super) fn pair(a: &[&[Archived]], b: &[&[Archived]]) -> Vec<Pair> {
    if a.len() * b.len() > PAIRS_MAX {
        let position = |index: usize, count: usize| (index < count).then_some(index);
        return (0..a.len().max(b.len())).map(|index| (position(index, a.len()), position(index, b.len()))).collect();
    }
    trace(&best_sums(a, b), a.len(), b.len())
}

/// For each pair of positions the most that the segments from there on can have in common; a row for each of A.
fn best_sums(a: &[&[Archived]], b: &[&[Archived]]) -> Vec<Vec<(usize, usize)>> {
    let by_path: Vec<_> = b.iter().map(|segment| by_path(segment)).collect();
    let mut rows = vec![vec![(0, 0); b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            let alike = likeness(a[i], &by_path[j]);
            let paired = rows[i + 1][j + 1].1 + alike;
            let best = paired.max(rows[i + 1][j].1).max(rows[i][j + 1].1);
            rows[i][j] = (alike, best);
        }
    }
    rows
}

fn trace(rows: &[Vec<(usize, usize)>], count_a: usize, count_b: usize) -> Vec<Pair> {
    let (mut i, mut j) = (0, 0);
    let mut pairs = Vec::new();
    while i < count_a || j < count_b {
        let both = i < count_a && j < count_b;
        if both && rows[i][j].1 == rows[i][j].0 + rows[i + 1][j + 1].1 {
            pairs.push((Some(i), Some(j)));
            (i, j) = (i + 1, j + 1);
        } else if j >= count_b || both && rows[i][j].1 == rows[i + 1][j].1 {
            pairs.push((Some(i), None));
            i += 1;
        } else {
            pairs.push((None, Some(j)));
            j += 1;
        }
    }
    pairs
}

fn by_path(segment: &[Archived]) -> BTreeMap<&[u8], &Archived> {
    segment.iter().map(|entry| (entry.path.as_slice(), entry)).collect()
}

/// One for being segments, two for each path in common, one more if the entries are the same.
fn likeness(a: &[Archived], b: &BTreeMap<&[u8], &Archived>) -> usize {
    let common = a.iter().filter_map(|entry| Some((entry, b.get(entry.path.as_slice())?)));
    1 + common.map(|(entry, other)| 2 + usize::from(is_like(entry, other))).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_without_anything_in_common_are_paired_by_position() {
        assert_eq!(pair(&[&[], &[]], &[&[]]), [(Some(0), Some(0)), (Some(1), None)]);
        assert_eq!(pair(&[], &[&[]]), [(None, Some(0))]);
    }

    #[test]
    fn too_many_segments_are_paired_by_position() {
        let (a, b) = (vec![&[][..]; 1025], vec![&[][..]; 1026]);
        let pairs = pair(&a, &b);
        assert_eq!(pairs.len(), 1026);
        assert_eq!((pairs[1024], pairs[1025]), ((Some(1024), Some(1024)), (None, Some(1025))));
    }
}
