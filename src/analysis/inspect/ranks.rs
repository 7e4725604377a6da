//! The paths of two initrds as numbers, in byte order and the same for the same path: so that entries can be compared by the million.

use super::archived::{Archived, Archives, PathOf};
use super::tree::{ROOT, Walk};

/// Numbers of the paths of two initrds, A and B.
#[derive(Debug)]
pub struct Ranks {
    a: Side,
    b: Side,
}

/// The number of each place in the tree, and of each text that is a path.
#[derive(Debug)]
struct Side {
    places: Vec<u32>,
    texts: Vec<u32>,
}

/// Goes through the paths of a side in byte order.
struct Paths<'a> {
    archives: &'a Archives,
    walk: Walk<'a>,
    /// The next place; none at the end.
    place: Option<u32>,
    /// The texts that are left, the next at the end.
    texts: Vec<u32>,
}

impl Ranks {
    /// Numbers the paths of two initrds.
    pub fn new(a: &Archives, b: &Archives) -> Self {
        let mut ranks = Ranks { a: Side::new(a), b: Side::new(b) };
        let (mut paths_a, mut paths_b) = (Paths::new(a), Paths::new(b));
        let mut least = Vec::new();
        for rank in 0.. {
            let next = [paths_a.next_path(), paths_b.next_path()].into_iter().flatten().min();
            let Some(next) = next else { break };
            least.clear();
            least.extend_from_slice(next);
            paths_a.number(&least, rank, &mut ranks.a);
            paths_b.number(&least, rank, &mut ranks.b);
        }
        ranks
    }

    /// The number of the path of an entry of A.
    pub fn in_a(&self, archives: &Archives, entry: &Archived) -> u32 {
        self.a.of(archives.path_of(entry))
    }

    /// The number of the path of an entry of B.
    pub fn in_b(&self, archives: &Archives, entry: &Archived) -> u32 {
        self.b.of(archives.path_of(entry))
    }

    /// The number of the first name of a file of A that has several in its archive.
    pub fn first_name_in_a(&self, archives: &Archives, entry: &Archived) -> Option<u32> {
        archives.first_name_of(entry).map(|path| self.a.of(path))
    }

    /// The number of the first name of a file of B that has several in its archive.
    pub fn first_name_in_b(&self, archives: &Archives, entry: &Archived) -> Option<u32> {
        archives.first_name_of(entry).map(|path| self.b.of(path))
    }
}

impl Side {
    fn new(archives: &Archives) -> Self {
        Side { places: vec![0; archives.view.places()], texts: vec![0; archives.texts()] }
    }

    fn of(&self, path: PathOf) -> u32 {
        match path {
            PathOf::Place(node) => self.places[node as usize],
            PathOf::Text(position) => self.texts[position as usize],
        }
    }
}

impl<'a> Paths<'a> {
    fn new(archives: &'a Archives) -> Self {
        let mut texts: Vec<u32> = archives.path_texts().collect();
        texts.sort_unstable_by(|a, b| archives.text(*b).cmp(archives.text(*a)));
        // The root comes before all that the walk goes through.
        Paths { archives, walk: archives.view.walk_all(), place: Some(ROOT), texts }
    }

    fn next_path(&self) -> Option<&[u8]> {
        let place = self.place.map(|_| self.walk.path());
        let text = self.texts.last().map(|position| self.archives.text(*position));
        [place, text].into_iter().flatten().min()
    }

    /// Numbers what has that path, and goes on behind it.
    fn number(&mut self, path: &[u8], rank: u32, side: &mut Side) {
        if let Some(place) = self.place.filter(|_| self.walk.path() == path) {
            side.places[place as usize] = rank;
            self.place = self.walk.advance();
        }
        while let Some(position) = self.texts.pop_if(|position| self.archives.text(*position) == path) {
            side.texts[position as usize] = rank;
        }
    }
}
