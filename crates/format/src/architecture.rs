//! Names of processor architectures: rpm's, which are Linux's, and OCI's, which are Go's.

/// Returns rpm's name for the architecture that this program runs on and builds for.
pub fn native() -> &'static str {
    std::env::consts::ARCH
}

/// Returns OCI's name for the architecture that Linux calls `machine` (`uname -m`, rpm).
pub fn oci_name(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i586" | "i686" | "x86" => "386",
        "armv7hl" | "armv7l" => "arm",
        "powerpc64le" => "ppc64le",
        "loongarch64" => "loong64",
        same => same,
    }
}
