//! What the command lines share: tables, output formats, the terminal of a console, local ports, the words of errors. Client only: no server crate
//! is among its dependencies.

pub mod escape;
pub mod forward;
pub mod guest_text;
pub mod output;
pub mod table;
pub mod terminal;

pub use escape::{EscapeFilter, Typed};
pub use forward::{ForwardError, Port};
pub use guest_text::GuestText;
pub use output::{Format, OutputError, say, say_bytes, segment, text};
pub use table::Table;
pub use terminal::{AtEnd, ConsoleEnd, Terminal};

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

/// Age as kubectl shows it: two units at most below a day (`90s`, `5m10s`, `3h4m`, `2d`).
#[must_use]
pub fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (rest_seconds, rest_minutes) = (seconds % 60, minutes % 60);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if rest_seconds != 0 => format!("{minutes}m{rest_seconds}s"),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if rest_minutes != 0 => format!("{hours}h{rest_minutes}m"),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn ages_read_like_kubectl() {
        let said: Vec<_> = [5, 119, 120, 310, 700, 11_000, 30_000, 200_000]
            .into_iter()
            .map(super::age)
            .collect();
        assert_eq!(
            said,
            ["5s", "119s", "2m", "5m10s", "11m", "3h3m", "8h", "2d"]
        );
    }
}
