//! GUID partition tables: partitions in, the sectors of a protective MBR and of both copies of the table out.
//!
//! The table is written into an empty disk file before any guest sees the disk, so that no partitioning program is needed,
//! on the host or in a guest. Specification: UEFI 2.10, chapter 5 (GUID Partition Table Disk Layout).

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};

/// The length of a sector in bytes.
pub const SECTOR_BYTES: u64 = 512;
/// The partition type "Linux filesystem data".
pub const LINUX_DATA: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
/// The partition type of the EFI system partition.
pub const EFI_SYSTEM: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// The partition type "Root Partition (amd64/x86_64)" of the Discoverable Partitions Specification (UAPI.2).
pub const ROOT_X86_64: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";

/// Partitions begin at multiples of a mebibyte, as every partitioning program aligns them.
const ALIGNMENT_SECTORS: u64 = (1 << 20) / SECTOR_BYTES;
const ENTRIES: usize = 128;
const ENTRY_BYTES: usize = 128;
const ENTRIES_SECTORS: u64 = (ENTRIES * ENTRY_BYTES) as u64 / SECTOR_BYTES;
const HEADER_BYTES: u32 = 92;
const NAME_UNITS: usize = 36;

/// A partition to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Partition {
    /// Its name, for `PARTLABEL=`; at most 36 UTF-16 units.
    pub label: &'static str,
    /// Its own GUID, for `PARTUUID=`.
    pub guid: &'static str,
    /// The GUID of its type, such as [`LINUX_DATA`].
    pub type_guid: &'static str,
    /// Its size in mebibytes; the last partition may be 0, which stands for the rest of the disk.
    pub size_mib: u64,
}

/// Writes a table of `partitions` onto `disk`, a file that is as long as the disk is to be.
///
/// # Errors
/// Fails when the partitions do not fit, a GUID or label is not one, or the file cannot be written.
pub fn write_table(disk: &File, disk_guid: &str, partitions: &[Partition]) -> Result<()> {
    let sectors = disk.metadata().context("reading the size of the disk")?.len() / SECTOR_BYTES;
    let disk_guid = guid_bytes(disk_guid)?;
    let entries = entries(partitions, sectors)?;
    let last = sectors - 1;
    let put = |sector: u64, bytes: &[u8]| {
        disk.write_all_at(bytes, sector * SECTOR_BYTES).context("writing the partition table")
    };
    put(0, &protective_mbr(sectors))?;
    put(1, &header(&Place { this: 1, other: last, entries: 2 }, sectors, &disk_guid, &entries))?;
    put(2, &entries)?;
    let backup_entries = last - ENTRIES_SECTORS;
    put(backup_entries, &entries)?;
    put(last, &header(&Place { this: last, other: 1, entries: backup_entries }, sectors, &disk_guid, &entries))
}

/// Where the partition with this number, counted from 0, lies on a disk of that size, in bytes.
///
/// # Errors
/// Fails when the partitions do not fit, or there are not that many.
pub fn place(partitions: &[Partition], number: usize, disk_bytes: u64) -> Result<Range<u64>> {
    let extents = extents(partitions, disk_bytes / SECTOR_BYTES)?;
    let extent = extents.get(number).with_context(|| format!("there is no partition {number}"))?;
    Ok(extent.start * SECTOR_BYTES..extent.end * SECTOR_BYTES)
}

/// Where the partitions lie, in sectors: one behind the other.
fn extents(partitions: &[Partition], sectors: u64) -> Result<Vec<Range<u64>>> {
    let mut start = ALIGNMENT_SECTORS;
    let extent = |partition: &Partition| {
        let end = match partition.size_mib {
            0 => (last_usable(sectors) + 1) / ALIGNMENT_SECTORS * ALIGNMENT_SECTORS,
            size_mib => start + size_mib * ALIGNMENT_SECTORS,
        };
        ensure!(
            start < end && end <= last_usable(sectors) + 1,
            "the partition {} does not fit on a disk of {sectors} sectors",
            partition.label
        );
        Ok(std::mem::replace(&mut start, end)..end)
    };
    partitions.iter().map(extent).collect()
}

/// Where one copy of the table lies, in sectors.
struct Place {
    this: u64,
    other: u64,
    entries: u64,
}

fn entries(partitions: &[Partition], sectors: u64) -> Result<Vec<u8>> {
    ensure!(partitions.len() <= ENTRIES, "a disk has at most {ENTRIES} partitions");
    let mut bytes = vec![0; ENTRIES * ENTRY_BYTES];
    let extents = extents(partitions, sectors)?;
    for ((entry, partition), extent) in bytes.chunks_exact_mut(ENTRY_BYTES).zip(partitions).zip(extents) {
        entry[..16].copy_from_slice(&guid_bytes(partition.type_guid)?);
        entry[16..32].copy_from_slice(&guid_bytes(partition.guid)?);
        entry[32..40].copy_from_slice(&extent.start.to_le_bytes());
        entry[40..48].copy_from_slice(&(extent.end - 1).to_le_bytes());
        put_label(&mut entry[56..], partition.label)?;
    }
    Ok(bytes)
}

fn put_label(field: &mut [u8], label: &str) -> Result<()> {
    let units: Vec<u16> = label.encode_utf16().collect();
    ensure!(units.len() <= NAME_UNITS, "the partition label {label} is longer than {NAME_UNITS} UTF-16 units");
    for (slot, unit) in field.chunks_exact_mut(2).zip(units) {
        slot.copy_from_slice(&unit.to_le_bytes());
    }
    Ok(())
}

fn last_usable(sectors: u64) -> u64 {
    sectors.saturating_sub(ENTRIES_SECTORS + 2)
}

fn header(place: &Place, sectors: u64, disk_guid: &[u8; 16], entries: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SECTOR_BYTES as usize);
    bytes.extend(b"EFI PART");
    bytes.extend(0x0001_0000_u32.to_le_bytes());
    bytes.extend(HEADER_BYTES.to_le_bytes());
    // The checksum of the header, taken while this field is zero, and a reserved field.
    bytes.extend([0; 8]);
    let first_usable = 2 + ENTRIES_SECTORS;
    for sector in [place.this, place.other, first_usable, last_usable(sectors)] {
        bytes.extend(sector.to_le_bytes());
    }
    bytes.extend(disk_guid);
    bytes.extend(place.entries.to_le_bytes());
    for number in [ENTRIES as u32, ENTRY_BYTES as u32, crc32(entries)] {
        bytes.extend(number.to_le_bytes());
    }
    let checksum = crc32(&bytes);
    bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
    bytes.resize(SECTOR_BYTES as usize, 0);
    bytes
}

/// One partition of type 0xEE over all of the disk, so that programs that know no GPT leave it alone.
fn protective_mbr(sectors: u64) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR_BYTES as usize];
    let size = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    bytes[446..454].copy_from_slice(&[0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff]);
    bytes[454..458].copy_from_slice(&1_u32.to_le_bytes());
    bytes[458..462].copy_from_slice(&size.to_le_bytes());
    bytes[510..].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

/// A GUID's bytes: the first three of its five fields are little-endian, the others as written.
fn guid_bytes(text: &str) -> Result<[u8; 16]> {
    let invalid = || format!("{text:?} is no GUID of the form 01234567-89ab-cdef-0123-456789abcdef");
    let fields: Vec<&str> = text.split('-').collect();
    ensure!(fields.iter().map(|field| field.len()).eq([8, 4, 4, 4, 12]), invalid());
    let number = u128::from_str_radix(&fields.concat(), 16).with_context(invalid)?;
    let mut bytes = number.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    Ok(bytes)
}

/// The CRC-32 of Ethernet and zip. The table is some 16 KiB: no lookup table is worth its lines.
fn crc32(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for byte in bytes {
        remainder ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = remainder & 1;
            remainder = (remainder >> 1) ^ (0xedb8_8320 * carry);
        }
    }
    !remainder
}

#[cfg(test)]
mod tests {
    use super::*;
    use ocinitrd_support::process::{Program, find};

    const DISK: &str = "6d1dea0e-0000-4000-8000-000000000000";
    const FIRST: Partition =
        Partition { label: "first", guid: "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9", type_guid: LINUX_DATA, size_mib: 3 };
    const REST: Partition =
        Partition { label: "Größe", guid: "ffffffff-0000-4000-8000-000000000001", size_mib: 0, ..FIRST };

    fn disk(size_mib: u64, partitions: &[Partition]) -> Result<tempfile::NamedTempFile> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size_mib << 20).unwrap();
        write_table(file.as_file(), DISK, partitions)?;
        Ok(file)
    }

    fn sector(file: &tempfile::NamedTempFile, number: u64) -> Vec<u8> {
        let mut bytes = vec![0; SECTOR_BYTES as usize];
        file.as_file().read_exact_at(&mut bytes, number * SECTOR_BYTES).unwrap();
        bytes
    }

    #[test]
    fn crc_is_the_published_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn guids_are_stored_in_mixed_endianness() {
        let bytes = guid_bytes("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!(
            bytes,
            [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]
        );
        for wrong in ["", "00112233-4455-6677-8899", "g0112233-4455-6677-8899-aabbccddeeff"] {
            assert!(guid_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_headers_point_at_each_other_and_carry_their_checksum() {
        let file = disk(8, &[FIRST]).unwrap();
        let last = (8 << 20) / SECTOR_BYTES - 1;
        for (this, other) in [(1, last), (last, 1)] {
            let mut header = sector(&file, this);
            assert_eq!(header[..8], *b"EFI PART");
            assert_eq!(header[24..32], this.to_le_bytes());
            assert_eq!(header[32..40], other.to_le_bytes());
            let stored = u32::from_le_bytes(header[16..20].try_into().unwrap());
            header[16..20].fill(0);
            assert_eq!(crc32(&header[..92]), stored);
        }
    }

    #[test]
    fn partitions_lie_one_behind_the_other_from_the_first_mebibyte_to_the_last_whole_one() {
        let bytes = |number| place(&[FIRST, REST], number, 8 << 20);
        assert_eq!(bytes(0).unwrap(), 1 << 20..4 << 20);
        assert_eq!(bytes(1).unwrap(), 4 << 20..7 << 20);
        assert!(bytes(2).is_err() && place(&[FIRST], 0, 2 << 20).is_err());
    }

    #[test]
    fn partitions_that_do_not_fit_are_refused() {
        let large = Partition { size_mib: 7, ..FIRST };
        let message = disk(8, &[large]).unwrap_err().to_string();
        assert_eq!(message, "the partition first does not fit on a disk of 16384 sectors");
        assert!(disk(4, &[FIRST, REST]).is_err());
        assert!(disk(8, &[Partition { label: "a label of more than thirty-six units", ..FIRST }]).is_err());
    }

    #[test]
    fn sfdisk_reads_the_table_without_complaint() {
        let sfdisk = find("sfdisk").unwrap().expect("sfdisk is installed: `make check` sees to it");
        let directory = tempfile::tempdir().unwrap();
        // After a name that ends in a digit, sfdisk puts a `p` before the number of a partition.
        let path = directory.path().join("disk");
        disk(8, &[FIRST, REST]).unwrap().persist(&path).unwrap();
        let output = Program::new(&sfdisk).env("LC_ALL", "C").args(["--dump"]).args([&path]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let lines: Vec<String> =
            output.stdout.lines().map(|line| line.replace(&*path.to_string_lossy(), "disk")).collect();
        assert!(lines.contains(&format!("label-id: {}", DISK.to_uppercase())), "{lines:#?}");
        let kind = LINUX_DATA.to_uppercase();
        let expected = [
            format!(
                "disk1 : start=        2048, size=        6144, type={kind}, uuid=0A1B2C3D-4E5F-4071-8293-A4B5C6D7E8F9, name=\"first\""
            ),
            format!(
                "disk2 : start=        8192, size=        6144, type={kind}, uuid=FFFFFFFF-0000-4000-8000-000000000001, name=\"Gr\\xc3\\xb6\\xc3\\x9fe\""
            ),
        ];
        for line in expected {
            assert!(lines.contains(&line), "{line} is not in {lines:#?}");
        }
        let verified = Program::new(&sfdisk).args(["--verify"]).args([&path]).output().unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }
}
