//! Ctrl+] (and Ctrl+5, the same byte) leaves a console.

/// The escape byte.
const ESCAPE: u8 = 0x1d;
/// What leaves before there is a console: the same, and Ctrl+C.
pub(crate) const LEAVE: [u8; 2] = [ESCAPE, 0x03];

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub enum Typed<'a> {
    /// Bytes for the guest.
    Bytes(&'a [u8]),
    /// The user leaves.
    Leave,
}

/// Looks for the escape byte. Like the peer's clients it counts only at the start of what was read at once: in the middle of pasted
/// text it is a byte like others.
#[derive(Debug, Default)]
pub struct EscapeFilter;

impl EscapeFilter {
    /// Sorts what was read at once.
    #[must_use]
    pub fn sort<'a>(&self, read: &'a [u8]) -> Typed<'a> {
        if read.first() == Some(&ESCAPE) {
            Typed::Leave
        } else {
            Typed::Bytes(read)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_leaves_and_pasted_text_does_not() {
        assert_eq!(EscapeFilter.sort(b"\x1d"), Typed::Leave);
        assert_eq!(EscapeFilter.sort(b"a\x1d"), Typed::Bytes(b"a\x1d"));
    }
}
