//! Definitions as the command line meets them: the messages, the exit codes, and that nothing is written.

use std::fs;

use crate::fixture;

/// Runs `build IMAGE` in a directory that holds the given images; returns the error and insists that no output is there.
fn build_error(images: &[(&str, &str)], arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("images")).unwrap();
    for (name, text) in images {
        fs::write(directory.path().join("images").join(name), text).unwrap();
    }
    let error = fixture::fail(fixture::ocinitrd().arg("build").args(arguments).current_dir(directory.path()));
    assert_eq!(fixture::names(directory.path()), ["images"], "{error}");
    error
}

fn shipped(name: &str) -> String {
    fs::read_to_string(fixture::checkout().join("images").join(name)).unwrap()
}

/// The definition that Fedora's images include, with its own include as it is found from elsewhere.
fn of_fedora() -> String {
    let included = "fedora-44-packages.toml";
    let found = format!("{}/images/parts/{included}", fixture::checkout().display());
    shipped("parts/fedora-44.toml").replacen(included, &found, 1)
}

#[test]
fn unknown_key_names_the_nearest_right_one() {
    let error = build_error(&[("a.toml", "releasevr = \"44\"\n")], &["a"]);
    assert!(error.contains("unknown field `releasevr`"), "{error}");
    assert!(error.contains("did you mean `releasever`?"), "{error}");
}

#[test]
fn include_loop_shows_the_chain() {
    let error = build_error(&[("a.toml", "include = [\"b.toml\"]"), ("b.toml", "include = [\"a.toml\"]")], &["a"]);
    assert!(error.contains("the definition includes itself: "), "{error}");
}

#[test]
fn missing_image_lists_those_there_are() {
    let error = build_error(&[("a.toml", ""), ("b.toml", "")], &["c"]);
    assert!(error.contains("there is no image \"c\" in") && error.contains("those there are: a, b"), "{error}");
}

#[test]
fn unknown_profile_lists_those_there_are() {
    let image = of_fedora();
    let error = build_error(&[("a.toml", &image)], &["a", "--profile", "iscsi"]);
    assert!(
        error.contains("image a has no profile \"iscsi\"; its profiles are: disk-maker, integrity, lvm, network, nfs"),
        "{error}"
    );
}

#[test]
fn builder_that_is_not_pinned_is_refused() {
    let image = of_fedora();
    let (unpinned, _) = image.split_once("@sha256:").unwrap();
    let rest = image.split_once("\"\n\n[repos.fedora]").unwrap().1;
    let image = format!("{unpinned}\"\n\n[repos.fedora]{rest}");
    let error = build_error(&[("a.toml", &image)], &["a"]);
    assert!(error.contains("registry.fedoraproject.org/fedora:44 is not pinned by digest"), "{error}");
    assert!(error.contains("hint: `ocinitrd update IMAGE --builder`"), "{error}");
}

#[test]
fn the_tools_own_image_is_built_on_the_pinned_fedora() {
    let containerfile =
        std::fs::read_to_string(fixture::checkout().join("containerfiles/ocinitrd.containerfile")).unwrap();
    let definition = ocinitrd::definition::Definition::load("fedora-44", fixture::checkout()).unwrap();
    assert!(containerfile.contains(&format!("ARG FEDORA={}\n", definition.builder_image)));
}

#[test]
fn offline_44_differs_from_fedora_44_in_repositories_builder_and_keys_alone() {
    // Both include the same part, and what else they say is where packages come from.
    fixture::offline_directory();
    let load = |name| ocinitrd::definition::Definition::load(name, fixture::checkout()).unwrap();
    let (fedora, offline) = (load("fedora-44"), load("offline-44"));
    assert_ne!(fedora.builder_image, offline.builder_image);
    let (of_fedora, of_offline) = (shipped("parts/fedora-44.toml"), shipped("offline-44.toml"));
    for text in [&of_fedora, &of_offline] {
        assert!(text.contains("fedora-44-packages.toml\""), "{text}");
        for table in ["[packages]", "[kernel]", "[profiles", "programs", "remove_files", "mask_units"] {
            assert!(!text.contains(table), "{table} belongs into parts/fedora-44-packages.toml: {text}");
        }
    }
    assert_eq!(fedora.default_profiles, offline.default_profiles);
    assert_eq!(fedora.repositories.keys().collect::<Vec<_>>(), offline.repositories.keys().collect::<Vec<_>>());
}

#[test]
fn every_shipped_image_is_read() {
    for name in ["fedora-44", "centos-stream-10"] {
        let definition = ocinitrd::definition::Definition::load(name, fixture::checkout()).unwrap();
        for profile in ["lvm", "raid", "network", "nfs", "pkcs11", "plymouth"].map(str::to_owned) {
            let selection = match definition.offers(&profile) {
                true => definition.select(&[profile]).unwrap(),
                false => definition.profile(&profile).unwrap().clone(),
            };
            assert!(
                selection.extra_trees.iter().all(|tree| definition.path(tree).is_dir()),
                "{:?}",
                selection.extra_trees
            );
        }
    }
}

#[test]
fn centos_is_pure_unless_a_profile_asks_for_more_and_what_it_cannot_have_is_refused_with_the_reason() {
    let definition = ocinitrd::definition::Definition::load("centos-stream-10", fixture::checkout()).unwrap();
    let repositories = |profiles: &[&str]| -> Vec<String> {
        let profiles: Vec<String> = profiles.iter().map(|profile| (*profile).to_owned()).collect();
        let selection = definition.select(&profiles).unwrap();
        definition.repositories_of(&selection).into_keys().map(str::to_owned).collect()
    };
    for pure in ["integrity", "optical", "pkcs11", "plymouth", "vconsole"] {
        assert_eq!(repositories(&[pure]), ["appstream", "baseos"], "{pure}");
    }
    assert_eq!(repositories(&[]), ["appstream", "baseos"]);
    assert_eq!(repositories(&["network"]), ["appstream", "baseos", "epel"]);
    assert_eq!(repositories(&["uki"]), ["appstream", "baseos", "crb"]);
    assert_eq!(repositories(&["disk-maker", "network"]), ["appstream", "baseos", "crb", "epel"]);

    let arguments = ["centos-stream-10", "--profile", "nfs", "--engine", "unix:///nonexistent/podman.sock"];
    for command in ["build", "lock"] {
        let error = fixture::fail(fixture::ocinitrd().arg(command).args(arguments));
        assert!(
            error.contains(
                "the image centos-stream-10 cannot have the profile nfs: what mounts the root is nfsroot-generator"
            ),
            "{error}"
        );
        assert!(!error.contains("podman.sock"), "before any container: {error}");
    }
}

#[test]
fn the_key_of_epel_is_fedora_s() {
    let definition = ocinitrd::definition::Definition::load("centos-stream-10", fixture::checkout()).unwrap();
    let [key] = &definition.repositories["epel"].gpg_keys[..] else { panic!("EPEL has one key") };
    let keys = ocinitrd_format::openpgp::PublicKey::parse_all(&fs::read(definition.path(key)).unwrap()).unwrap();
    // As https://fedoraproject.org/security states it.
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].fingerprint.to_string(), "7d8d15cbfc4e62688591fb2633d98517e37ed158");
    assert_eq!(keys[0].user_ids, ["Fedora (epel10) <epel@fedoraproject.org>"]);
}
