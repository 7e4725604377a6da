//! What settings of modprobe's lead to: the programs that it runs in place of loading or removing a module (modprobe.d(5)).

use super::references::References;
use super::script;

/// The directives that are commands, after the name of a module.
const COMMANDS: [&str; 2] = ["install", "remove"];

/// The references of a file of settings.
pub fn references(text: &str) -> References {
    let mut references = References::default();
    for line in text.replace("\\\n", " ").lines() {
        let mut words = line.split_whitespace();
        if words.next().is_some_and(|directive| COMMANDS.contains(&directive)) {
            let command = words.skip(1).collect::<Vec<_>>().join(" ");
            script::words(&command).for_each(|word| references.add_word(word));
        }
    }
    references
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_lead_to_programs_and_other_directives_nowhere() {
        let references = references(
            "# install no /usr/bin/no\noptions a b=/usr/bin/option\ninstall sunrpc /sbin/modprobe -i sunrpc && \\\n \
             { /sbin/sysctl -q; }\nremove  x\tsh -c y\nblacklist z\n",
        );
        let paths: Vec<&str> = references.paths.iter().map(String::as_str).collect();
        assert_eq!(paths, ["/sbin/modprobe", "/sbin/sysctl"]);
        assert!(references.programs.contains("sh") && !references.programs.contains("z"));
    }
}
