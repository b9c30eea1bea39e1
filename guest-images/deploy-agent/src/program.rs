//! Calls of the programs in the initramfs, each with a deadline.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A program that did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not there, or could not be talked to.
    #[error("{program} can't be run")]
    Io {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended badly.
    #[error("{command} ended with {status}: {said}")]
    Ended {
        /// Program and arguments.
        command: String,
        /// Its status, in words.
        status: String,
        /// The end of what it said.
        said: String,
    },
    /// It did not end.
    #[error("{command} did not end within {seconds} s and was stopped")]
    Overdue {
        /// Program and arguments.
        command: String,
        /// The deadline.
        seconds: u64,
    },
}

/// Longest that a program may take.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs a program to its end; returns what it printed.
///
/// # Errors
/// See [`ProgramError`].
pub fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, ProgramError> {
    let command = || format!("{program} {}", arguments.join(" "));
    let io = |source| ProgramError::Io {
        program: program.to_owned(),
        source,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io)?;
    if let Some(mut pipe) = child.stdin.take() {
        // Who does not read it says why by its status.
        let _ = pipe.write_all(input.as_bytes());
    }
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io(std::io::ErrorKind::BrokenPipe.into()));
    };
    let printed = thread::spawn(move || drain(&mut out));
    let complained = thread::spawn(move || drain(&mut err));
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(io)? {
            break status;
        }
        if begin.elapsed() > DEADLINE {
            let _ = child.kill();
            let _ = child.wait();
            return Err(ProgramError::Overdue {
                command: command(),
                seconds: DEADLINE.as_secs(),
            });
        }
        thread::sleep(Duration::from_millis(5));
    };
    let printed = printed.join().unwrap_or_default();
    let complained = complained.join().unwrap_or_default();
    if status.success() {
        return Ok(printed);
    }
    let said = format!("{printed}\n{complained}");
    Err(ProgramError::Ended {
        command: command(),
        status: status.to_string(),
        said: said.split_whitespace().collect::<Vec<_>>().join(" "),
    })
}

fn drain(from: &mut impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is still worth showing.
    let _ = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn a_program_is_given_its_input_and_its_output_is_returned() {
        assert_eq!(run("cat", &[], "text").unwrap(), "text");
    }

    #[test]
    fn a_failure_tells_command_status_and_words() {
        let error = run("sh", &["-c", "echo no luck >&2; exit 3"], "").unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh -c echo no luck >&2; exit 3 ended with exit status: 3: no luck"
        );
    }
}
