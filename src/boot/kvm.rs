//! Whether the processor can run guests by itself.

/// Whether `/proc/cpuinfo` lists Intel's or AMD's virtualisation.
pub fn offers_virtualisation(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
    flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtualisation_is_a_flag_of_its_own() {
        assert!(offers_virtualisation("processor\t: 0\nflags\t\t: fpu svm sse4a\nvmx flags\t: vnmi\n"));
        assert!(offers_virtualisation("flags\t\t: fpu vmx\n"));
        assert!(!offers_virtualisation("flags\t\t: fpu svm_lock hypervisor\nbugs\t\t: svm\n"));
        assert!(!offers_virtualisation(""));
    }
}
