//! How definitions and command lines name packages. Specification: dnf(8), "Specifying packages", of which a part is taken.

use anyhow::{Result, ensure};

use super::nevra::check_package_name;
use super::{check_characters, text_type};
use ocinitrd_format::text::quoted;

text_type! {
    /// The name of a package alone.
    PackageName, check_package_name
}

text_type! {
    /// What dnf is asked to install: `NAME`, `NAME.ARCH`, `NAME-[EPOCH:]VERSION[-RELEASE[.ARCH]]`, the path of a file in it, what
    /// it provides such as `pkgconfig(x)`, or a group, `@GROUP` or `@^ENVIRONMENT`. One word, no pattern, not the path of an rpm.
    PackageSpec, check_spec
}

text_type! {
    /// A pattern of what dnf must not choose, like a [`PackageSpec`], with `*`, `?` and `[...]`.
    PackageGlob, check_glob
}

const SPEC_FIRST: &str = "_/@";
const SPEC_CHARACTERS: &str = "._+-~^:/@()=,";

fn check_spec(text: &str) -> Result<()> {
    check_characters(text, "what dnf can be asked to install", SPEC_FIRST, SPEC_CHARACTERS)?;
    let is_file = text.ends_with(".rpm") || text.contains("://");
    ensure!(
        !is_file,
        "{} names an rpm file: name the package, and its repository in [repos.ID]",
        quoted(text.as_bytes())
    );
    ensure!(!text.contains(".."), "{} has \"..\", which no package or path in one has", quoted(text.as_bytes()));
    Ok(())
}

fn check_glob(text: &str) -> Result<()> {
    check_characters(text, "a pattern of packages", "_/*?[", "._+-~^:/*?[]!")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_for_packages_is_taken() {
        for spec in [
            "bash",
            "gcc-c++",
            "glibc.i686",
            "bash-5.2-1.fc44.x86_64",
            "bind-32:9.18-1.fc44",
            "/usr/bin/mount",
            "pkgconfig(libsystemd)",
            "libc.so.6(GLIBC_2.4)(64bit)",
            "perl(Foo::Bar)",
            "font(:lang=en)",
            "@core",
            "@^minimal-environment",
            "@nodejs:20",
            "rust-std~nightly^1",
        ] {
            assert_eq!(&*spec.parse::<PackageSpec>().unwrap(), spec);
        }
        for glob in ["kernel*", "*.i686", "lib[ab]?", "bash", "*-debug*", "kernel-0:6.1*"] {
            assert_eq!(&*glob.parse::<PackageGlob>().unwrap(), glob);
        }
    }

    #[test]
    fn options_further_words_and_lines_patterns_and_files_are_no_packages() {
        for spec in [
            "",
            " ",
            "-y",
            "--enablerepo=x",
            "bash --enablerepo=x",
            "bash\ninstall x",
            "bash\t",
            "*",
            "bas?",
            "[a]",
            "~root",
            "$(id)",
            "`id`",
            "a;b",
            "a'b",
            "a\\b",
            "/tmp/evil.rpm",
            "./evil",
            "/usr/../etc",
            "https://a.example/x",
            "file:///a",
            "grüß",
        ] {
            assert!(spec.parse::<PackageSpec>().is_err(), "{spec:?}");
        }
        for glob in ["", "-x", "a b", "a,b", "a\ngpgcheck=0", "a=b", "%a"] {
            assert!(glob.parse::<PackageGlob>().is_err(), "{glob:?}");
        }
        let message = "bash\nx".parse::<PackageSpec>().unwrap_err().to_string();
        assert!(message.starts_with("\"bash\\x0ax\" is not what dnf can be asked to install: it has"), "{message}");
    }
}
