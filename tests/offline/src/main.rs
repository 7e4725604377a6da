//! Makes a Fedora-shaped rpm repository from Debian's packages.

fn main() {}
