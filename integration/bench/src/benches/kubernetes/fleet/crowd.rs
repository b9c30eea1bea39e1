//! Many objects at once: made, waited for, removed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use super::super::{LOOK, Rig, text};
use crate::stats::Samples;
use crate::{say, wait};

/// Requests that are made at the same time.
const AT_ONCE: usize = 8;
/// Longest that all of them may take.
const LONGEST: Duration = Duration::from_secs(3600);
/// Longest that the API server may have too much to do.
const BUSY: Duration = Duration::from_secs(120);

/// A kind of objects, and when one is what it should be.
pub(super) struct Crowd {
    pub(super) kind: &'static str,
    pub(super) prefix: &'static str,
    pub(super) object: fn(&str) -> Value,
    pub(super) is_there: fn(&Value) -> bool,
}

impl Crowd {
    fn name(&self, number: usize) -> String {
        format!("{}{number}", self.prefix)
    }

    /// Makes those with the numbers, and gives the seconds from the begin until each was there.
    pub(super) fn make(&self, rig: &Rig<'_>, numbers: std::ops::Range<usize>) -> Result<Samples> {
        let wanted = numbers.len();
        let mut times = BTreeMap::new();
        let begin = Instant::now();
        let mut told = 0;
        let first = numbers.start;
        self.each(
            rig,
            numbers,
            |name| ("POST", rig.path(self.kind), (self.object)(name).to_string()),
            |word, object| {
                let name = text(object, "/metadata/name").unwrap_or_default();
                let ours = name
                    .strip_prefix(self.prefix)
                    .and_then(|number| number.parse::<usize>().ok())
                    .is_some_and(|number| number >= first);
                if ours && word != "DELETED" && (self.is_there)(object) {
                    times
                        .entry(name.to_owned())
                        .or_insert_with(|| begin.elapsed().as_secs_f64());
                }
                progress(&mut told, times.len(), wanted, begin);
                times.len() == wanted
            },
        )?;
        Ok(Samples::new(times.into_values().collect()))
    }

    /// Deletes those with the numbers, and waits until they are gone; gives how long it took.
    pub(super) fn remove(
        &self,
        rig: &Rig<'_>,
        numbers: std::ops::Range<usize>,
    ) -> Result<Duration> {
        let wanted = numbers.len();
        let begin = Instant::now();
        let (mut gone, mut told) = (0, 0);
        self.each(
            rig,
            numbers,
            |name| {
                (
                    "DELETE",
                    format!("{}/{name}", rig.path(self.kind)),
                    String::new(),
                )
            },
            |word, _| {
                gone += usize::from(word == "DELETED");
                progress(&mut told, gone, wanted, begin);
                gone == wanted
            },
        )?;
        Ok(begin.elapsed())
    }

    /// Makes a request for each number, and looks at what changes until it is enough.
    fn each(
        &self,
        rig: &Rig<'_>,
        numbers: std::ops::Range<usize>,
        request: impl Fn(&str) -> (&'static str, String, String) + Sync,
        mut enough: impl FnMut(&str, &Value) -> bool,
    ) -> Result<()> {
        // It is there before the first request, so that nothing is missed.
        let mut watch = rig.follow_all(self.kind)?;
        let (next, failed) = (AtomicUsize::new(numbers.start), AtomicBool::new(false));
        thread::scope(|scope| {
            let work = || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end || failed.load(Ordering::Relaxed) {
                        return anyhow::Ok(());
                    }
                    let (method, path, body) = request(&self.name(number));
                    if let Err(error) = patient(rig, method, &path, &body) {
                        failed.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            };
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            let seen = watch.until(self.kind, LONGEST, |word, object| {
                enough(word, object) || failed.load(Ordering::Relaxed)
            });
            for worker in workers {
                match worker.join() {
                    Ok(done) => done?,
                    Err(_) => bail!("a worker has panicked"),
                }
            }
            seen.map(drop)
        })
    }
}

/// Makes a request, anew where the API server says that it has too much to do.
fn patient(rig: &Rig<'_>, method: &str, path: &str, body: &str) -> Result<()> {
    wait::every(LOOK, "an API server with time", BUSY, || {
        let (status, said) = rig.proxy.request(method, path, body)?;
        match status {
            200..300 => Ok(Some(())),
            429 | 500.. => {
                say(&format!("{method} {path}: {status} {said}"));
                Ok(None)
            }
            _ => bail!("{method} {path}: {status} {said}"),
        }
    })
}

fn progress(told: &mut usize, done: usize, of: usize, begin: Instant) {
    if of >= 1000 && done >= *told + of / 10 {
        *told = done;
        say(&format!(
            "{done} after {:.0} s",
            begin.elapsed().as_secs_f64()
        ));
    }
}
