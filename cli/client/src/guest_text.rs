//! What a guest said, on the user's terminal.
//!
//! A log is lines. Colours and what writes a line anew stay; whatever else drives a terminal goes: a question (where is the cursor? who are you?)
//! would be answered into the user's shell, and modes would stay behind. Bytes that go to a file or a pipe are left as they are.

use std::io::{self, IsTerminal, Write};

use vte::{Params, Parser, Perform};

/// Passes on what guests say, in pieces as they come.
pub struct GuestText<W: Write> {
    out: W,
    /// `None`: the bytes go to no terminal.
    parser: Option<Parser>,
}

impl GuestText<io::Stdout> {
    /// To standard output.
    #[must_use]
    pub fn stdout() -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        Self::new(out, terminal)
    }
}

impl<W: Write> GuestText<W> {
    fn new(out: W, terminal: bool) -> Self {
        Self {
            out,
            parser: terminal.then(Parser::new),
        }
    }

    /// Passes a piece on.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn say(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.parser {
            None => self.out.write_all(piece)?,
            Some(parser) => {
                let mut lines = Lines::default();
                // A sequence ends with its line: one that is never ended would swallow all that follows.
                for part in piece.split_inclusive(|byte| *byte == b'\n') {
                    let Some(line) = part.strip_suffix(b"\n") else {
                        parser.advance(&mut lines, part);
                        continue;
                    };
                    parser.advance(&mut lines, line);
                    *parser = Parser::new();
                    lines.text.push('\n');
                }
                self.out.write_all(lines.text.as_bytes())?;
            }
        }
        self.out.flush()
    }
}

/// What is left of a piece.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Perform for Lines {
    fn print(&mut self, c: char) {
        self.text.push(c);
    }

    fn execute(&mut self, byte: u8) {
        if let b'\n' | b'\r' | b'\t' | 0x08 = byte {
            self.text.push(char::from(byte));
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        // SGR (colours) and EL (erase in line) in their plain forms: the same letters with a prefix are other commands, questions among them.
        if ignore || !intermediates.is_empty() || !matches!(action, 'm' | 'K') {
            return;
        }
        let words: Vec<String> = params
            .iter()
            .map(|parts| {
                let parts: Vec<String> = parts.iter().map(u16::to_string).collect();
                parts.join(":")
            })
            .collect();
        self.text
            .push_str(&format!("\x1b[{}{action}", words.join(";")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pieces: &[&[u8]], terminal: bool) -> Vec<u8> {
        let mut text = GuestText::new(Vec::new(), terminal);
        for piece in pieces {
            text.say(piece).unwrap();
        }
        text.out
    }

    #[test]
    fn questions_to_the_terminal_are_not_asked() {
        let questions: [&[u8]; 12] = [
            b"\x1b[6n",
            b"\x1b[5n",
            b"\x1b[?6n",
            b"\x1b[c",
            b"\x1b[>0c",
            b"\x1b[>q",
            b"\x1b[?2026$p",
            b"\x1b[?u",
            b"\x1b[?4m",
            b"\x1b]11;?\x07",
            b"\x1bP+q544e\x1b\\",
            b"\x05\x1bZ",
        ];
        for question in questions {
            assert_eq!(
                told(&[b"login", question, b": "], true),
                b"login: ",
                "{}",
                question.escape_ascii()
            );
        }
    }

    #[test]
    fn a_question_in_two_pieces_is_not_asked_either() {
        assert_eq!(told(&[b"a\x1b[", b"6", b"nb"], true), b"ab");
    }

    #[test]
    fn a_sequence_without_an_end_hides_its_own_line_only() {
        for begun in ["\x1b]0;", "\x1bP", "\x1b_", "\x1b["] {
            let begun = format!("{begun}{}", "x".repeat(5000));
            let said = told(&[begun.as_bytes(), b"\nKernel panic\n"], true);
            let said = String::from_utf8(said).unwrap();
            assert!(said.ends_with("\nKernel panic\n"), "{said:?}");
        }
    }

    #[test]
    fn colours_and_lines_that_are_written_anew_stay() {
        let text = "\x1b[1;31mfailed\x1b[0m \x1b[38:2:1:2:3mé\x1b[0m\r\x1b[0K\tok\r\n";
        let (start, end) = text.as_bytes().split_at(text.find('é').unwrap() + 1);
        assert_eq!(told(&[start, end], true), text.as_bytes());
    }

    #[test]
    fn the_screen_and_its_modes_are_left_alone() {
        assert_eq!(
            told(&[b"\x1bc\x1b[2J\x1b[H\x1b[?1004hSeaBIOS\x07\n"], true),
            b"SeaBIOS\n"
        );
    }

    #[test]
    fn what_goes_to_no_terminal_stays_as_it_is() {
        let bytes = b"\x1b[6n\xff\x00";
        assert_eq!(told(&[bytes], false), bytes);
    }
}
