//! Waiting for conditions. No test sleeps for a fixed time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

/// Deadline for a guest to boot: emulated, on two cores that are shared with other builds.
pub const BOOT: Duration = Duration::from_secs(150);
/// Deadline for what takes no boot.
pub const SHORT: Duration = Duration::from_secs(60);
/// Pause between two looks, and as long as the look took where that is more: looking takes processor that what is waited for needs.
const LOOK: Duration = Duration::from_millis(50);
/// The same once it has taken longer than [`SHORT`].
const LATER: Duration = Duration::from_secs(1);

/// What a look at the world found.
pub enum Seen<T> {
    /// The condition holds.
    Yes(T),
    /// Not yet; this is how things stand.
    NotYet(String),
}

impl Seen<()> {
    /// A condition without a value.
    pub fn when(holds: bool, state: impl Into<String>) -> Self {
        if holds {
            Self::Yes(())
        } else {
            Self::NotYet(state.into())
        }
    }
}

/// Looks again and again until the condition holds. A failed look counts as "not yet".
///
/// # Errors
/// When it does not hold in time; the error holds what was seen last.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<Seen<T>>,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        let looked = Instant::now();
        let last = match look() {
            Ok(Seen::Yes(value)) => return Ok(value),
            Ok(Seen::NotYet(state)) => state,
            Err(error) => format!("error: {error:#}"),
        };
        let waited = begin.elapsed();
        if waited >= deadline {
            bail!(
                "not within {} s: {what}; at last: {last}",
                deadline.as_secs()
            );
        }
        let pause = if waited < SHORT { LOOK } else { LATER };
        thread::sleep(pause.max(looked.elapsed().min(LATER)));
    }
}

/// Waits until a field of an object has a value; `pointer` is a JSON pointer, `get` looks at the object.
///
/// # Errors
/// When it does not get it in time.
pub fn wait_field(
    object: &str,
    pointer: &str,
    wanted: &str,
    deadline: Duration,
    get: impl Fn() -> Result<Value>,
) -> Result<Value> {
    wait_for(
        &format!("{pointer} of {object} is {wanted}"),
        deadline,
        || {
            let value = get()?;
            let found = value.pointer(pointer).cloned().unwrap_or_default();
            Ok(if found == wanted {
                Seen::Yes(value)
            } else {
                Seen::NotYet(format!("{found}; status {}", value["status"]))
            })
        },
    )
}
