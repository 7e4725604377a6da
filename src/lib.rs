//! Builds Linux initrds from distribution packages, in a container.
//!
//! The modules in the order in which a build passes through them; imports run downwards only
//! (a stage may use the types of earlier stages, never of later ones):
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`], [`commands`] | the command line; each command reads as its pipeline |
//! | [`output`] | outputs that appear whole or not at all |
//! | [`definition`], [`extra_tree`] | `images/NAME.toml` to a checked [`definition::Definition`]; the directories it lays over a tree |
//! | [`store`], [`cache`] | blobs by sha256, what stages keep, and their removal; results of earlier builds by what they were made from |
//! | [`download`] | one file, over its mirrors, into the store |
//! | [`registry`] | images by digest, from registries |
//! | [`repository`] | repository metadata, fetched and verified |
//! | [`lock`] | `images/NAME.lock`: exactly which builder, repositories, keys and packages |
//! | [`dnf`] | the definition as dnf's settings; what dnf and rpm print as values |
//! | [`fetch`] | packages, verified, in the content store |
//! | [`uefi`] | the UEFI firmware that this host has for QEMU's guests |
//! | [`engine`] | containers: podman's API, and the doctor's findings about the host |
//! | [`builder_image`] | the builder image in the store, and its ways in and out |
//! | [`layer`] | a tar stream to a spooled, checked layer |
//! | [`steps`] | what runs in containers: solve, verify, install |
//! | [`rpm_package`] | an rpm file: its header, its signer, and its payload as a stream |
//! | [`identity`], [`signatures`] | what an rpm is, by its header; who signed it, verified |
//! | [`resolution`] | a definition to what is locked |
//! | [`workshop`] | what locking, fetching and building work with: definition, store, and an engine once it is needed |
//! | [`supplies`], [`locking`] | locked packages to verified rpms; the lock that a command works from |
//! | [`exchange`] | the store's rpms under their names, out to a directory and in from one |
//! | [`kernel`] | kernel rpms to a tree, without their scriptlets |
//! | [`tree`] | file system trees: metadata in memory, bytes in their spool |
//! | [`finish`] | an installed tree to one that boots as an initrd |
//! | [`presets`] | the units that presets of a definition enable and a tree lacks |
//! | [`trim`] | the programs, libraries and units of it that nothing reaches, left out with the data that only they read |
//! | [`modules`] | which kernel modules and firmware an initrd needs, and their index |
//! | [`microcode`] | the processors' microcode of a tree, as the kernel finds it early |
//! | [`segment`] | trees to cpio segments to an initrd |
//! | [`uki`] | kernel, initrd and what belongs to them in one EFI program; what a TPM measures of it |
//! | [`oci`], [`directory`] | the other forms of a tree: an OCI image layout, a directory |
//! | [`manifest`] | the record of what went in and what came out |
//! | [`build`] | a lock to outputs, through all of these, with what earlier builds left |
//! | [`inspect`] | what is in an initrd, anyone's |
//! | [`machine`], [`needs`] | what a machine's root lies on; whether an initrd holds what that needs |
//! | [`host`] | a machine's own initrd, made on it of a base and its kernel |
//! | [`migration`] | a machine's move from another generator of initrds, and back |
//! | [`compare`], [`rebuild`] | what differs between two initrds, two outputs, or an output and its manifest; or from a build anew |
//! | [`boot`] | the result, started in QEMU against a root device |
//! | [`mod@format`] | cpio, compression, digests, OpenPGP, PE, RSA keys, times, the kernel's command line, os-release(5), boot loader entries, text from outside: know nothing of initrds |
//! | [`names`] | names, patterns and places from outside, each with its grammar |
//! | [`vconsole`] | what `/etc/vconsole.conf` names, and where it is looked for |
//! | [`process`], [`progress`], [`parallel`] | the one place that spawns programs; the one that narrates; the same work on many items |
//! | [`exhausted`] | what this machine has run out of: files, memory, room |
//! | [`regular_file`] | opens and reads files that somebody else may have put there |
//! | [`links`] | where a machine's paths lie whose root is mounted somewhere |
//! | [`own_directory`], [`private_group`] | directories that nobody but this user can put anything into |

// The documentation is for those who work on the program: it may point at what is private.
#![allow(rustdoc::private_intra_doc_links)]

pub mod boot;
pub mod build;
pub mod builder_image;
pub mod cache;
pub mod cli;
pub mod commands;
pub mod compare;
pub mod definition;
pub mod directory;
pub mod dnf;
pub mod download;
pub mod engine;
pub mod exchange;
pub mod exhausted;
pub mod extra_tree;
pub mod fetch;
pub mod finish;
pub mod format;
pub mod host;
pub mod identity;
pub mod inspect;
pub mod kernel;
pub mod layer;
pub mod links;
pub mod lock;
pub mod locking;
pub mod machine;
pub mod manifest;
pub mod microcode;
pub mod migration;
pub mod modules;
pub mod names;
pub mod needs;
pub mod oci;
pub mod output;
pub mod own_directory;
pub mod parallel;
pub mod presets;
pub mod private_group;
pub mod process;
pub mod progress;
pub mod rebuild;
pub mod registry;
pub mod regular_file;
pub mod repository;
pub mod resolution;
pub mod rpm_package;
pub mod segment;
pub mod signatures;
pub mod steps;
pub mod store;
pub mod supplies;
pub mod tree;
pub mod trim;
pub mod uefi;
pub mod uki;
pub mod vconsole;
pub mod workshop;
