//! Writes files that are small and were made to cost their reader much: `cargo run --example hostile -- DIRECTORY`.
//!
//! `tests/bench/hostile.sh` measures what the program makes of them; the integration tests read the smaller ones with limits.
#![allow(clippy::unwrap_used)]

mod images;
mod initrds;

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;

/// A file by its name, and what writes it.
pub type Input = (&'static str, fn(&mut dyn std::io::Write));

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let directory =
        PathBuf::from(arguments.next().expect("give a directory, and the names of files if not all are wanted"));
    let wanted: Vec<String> = arguments.map(|name| name.to_string_lossy().into_owned()).collect();
    fs::create_dir_all(&directory).unwrap();
    for (name, write) in initrds::INPUTS.iter().chain(images::INPUTS) {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            let mut output = BufWriter::new(File::create(directory.join(name)).unwrap());
            write(&mut output);
            std::io::Write::flush(&mut output).unwrap();
        }
    }
}
