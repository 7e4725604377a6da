//! The keyboards that a machine has now: its input devices in, those with the keys of a keyboard out, with their drivers.

use anyhow::Result;

use super::drivers::{Driver, Drivers};
use super::root::Root;

const CLASS: &str = "/sys/class/input";
/// The first 31 keys: Escape, digits, the letters of the first two rows. udev takes a device with all of them for a keyboard.
const FIRST_KEYS: u64 = 0xffff_fffe;

/// A keyboard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Keyboard {
    /// What it calls itself.
    pub name: String,
    /// The drivers between it and the processor.
    pub drivers: Vec<Driver>,
}

/// All keyboards; those that programs made up have no drivers and are left out.
///
/// # Errors
/// Fails when `/sys` cannot be read.
pub(super) fn keyboards(root: &Root) -> Result<Vec<Keyboard>> {
    let mut keyboards: Vec<Keyboard> = Vec::new();
    for name in root.names(CLASS)?.iter().filter(|name| name.starts_with("input")) {
        let path = format!("{CLASS}/{name}");
        let keys = root.attribute(&format!("{path}/capabilities/key"))?.unwrap_or_default();
        let Some(directory) = root.resolve(&path)?.filter(|_| has_first_keys(&keys)) else { continue };
        let drivers = Drivers::above(root, &directory)?.drivers;
        let name = root.attribute(&format!("{path}/name"))?.unwrap_or_default();
        if !drivers.is_empty() {
            keyboards.push(Keyboard { name, drivers });
        }
    }
    Ok(keyboards)
}

/// Whether a bit mask of keys, as the kernel writes it in words of which the last is the lowest, has those of a keyboard.
fn has_first_keys(mask: &str) -> bool {
    let lowest = mask.rsplit(' ').next().and_then(|word| u64::from_str_radix(word, 16).ok());
    lowest.is_some_and(|word| word & FIRST_KEYS == FIRST_KEYS)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn a_keyboard_is_told_by_its_keys_and_has_its_drivers() {
        let fixture = Fixture::new();
        for (number, place, keys) in [
            (0, "platform/i8042/serio0", "402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe"),
            (1, "LNXSYSTM:00/LNXPWRBN:00", "10000000000000 0"),
            (2, "virtual", "fffffffffffffffe"),
        ] {
            let directory = format!("sys/devices/{place}/input/input{number}");
            fixture.write(&format!("{directory}/capabilities/key"), &format!("{keys}\n"));
            fixture.write(&format!("{directory}/name"), &format!("input {number}\n"));
            fixture
                .link(&format!("sys/class/input/input{number}"), &format!("../../devices/{place}/input/input{number}"));
        }
        fixture.driver("platform/i8042/serio0", "atkbd", "atkbd").driver("platform/i8042", "i8042", "");
        fixture.driver("LNXSYSTM:00/LNXPWRBN:00", "button", "button");
        let found = keyboards(&fixture.root()).unwrap();
        let drivers = vec![Driver::Module("atkbd".to_owned()), Driver::BuiltIn("i8042".to_owned())];
        assert_eq!(found, [Keyboard { name: "input 0".to_owned(), drivers }]);
    }
}
