//! Text from a guest, made safe to print, and the tail of a log as a person expects it.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::KernelLog;

/// Makes a guest's bytes safe to print: what is no UTF-8, control characters (but newline and tab), and characters that turn the
/// direction of text around are written as `\x1b` or `\u{202e}`.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            // Writing to a String cannot fail.
            let _ = match c {
                '\n' | '\t' => out.write_char(c),
                c if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c)),
                c if c.is_control() || turns_text(c) => write!(out, "\\u{{{:x}}}", u32::from(c)),
                c => out.write_char(c),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Characters that are not seen themselves and change how others are shown.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The newest lines of a log that fit into `max_bytes`, as `dmesg` prints them: `[    1.234567] text`, each line of a record of
/// several lines with its time.
#[must_use]
pub fn render_tail(log: &KernelLog, max_bytes: usize) -> String {
    let mut lines = VecDeque::new();
    let mut size = 0_usize;
    'records: for record in log.records.iter().rev() {
        let time = format!(
            "[{:5}.{:06}]",
            record.ts_nsec / 1_000_000_000,
            record.ts_nsec % 1_000_000_000 / 1_000
        );
        for line in record.text.trim_end_matches('\n').split('\n').rev() {
            // Once more, since a log may have come over a wire from a sandbox that is not trusted.
            let line = format!("{time} {}\n", escape(line.as_bytes()));
            size = size.saturating_add(line.len());
            if size > max_bytes {
                break 'records;
            }
            lines.push_front(line);
        }
    }
    lines.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::*;

    #[test]
    fn plain_text_stays_and_control_characters_are_escaped() {
        assert_eq!(escape("Linux läuft\tgut".as_bytes()), "Linux läuft\tgut");
        assert_eq!(
            escape(b"\x1b[31mred\r\0\x7f"),
            "\\x1b[31mred\\x0d\\x00\\x7f"
        );
        assert_eq!(escape(b"a\xff\xfeb"), "a\\xff\\xfeb");
        assert_eq!(
            escape("\u{9b}31m\u{202e}txt".as_bytes()),
            "\\u{9b}31m\\u{202e}txt"
        );
    }

    fn log() -> KernelLog {
        let record = |ts_nsec, text: &str| Record {
            ts_nsec,
            text: text.to_owned(),
            ..Record::default()
        };
        KernelLog {
            records: vec![
                record(0, "first"),
                record(1_234_567_890, "two\nlines"),
                record(123_456_000_000_000, ""),
            ],
            ..KernelLog::default()
        }
    }

    #[test]
    fn the_tail_looks_like_dmesg() {
        assert_eq!(
            render_tail(&log(), 1000),
            "[    0.000000] first\n[    1.234567] two\n[    1.234567] lines\n[123456.000000] \n"
        );
    }

    #[test]
    fn the_tail_keeps_the_newest_whole_lines() {
        assert_eq!(
            render_tail(&log(), 45),
            "[    1.234567] lines\n[123456.000000] \n"
        );
        assert_eq!(render_tail(&log(), 3), "");
    }

    #[test]
    fn a_log_which_came_escaped_is_not_changed() {
        assert_eq!(escape(escape(b"\x1bx").as_bytes()), "\\x1bx");
    }
}
