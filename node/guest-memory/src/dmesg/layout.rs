//! The text of a VMCOREINFO note: symbols, offsets and sizes of the guest's kernel, as `KEY=VALUE` lines.

use std::collections::BTreeMap;

use super::DmesgError;

/// A note has about 150 lines; one with more is cut.
const MAX_LINES: usize = 1024;

/// A parsed note.
#[derive(Debug)]
pub(super) struct Layout {
    values: BTreeMap<String, String>,
    release: String,
}

impl Layout {
    /// Parses a note's description. Lines that are no `KEY=VALUE` in UTF-8 are passed over.
    pub(super) fn parse(description: &[u8]) -> Result<Layout, DmesgError> {
        let values: BTreeMap<String, String> = description
            .split(|byte| *byte == b'\n' || *byte == 0)
            .filter(|line| !line.is_empty())
            .take(MAX_LINES)
            .filter_map(|line| std::str::from_utf8(line).ok()?.split_once('='))
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .collect();
        let release = values.get("OSRELEASE").cloned().unwrap_or_default();
        if release.is_empty() {
            return Err(DmesgError::Missing {
                release: "(unnamed)".to_owned(),
                key: "OSRELEASE".to_owned(),
            });
        }
        Ok(Layout { values, release })
    }

    pub(super) fn os_release(&self) -> &str {
        &self.release
    }

    /// The build ID, if it looks like one.
    pub(super) fn build_id(&self) -> Option<String> {
        let id = self.values.get("BUILD-ID")?;
        (!id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| id.to_ascii_lowercase())
    }

    /// The kernel wrote when it crashed; it does so only where a crash kernel is loaded.
    pub(super) fn has_crash_time(&self) -> bool {
        self.values.contains_key("CRASHTIME")
    }

    /// The printk ring buffer of kernels from 5.10 on.
    pub(super) fn has_ring(&self) -> bool {
        self.values.contains_key("SYMBOL(prb)")
    }

    pub(super) fn five_levels(&self) -> bool {
        self.number("pgtable_l5_enabled").is_some_and(|n| n != 0)
    }

    /// How far the kernel's image is shifted in physical memory: signed, in two's complement.
    pub(super) fn phys_base(&self) -> u64 {
        self.number("phys_base").unwrap_or_default().cast_unsigned()
    }

    /// The virtual address of the kernel's top page table.
    pub(super) fn page_table(&self) -> Result<u64, DmesgError> {
        self.symbol("init_top_pgt")
            .or_else(|_| self.symbol("swapper_pg_dir"))
    }

    /// `SYMBOL(name)`, hexadecimal.
    pub(super) fn symbol(&self, name: &str) -> Result<u64, DmesgError> {
        let key = format!("SYMBOL({name})");
        let value = self
            .values
            .get(&key)
            .and_then(|v| u64::from_str_radix(v.trim_start_matches("0x"), 16).ok());
        value.ok_or_else(|| self.missing(key))
    }

    /// `OFFSET(name)`, decimal: bytes within a struct.
    pub(super) fn offset(&self, name: &str) -> Result<u64, DmesgError> {
        self.small(format!("OFFSET({name})"))
    }

    /// `SIZE(name)`, decimal: bytes of a struct.
    pub(super) fn size(&self, name: &str) -> Result<u64, DmesgError> {
        self.small(format!("SIZE({name})")).and_then(|size| {
            if size == 0 {
                Err(self.missing(format!("SIZE({name})")))
            } else {
                Ok(size)
            }
        })
    }

    /// A number below 64 KiB: no struct of the kernel's log is larger.
    fn small(&self, key: String) -> Result<u64, DmesgError> {
        let value = self.values.get(&key).and_then(|v| v.parse::<u16>().ok());
        value.map(u64::from).ok_or_else(|| self.missing(key))
    }

    /// `NUMBER(name)`, decimal and signed.
    fn number(&self, name: &str) -> Option<i64> {
        self.values.get(&format!("NUMBER({name})"))?.parse().ok()
    }

    fn missing(&self, key: String) -> DmesgError {
        DmesgError::Missing {
            release: super::escape(self.release.as_bytes()),
            key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_in_their_own_bases() {
        let note = b"OSRELEASE=6.1.0\nBUILD-ID=00Ff\nPAGESIZE=4096\nSYMBOL(prb)=ffffffff82a5c0f8\nOFFSET(a.b)=16\nSIZE(a)=88\n\
            NUMBER(phys_base)=-1048576\nNUMBER(pgtable_l5_enabled)=1\n\0\0";
        let layout = Layout::parse(note).unwrap();
        assert_eq!(layout.os_release(), "6.1.0");
        assert_eq!(layout.build_id().as_deref(), Some("00ff"));
        assert_eq!(layout.symbol("prb").unwrap(), 0xffff_ffff_82a5_c0f8);
        assert_eq!(
            (layout.offset("a.b").unwrap(), layout.size("a").unwrap()),
            (16, 88)
        );
        assert_eq!(layout.phys_base(), 0_u64.wrapping_sub(1 << 20));
        assert!(layout.five_levels() && layout.has_ring() && !layout.has_crash_time());
    }

    #[test]
    fn what_is_missing_or_absurd_is_named() {
        let layout = Layout::parse(
            b"OSRELEASE=6.1.0\nOFFSET(a.b)=70000\nSIZE(a)=0\nSYMBOL(x)=zz\n\xff\xfe=1\n",
        )
        .unwrap();
        for error in [
            layout.offset("a.b"),
            layout.size("a"),
            layout.symbol("x"),
            layout.page_table(),
        ] {
            assert!(
                matches!(error, Err(DmesgError::Missing { .. })),
                "{error:?}"
            );
        }
        assert!(Layout::parse(b"").is_err());
    }
}
