//! What is built into the kernel: `modules.builtin` (a path a line) and `modules.builtin.modinfo`
//! (`name.key=value`, each ended by a NUL; see `Documentation/kbuild/kbuild.rst` of Linux).

use std::collections::BTreeSet;

use super::name::{base_name, module_name, normalize_alias};

/// One `name.key=value` of `modules.builtin.modinfo`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct BuiltinField {
    /// The module, as the kernel writes its name.
    pub module: String,
    /// Such as `alias`, `firmware`, `softdep`.
    pub key: String,
    /// What stands after the first `=`.
    pub value: String,
}

/// What both files say; empty where a kernel has none of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Builtin {
    paths: Vec<String>,
    names: BTreeSet<String>,
    fields: Option<Vec<BuiltinField>>,
}

impl Builtin {
    /// Reads the contents of `modules.builtin` and of `modules.builtin.modinfo`, the latter as far as there is one.
    pub(super) fn parse(paths: &str, modinfo: Option<&[u8]>) -> Self {
        let paths: Vec<String> = paths.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let names = paths.iter().map(|path| module_name(base_name(path))).collect();
        Builtin { paths, names, fields: modinfo.map(parse_modinfo) }
    }

    /// The lines of `modules.builtin`: `kernel/fs/ext4/ext4.ko`.
    pub(super) fn paths(&self) -> &[String] {
        &self.paths
    }

    /// The names of the modules that are built in, spelled with `_`.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether the module of that name, spelled with `_`, is built in.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether a built-in module answers to `alias`, normalised.
    pub(super) fn has_alias(&self, alias: &str) -> bool {
        self.values("alias").any(|value| normalize_alias(value).as_deref() == Some(alias))
    }

    /// All values of a key, over all built-in modules, in file order.
    pub(super) fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields().unwrap_or_default().iter().filter(move |field| field.key == key).map(|field| field.value.as_str())
    }

    /// All fields in file order; nothing if the kernel has no `modules.builtin.modinfo`.
    pub(super) fn fields(&self) -> Option<&[BuiltinField]> {
        self.fields.as_deref()
    }
}

fn parse_modinfo(bytes: &[u8]) -> Vec<BuiltinField> {
    let texts = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    texts.filter_map(|text| parse_field(&text)).collect()
}

fn parse_field(text: &str) -> Option<BuiltinField> {
    let (module, field) = text.split_once('.')?;
    let (key, value) = field.split_once('=')?;
    Some(BuiltinField { module: module.to_owned(), key: key.to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_split_at_the_first_dot_and_the_first_equals_sign() {
        let modinfo = b"libata.firmware=a.b=c\0libata.alias=scsi-t-*\0\0broken\0";
        let builtin = Builtin::parse("kernel/drivers/ata/libata.ko\n", Some(modinfo));
        assert_eq!(builtin.values("firmware").collect::<Vec<_>>(), ["a.b=c"]);
        assert_eq!(builtin.fields().unwrap().len(), 2);
        assert!(builtin.contains("libata"));
        assert!(builtin.has_alias("scsi_t_*"));
    }

    #[test]
    fn names_are_spelled_with_underscores() {
        assert!(Builtin::parse("kernel/lib/crc-t10dif.ko\n", None).contains("crc_t10dif"));
    }
}
