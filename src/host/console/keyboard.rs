//! Debian's keyboard: `/etc/default/keyboard` (keyboard(5)) in, a keymap of the console out.
//!
//! The file names a layout of X. console-setup makes a keymap of that and keeps it; where it did not, systemd knows keymaps that
//! are nearly the same (`kbd-model-map`), and kbd may have one by the layout's name.

use std::path::Path;

use anyhow::Result;

use super::text_of;
use ocinitrd_support::links;

/// Where the keyboard is set.
pub(super) const CONFIGURATION: &str = "/etc/default/keyboard";
/// What console-setup makes of it, which may be compressed.
const MADE: &str = "/etc/console-setup/cached_UTF-8_del.kmap";
const MAP: &str = "usr/share/systemd/kbd-model-map";
/// The layout of the keymap that kernels have built in.
const BUILT_IN: (&str, &str) = ("us", "");

/// The layout as it is set, and the keymap for it; nothing where none is set, or that of the kernel.
pub(super) fn keymap(root: &Path) -> Result<Option<(String, String)>> {
    let Some(text) = text_of(root, &CONFIGURATION[1..])? else { return Ok(None) };
    // Of several layouts the first is the one that counts until somebody switches.
    let first = |key: &str| value(&text, key).split(',').next().unwrap_or_default().to_owned();
    let (layout, variant) = (first("XKBLAYOUT"), first("XKBVARIANT"));
    if layout.is_empty() || (layout.as_str(), variant.as_str()) == BUILT_IN {
        return Ok(None);
    }
    let said = format!("XKBLAYOUT={layout}");
    let is_made = [MADE.to_owned(), format!("{MADE}.gz")].iter().any(|path| links::is_file(root, Path::new(path)));
    if is_made {
        return Ok(Some((said, MADE.to_owned())));
    }
    let map = text_of(root, MAP)?.unwrap_or_default();
    let by_name = if variant.is_empty() { layout.clone() } else { format!("{layout}-{variant}") };
    Ok(Some((said, mapped(&map, &layout, &variant).unwrap_or(by_name))))
}

/// The last value of a setting in a file for a shell.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let mut values = text.lines().filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
    values.next_back().unwrap_or_default().trim().trim_matches(['"', '\''])
}

/// The keymap of the line with that layout and that variant.
fn mapped(map: &str, layout: &str, variant: &str) -> Option<String> {
    let lines = map.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let variant = if variant.is_empty() { "-" } else { variant };
    let found = fields.into_iter().find(|fields| fields.len() >= 4 && (fields[1], fields[3]) == (layout, variant));
    found.map(|fields| fields[0].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_s_table_names_keymaps_by_layout_and_variant() {
        let map = "# comment\nde-latin1 de pc105 - terminate\nde-latin1-nodeadkeys de pc105 nodeadkeys terminate\n";
        assert_eq!(mapped(map, "de", "").as_deref(), Some("de-latin1"));
        assert_eq!(mapped(map, "de", "nodeadkeys").as_deref(), Some("de-latin1-nodeadkeys"));
        assert_eq!(mapped(map, "fr", ""), None);
        assert_eq!(value("XKBLAYOUT=a\nXKBLAYOUT=\"de,us\"\n", "XKBLAYOUT"), "de,us");
    }
}
