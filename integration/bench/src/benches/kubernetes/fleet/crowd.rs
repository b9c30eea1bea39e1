//! Many objects at once: made, waited for, removed.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::super::{LOOK, Rig, text};
use crate::stats::Samples;
use crate::{say, wait};

/// Requests that are made at the same time.
const AT_ONCE: usize = 8;
/// Longest that all of them may take.
const LONGEST: Duration = Duration::from_secs(3600);
/// Longest that the API server may have too much to do.
pub(super) const BUSY: Duration = Duration::from_secs(120);

/// A kind of objects, and when one is what it should be.
pub(super) struct Crowd {
    pub(super) kind: &'static str,
    pub(super) prefix: &'static str,
    pub(super) object: fn(&str) -> Value,
    pub(super) is_there: fn(&Value) -> bool,
}

impl Crowd {
    /// Makes those with the numbers, and gives the seconds from the begin until each was there.
    pub(super) fn make(&self, rig: &Rig<'_>, numbers: Range<usize>) -> Result<Samples> {
        let (wanted, first) = (numbers.len(), numbers.start);
        let mut times = BTreeMap::new();
        let mut progress = Progress::of(wanted);
        let list = rig.path(self.kind);
        let request = |name: &str| ("POST", list.clone(), (self.object)(name).to_string());
        // One of its own, so that its watch can be ended when nothing more will come.
        let proxy = rig.cluster.proxy()?;
        let end = || proxy.end();
        self.each(rig, numbers, request, end, |failed| {
            // The API server ends the watch of a client that is slow; the next one tells first what there is.
            while times.len() < wanted && !failed.load(Ordering::Relaxed) {
                let mut watch = proxy.watch(&list, "")?;
                let seen = watch.until(self.kind, LONGEST, |word, object| {
                    let name = text(object, "/metadata/name").unwrap_or_default();
                    let number = name.strip_prefix(self.prefix).and_then(|n| n.parse().ok());
                    let ours = number.is_some_and(|number: usize| number >= first);
                    if ours && word != "DELETED" && (self.is_there)(object) {
                        let time = progress.begin.elapsed().as_secs_f64();
                        times.entry(name.to_owned()).or_insert(time);
                    }
                    progress.tell(times.len());
                    times.len() == wanted || failed.load(Ordering::Relaxed)
                });
                if progress.begin.elapsed() > LONGEST {
                    return seen.map(drop);
                }
            }
            Ok(())
        })?;
        Ok(Samples::new(times.into_values().collect()))
    }

    /// Deletes those with the numbers, which are all that there are, and waits until they are gone; gives how long it took.
    pub(super) fn remove(&self, rig: &Rig<'_>, numbers: Range<usize>) -> Result<Duration> {
        let mut progress = Progress::of(numbers.len());
        let list = rig.path(self.kind);
        let request = |name: &str| ("DELETE", format!("{list}/{name}"), String::new());
        self.each(
            rig,
            numbers,
            request,
            || Ok(()),
            |failed| {
                wait::every(LOOK, "end of all", LONGEST, || {
                    let over = failed.load(Ordering::Relaxed);
                    let first = format!("{list}?limit=1");
                    let (status, said) = rig.proxy.request("GET", &first, "")?;
                    if has_too_much_to_do(status) {
                        return Ok(over.then_some(()));
                    }
                    ensure!(status == 200, "GET {first}: {status} {said}");
                    let first: Value = serde_json::from_str(&said)?;
                    let more = first["metadata"]["remainingItemCount"].as_u64();
                    let left = first["items"].as_array().map_or(0, Vec::len)
                        + usize::try_from(more.unwrap_or_default())?;
                    progress.tell(progress.of.saturating_sub(left));
                    Ok((left == 0 || over).then_some(()))
                })
            },
        )?;
        Ok(progress.begin.elapsed())
    }

    /// Makes a request for each number, some at a time, and does something meanwhile. When a request has failed that is ended by `end`.
    fn each(
        &self,
        rig: &Rig<'_>,
        numbers: Range<usize>,
        request: impl Fn(&str) -> (&'static str, String, String) + Sync,
        end: impl Fn() -> Result<()> + Sync,
        meanwhile: impl FnOnce(&AtomicBool) -> Result<()>,
    ) -> Result<()> {
        let (next, failed) = (AtomicUsize::new(numbers.start), AtomicBool::new(false));
        thread::scope(|scope| {
            let work = || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end || failed.load(Ordering::Relaxed) {
                        return anyhow::Ok(());
                    }
                    let (method, path, body) = request(&format!("{}{number}", self.prefix));
                    if let Err(error) = patient(rig, method, &path, &body) {
                        failed.store(true, Ordering::Relaxed);
                        end()?;
                        return Err(error);
                    }
                }
            };
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            let done = meanwhile(&failed);
            failed.fetch_or(done.is_err(), Ordering::Relaxed);
            for worker in workers {
                match worker.join() {
                    Ok(worked) => worked?,
                    Err(_) => bail!("a worker has panicked"),
                }
            }
            done
        })
    }
}

/// Makes a request, anew where the API server says that it has too much to do.
fn patient(rig: &Rig<'_>, method: &str, path: &str, body: &str) -> Result<()> {
    let mut again = false;
    wait::every(LOOK, "an API server with time", BUSY, || {
        let (status, said) = rig.proxy.request(method, path, body)?;
        match status {
            200..300 => Ok(Some(())),
            // Who gives up waiting may have done it all the same.
            404 | 409 if again => Ok(Some(())),
            _ if has_too_much_to_do(status) => {
                say(&format!("{method} {path}: {status} {said}"));
                again = true;
                Ok(None)
            }
            _ => bail!("{method} {path}: {status} {said}"),
        }
    })
}

/// Whether the API server, or the proxy in its name, may do it later.
pub(super) fn has_too_much_to_do(status: u16) -> bool {
    matches!(status, 429 | 500..)
}

/// How far a large crowd is.
struct Progress {
    begin: Instant,
    of: usize,
    told: usize,
}

impl Progress {
    fn of(of: usize) -> Self {
        Self {
            begin: Instant::now(),
            of,
            told: 0,
        }
    }

    fn tell(&mut self, done: usize) {
        if self.of >= 1000 && done >= self.told + self.of / 10 {
            self.told = done;
            let seconds = self.begin.elapsed().as_secs_f64();
            say(&format!("{done} of {} after {seconds:.0} s", self.of));
        }
    }
}
