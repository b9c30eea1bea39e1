//! What the command lines share: tables, output formats, the terminal of a console, its stream, local ports, the words of errors. Client only: no server crate
//! is among its dependencies.

pub mod escape;
pub mod forward;
pub mod guest_text;
pub mod output;
pub mod table;
pub mod terminal;
pub mod time;
pub mod websocket;

pub use escape::{EscapeFilter, Typed};
pub use forward::{ForwardError, Port};
pub use guest_text::GuestText;
pub use output::{Format, OutputError, say, say_bytes, say_guest, segment, text};
pub use table::Table;
pub use terminal::{AtEnd, ConsoleEnd, Terminal};
pub use time::{age, until};

/// The chain of an error in one line: `could not do x: because y: because z`.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        // Some libraries repeat their cause in their own words.
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = error.source();
    }
    text
}
