//! Which segment of A is to be compared with which of B: a segment more at the front must not make all others differ.

use super::entries::Sides;

/// Above this many looks at entries (each of A is looked for in each segment of B), segments are paired by position.
const LOOKS_MAX: usize = 1 << 26;
/// The same for pairs of segments.
const PAIRS_MAX: usize = 1 << 20;

/// Positions in A and in B, in an order that keeps both ascending; none where the other side has no such segment.
pub(super) type Pair = (Option<usize>, Option<usize>);

/// Pairs segments so that those together have as many entries in common as can be; where nothing speaks for another
/// pairing, by position.
pub(super) fn pair(sides: &Sides<'_>) -> Vec<Pair> {
    let (count_a, count_b) = (sides.a.segments.len(), sides.b.segments.len());
    let entries_a: usize = sides.a.segments.iter().map(|(_, entries)| entries.len()).sum();
    if count_a * count_b > PAIRS_MAX || entries_a * count_b > LOOKS_MAX {
        return by_position(count_a, count_b);
    }
    trace(&best_sums(&likenesses(sides), count_b), count_a, count_b)
}

fn by_position(count_a: usize, count_b: usize) -> Vec<Pair> {
    let position = |index: usize, count: usize| (index < count).then_some(index);
    (0..count_a.max(count_b)).map(|index| (position(index, count_a), position(index, count_b))).collect()
}

/// How alike each segment of A, a row, is to each of B: one for being segments, two for each path in common, one more if the entries
/// are the same.
fn likenesses(sides: &Sides<'_>) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); sides.a.segments.len()];
    for (_, entries_b) in &sides.b.segments {
        let last_of = sides.last_by_rank(entries_b);
        for (row, (_, entries_a)) in rows.iter_mut().zip(&sides.a.segments) {
            let common = entries_a.iter().filter_map(|entry| Some((entry, last_of.get(sides.rank_a(entry))?)));
            let alike = common.map(|(entry, other)| 2 + usize::from(sides.is_like(entry, other))).sum::<usize>();
            row.push(1 + alike);
        }
    }
    rows
}

/// For each pair of positions the most that the segments from there on can have in common; a row for each of A.
fn best_sums(likenesses: &[Vec<usize>], count_b: usize) -> Vec<Vec<(usize, usize)>> {
    let mut rows = vec![vec![(0, 0); count_b + 1]; likenesses.len() + 1];
    for i in (0..likenesses.len()).rev() {
        for j in (0..count_b).rev() {
            let alike = likenesses[i][j];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_without_anything_in_common_are_paired_by_position() {
        let pairs = |count_a: usize, count_b: usize| {
            trace(&best_sums(&vec![vec![1; count_b]; count_a], count_b), count_a, count_b)
        };
        assert_eq!(pairs(2, 1), [(Some(0), Some(0)), (Some(1), None)]);
        assert_eq!(pairs(0, 1), [(None, Some(0))]);
    }

    #[test]
    fn too_many_segments_are_paired_by_position() {
        let pairs = by_position(1025, 1026);
        assert_eq!(pairs.len(), 1026);
        assert_eq!((pairs[1024], pairs[1025]), ((Some(1024), Some(1024)), (None, Some(1025))));
    }
}
