//! The place in the deploy ISO that a host's parameters are put into.
//!
//! The ISO has a file of [`SLOT_SIZE`] bytes which the boot loader hands to the kernel before the initramfs, as an uncompressed archive
//! ("newc") with one file, [`SLOT_NAME`]. A host's ISO is the built one with these bytes replaced by those of [`render_slot`]: nothing is
//! built, nothing moves, and the agent needs no driver for a CD.

use std::io::{self, Read, Seek, SeekFrom};

use crate::parameters::{Parameters, ParametersError};

/// Bytes of the slot. Room for a chain of certificates and a network of a hundred addresses.
pub const SLOT_SIZE: usize = 64 << 10;

/// Where the agent finds the parameters.
pub const SLOT_NAME: &str = "catamaran-deploy.json";

/// Sectors of an ISO, which every file begins at.
const SECTOR: usize = 2048;
const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";
const FILE_MODE: u32 = 0o100_600;

/// The slot can't be filled or found.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// See there.
    #[error(transparent)]
    Parameters(#[from] ParametersError),
    /// Too much.
    #[error(
        "the parameters have {size} bytes, {max} are allowed: shorten the network data or the CA bundle"
    )]
    TooLarge {
        /// What they have.
        size: usize,
        /// What fits.
        max: usize,
    },
    /// No deploy ISO.
    #[error(
        "there is no place for parameters in it: it is no deploy ISO (guest-images/build deploy-iso makes one)"
    )]
    NoSlot,
    /// See there.
    #[error("the ISO can't be read")]
    Io(#[from] io::Error),
}

/// The bytes of the slot for a host: exactly [`SLOT_SIZE`].
///
/// # Errors
/// The parameters are wrong, or too large.
pub fn render_slot(parameters: &Parameters) -> Result<Vec<u8>, SlotError> {
    parameters.check()?;
    let mut text = serde_json::to_vec(parameters)
        .map_err(|error| SlotError::Parameters(ParametersError::Json(error)))?;
    let max = room();
    if text.len() > max {
        return Err(SlotError::TooLarge {
            size: text.len(),
            max,
        });
    }
    text.resize(max, b' ');
    let mut slot = Vec::with_capacity(SLOT_SIZE);
    entry(&mut slot, SLOT_NAME, FILE_MODE, &text);
    entry(&mut slot, TRAILER, 0, &[]);
    Ok(slot)
}

/// Where the slot is, bytes from the beginning. `iso` is read from its beginning to the slot.
///
/// # Errors
/// There is none, or reading failed.
pub fn find_slot(iso: &mut (impl Read + Seek)) -> Result<u64, SlotError> {
    let size = iso.seek(SeekFrom::End(0))?;
    iso.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 512 * SECTOR];
    let mut base = 0u64;
    loop {
        let got = fill(iso, &mut buffer)?;
        if got == 0 {
            return Err(SlotError::NoSlot);
        }
        for (number, sector) in buffer[..got].chunks(SECTOR).enumerate() {
            let offset = base + (number * SECTOR) as u64;
            if is_slot(sector) && offset + SLOT_SIZE as u64 <= size {
                return Ok(offset);
            }
        }
        base += got as u64;
    }
}

fn is_slot(sector: &[u8]) -> bool {
    sector.starts_with(b"070701")
        && sector
            .get(HEADER..)
            .and_then(|rest| rest.strip_prefix(SLOT_NAME.as_bytes()))
            .is_some_and(|rest| rest.starts_with(b"\0"))
}

/// Reads until the buffer is full or the end has come.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match from.read(&mut buffer[got..])? {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}

/// Bytes that the text may have.
fn room() -> usize {
    SLOT_SIZE - padded(HEADER + SLOT_NAME.len() + 1) - padded(HEADER + TRAILER.len() + 1)
}

fn padded(size: usize) -> usize {
    size.next_multiple_of(4)
}

fn entry(out: &mut Vec<u8>, name: &str, mode: u32, data: &[u8]) {
    // Inode, mode, owner, group, links, time, size, four device numbers, length of the name, checksum (none).
    let fields = [
        1,
        mode as usize,
        0,
        0,
        1,
        0,
        data.len(),
        0,
        0,
        0,
        0,
        name.len() + 1,
        0,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(padded(out.len()), 0);
    out.extend_from_slice(data);
    out.resize(padded(out.len()), 0);
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{SLOT_SIZE, SlotError, find_slot, render_slot};
    use crate::parameters::Parameters;

    fn parameters() -> Parameters {
        Parameters {
            version: 1,
            controller: "https://192.0.2.1:8443".into(),
            host: "rack1-7".into(),
            token: "t".repeat(43),
            ca: "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n".into(),
            issued_at: 1_790_000_000,
            network: None,
        }
    }

    #[test]
    fn a_slot_has_its_size_and_gives_the_parameters_back() {
        let slot = render_slot(&parameters()).unwrap();
        assert_eq!(slot.len(), SLOT_SIZE);
        let text = String::from_utf8(slot[132..SLOT_SIZE - 124].to_vec()).unwrap();
        assert_eq!(Parameters::parse(&text).unwrap(), parameters());
    }

    #[test]
    fn the_slot_is_found_at_the_sector_it_begins_at() {
        let mut iso = vec![0; 3 << 20];
        let slot = render_slot(&parameters()).unwrap();
        let offset = 1025 * 2048;
        iso[offset..offset + SLOT_SIZE].copy_from_slice(&slot);
        assert_eq!(find_slot(&mut Cursor::new(iso)).unwrap(), offset as u64);
    }

    #[test]
    fn an_iso_without_a_slot_is_refused() {
        let found = find_slot(&mut Cursor::new(vec![0; 1 << 20]));
        assert!(matches!(found, Err(SlotError::NoSlot)));
    }

    #[test]
    fn too_large_parameters_are_refused_with_what_fits() {
        let mut large = parameters();
        large.ca.push_str(&"x".repeat(SLOT_SIZE));
        let error = render_slot(&large).unwrap_err().to_string();
        assert!(error.contains("65280 are allowed"), "{error}");
    }

    #[test]
    fn parameters_of_no_host_say_so() {
        let error = Parameters::parse(&" ".repeat(100)).unwrap_err().to_string();
        assert!(error.contains("not made for a host"), "{error}");
    }
}
