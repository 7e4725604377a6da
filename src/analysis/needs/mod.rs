//! Whether an initrd holds what a root device needs: needs and an initrd's files in, what is missing out.
//!
//! A need is a row of [`NEEDS`]: kernel modules, built into the kernel or in the initrd, and programs, libraries, units and
//! rules. What a [`Machine`](crate::analysis::machine::Machine) needs is derived from it ([`of_machine`]): rows, and single modules and
//! files. That they are there is no proof that a machine boots, but what is not there is certain to be missed.

mod contents;
mod derived;
mod own_files;
mod table;

use anyhow::{Context, Result};
use serde::Serialize;

pub use contents::Holdings;
pub use derived::{Derived, Wish, of_machine};
pub use table::NEEDS;

/// Something that a machine may need of its initrd.
#[derive(Debug)]
pub struct Need {
    /// What `--needs` calls it.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// Kernel modules; of each list one is enough.
    modules: &'static [&'static [&'static str]],
    /// Paths of files, without the leading slash, or names of libraries; of each list one is enough.
    files: &'static [&'static [&'static str]],
    /// What brings them into an image.
    pub brought_by: &'static str,
}

/// What is asked of an initrd.
#[derive(Clone, Debug)]
pub enum Demand {
    /// A row of the table.
    Need(&'static Need),
    /// A kernel module, in the kernel's spelling.
    Module(String),
    /// A file, by its absolute path.
    File(String),
}

impl Demand {
    /// What it is called.
    pub fn name(&self) -> String {
        match self {
            Demand::Need(need) => need.name.to_owned(),
            Demand::Module(name) => format!("the kernel module {name}"),
            Demand::File(path) => format!("the file {path}"),
        }
    }
}

/// What a need is needed for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Purpose {
    /// The part of the place that asks for it, if it is not the place itself.
    pub object: Option<String>,
    /// What the initrd has to reach: a mount point, say.
    pub place: String,
}

/// A need, and what it is needed for; nothing where a person named it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is asked of the initrd.
    pub demand: Demand,
    /// All that it is needed for.
    pub purposes: Vec<Purpose>,
}

/// What is missing of a need.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Answer {
    /// The need's name.
    pub need: String,
    /// What it is needed for, in words.
    #[serde(rename = "for")]
    pub purposes: Vec<String>,
    /// Kernel modules that are neither in the initrd nor built into the kernel; of alternatives the first.
    pub missing_modules: Vec<String>,
    /// Files that are missing, as absolute paths or names of libraries; of alternatives the first.
    pub missing_files: Vec<String>,
    /// What brings them into an image.
    pub brought_by: String,
}

impl Answer {
    /// Whether nothing is missing.
    pub fn ok(&self) -> bool {
        self.missing_modules.is_empty() && self.missing_files.is_empty()
    }
}

/// What is wanted, each once: what several ask for has all their purposes.
#[derive(Clone, Debug, Default)]
pub struct Wants(Vec<Wanted>);

impl Wants {
    /// Adds a need that a person named.
    pub fn add(&mut self, demand: Demand) {
        self.entry(demand);
    }

    /// Adds a need and what it is for.
    pub fn add_for(&mut self, demand: Demand, object: Option<&str>, place: &str) {
        let purpose = Purpose { object: object.map(str::to_owned), place: place.to_owned() };
        let purposes = &mut self.entry(demand).purposes;
        if !purposes.contains(&purpose) {
            purposes.push(purpose);
        }
    }

    /// All of them, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Wanted> {
        self.0.iter()
    }

    fn entry(&mut self, demand: Demand) -> &mut Wanted {
        let name = demand.name();
        let place = self.0.iter().position(|wanted| wanted.demand.name() == name).unwrap_or(self.0.len());
        if place == self.0.len() {
            self.0.push(Wanted { demand, purposes: Vec::new() });
        }
        &mut self.0[place]
    }
}

impl Wanted {
    /// For nothing in particular.
    pub fn new(demand: Demand) -> Self {
        Wanted { demand, purposes: Vec::new() }
    }

    /// A row of the table, for nothing in particular.
    pub fn of(need: &'static Need) -> Self {
        Wanted::new(Demand::Need(need))
    }

    /// The kernel modules that it is about, alternatives too.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        let (rows, one) = match &self.demand {
            Demand::Need(need) => (need.modules, None),
            Demand::Module(name) => (&[][..], Some(name.as_str())),
            Demand::File(_) => (&[][..], None),
        };
        rows.iter().flat_map(|names| names.iter().copied()).chain(one)
    }

    /// What it is needed for: each place, behind its parts if it is not needed for the place itself.
    fn for_what(&self) -> Vec<String> {
        let mut places: Vec<(&str, Vec<&str>)> = Vec::new();
        for Purpose { object, place } in &self.purposes {
            let object = object.as_deref();
            match places.iter_mut().find(|(known, objects)| known == place && objects.is_empty() == object.is_none()) {
                Some((_, objects)) => objects.extend(object),
                None => places.push((place, object.into_iter().collect())),
            }
        }
        let text = |(place, objects): &(&str, Vec<&str>)| match objects.as_slice() {
            [] => (*place).to_owned(),
            objects => format!("{} below {place}", objects.join(", ")),
        };
        places.iter().map(text).collect()
    }
}

/// The need of that name.
///
/// # Errors
/// Fails when there is none, naming those there are.
pub fn named(name: &str) -> Result<&'static Need> {
    NEEDS.iter().find(|need| need.name == name).with_context(|| {
        let names: Vec<&str> = NEEDS.iter().map(|need| need.name).collect();
        format!("there is no need {name:?}; those there are: {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_need_is_refused_with_those_there_are() {
        let error = named("lvn").unwrap_err().to_string();
        assert!(error.starts_with("there is no need \"lvn\"; those there are: ext2, ext4, xfs, "), "{error}");
    }

    #[test]
    fn what_several_ask_for_is_one_need_with_all_purposes() {
        let mut wants = Wants::default();
        let module = || Demand::Module("ahci".to_owned());
        wants.add(Demand::Need(named("lvm").unwrap()));
        for (object, place) in [
            (Some("/dev/sda"), "/"),
            (Some("/dev/sdb"), "/"),
            (Some("/dev/sda"), "/"),
            (None, "/usr"),
            (Some("/dev/sdc"), "/usr"),
        ] {
            wants.add_for(module(), object, place);
        }
        let [lvm, ahci] = wants.0.as_slice() else { panic!("{wants:?}") };
        assert!(lvm.for_what().is_empty());
        assert_eq!(ahci.for_what(), ["/dev/sda, /dev/sdb below /", "/usr", "/dev/sdc below /usr"]);
    }
}
