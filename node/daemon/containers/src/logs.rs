//! Logs of containers: files in CRI's format, `<pod>/logs/<container>/<attempt>.log`, and one older part beside each.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::stream::{self, Stream};
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::sleep;

use crate::Error;

/// A log is put aside when it has this size; with the older part a run keeps at most twice as much.
pub(crate) const MAX_SIZE: u64 = 10 << 20;
/// Longest line that is put together from parts.
const MAX_LINE: usize = 1 << 20;
/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(200);

/// What of a log is wanted.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail: Option<usize>,
    /// Only lines from this time on.
    pub since: Option<Timestamp>,
    /// The run before the newest one.
    pub previous: bool,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When the runtime read it.
    pub time: Timestamp,
    /// Written to standard error.
    pub stderr: bool,
    /// The line without its end. Bytes that are no UTF-8 are replaced.
    pub text: String,
}

impl LogLine {
    /// The line as `kubectl logs` shows it.
    pub fn render(&self, timestamps: bool) -> String {
        if timestamps {
            format!("{} {}", self.time, self.text)
        } else {
            self.text.clone()
        }
    }
}

/// A line of the file; `partial` goes on in the next one.
struct Part {
    line: LogLine,
    partial: bool,
}

/// `2026-11-22T17:19:52.210117582Z stdout F text`
fn parse(bytes: &[u8]) -> Option<Part> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches('\n');
    let mut words = text.splitn(4, ' ');
    let time = words.next()?.parse().ok()?;
    let stderr = match words.next()? {
        "stdout" => false,
        "stderr" => true,
        _ => return None,
    };
    let partial = words.next()?.split(':').any(|tag| tag == "P");
    Some(Part {
        line: LogLine {
            time,
            stderr,
            text: words.next().unwrap_or_default().to_owned(),
        },
        partial,
    })
}

/// Puts parts of long lines together, for each stream on its own.
#[derive(Default)]
struct Joiner {
    open: [Option<LogLine>; 2],
}

impl Joiner {
    fn push(&mut self, part: Part) -> Option<LogLine> {
        let slot = &mut self.open[usize::from(part.line.stderr)];
        let line = match slot.take() {
            Some(mut line) => {
                line.text.push_str(&part.line.text);
                line
            }
            None => part.line,
        };
        if part.partial && line.text.len() < MAX_LINE {
            *slot = Some(line);
            return None;
        }
        Some(line)
    }
}

/// The log file of a container's newest run, or of the one before.
pub(crate) fn find(logs: &Path, container: &str, previous: bool) -> Result<PathBuf, Error> {
    let folder = logs.join(container);
    let number = |path: &Path| {
        path.extension()
            .is_some_and(|extension| extension == "log")
            .then(|| path.file_stem()?.to_str()?.parse::<u32>().ok())
            .flatten()
    };
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((number(&entry.path())?, entry.path())))
        .collect();
    files.sort();
    let file = files
        .into_iter()
        .rev()
        .nth(usize::from(previous))
        .map(|(_, path)| path);
    let which = if previous {
        "previous terminated container"
    } else {
        "container"
    };
    file.ok_or_else(|| Error::NotFound(format!("log of {which} \"{container}\"")))
}

/// The older part of a log.
pub(crate) fn older(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// Whether the run that writes a log has ended; asked when there is nothing more to read.
pub(crate) type Ended = Box<dyn Fn() -> futures::future::BoxFuture<'static, bool> + Send>;

/// Lines of the log at `path`, oldest first.
pub(crate) fn read(
    path: PathBuf,
    options: LogOptions,
    ended: Ended,
) -> impl Stream<Item = Result<LogLine, Error>> + Send {
    let reader = Reader {
        path,
        options,
        ended,
        file: None,
        inode: 0,
        joiner: Joiner::default(),
        line: Vec::new(),
        ready: VecDeque::new(),
        begun: false,
        last: false,
    };
    stream::try_unfold(reader, |mut reader| async move {
        Ok(reader.next().await?.map(|line| (line, reader)))
    })
}

struct Reader {
    path: PathBuf,
    options: LogOptions,
    ended: Ended,
    file: Option<BufReader<File>>,
    inode: u64,
    joiner: Joiner,
    /// Bytes of a line whose end has not been written yet.
    line: Vec<u8>,
    ready: VecDeque<LogLine>,
    begun: bool,
    /// The run has ended: what is there now is all.
    last: bool,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<LogLine>, Error> {
        let path = self.path.clone();
        self.advance()
            .await
            .map_err(Error::file("read the log", path))
    }

    async fn advance(&mut self) -> io::Result<Option<LogLine>> {
        if !self.begun {
            self.begun = true;
            self.begin().await?;
        }
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            if let Some(line) = self.read_line().await? {
                return Ok(Some(line));
            }
            if self.rotated() {
                self.open().await?;
            } else if !self.options.follow || self.last {
                return Ok(None);
            } else {
                self.last = (self.ended)().await;
                if !self.last {
                    sleep(POLL).await;
                }
            }
        }
    }

    /// Reads what is there already, for the sake of `tail`.
    async fn begin(&mut self) -> io::Result<()> {
        let path = std::mem::replace(&mut self.path, PathBuf::new());
        self.path = older(&path);
        let mut lines = VecDeque::new();
        let tail = self.options.tail;
        let mut keep = |line| {
            lines.push_back(line);
            if tail.is_some_and(|tail| lines.len() > tail) {
                lines.pop_front();
            }
        };
        if self.open().await.is_ok() {
            while let Some(line) = self.read_line().await? {
                keep(line);
            }
        }
        self.path = path;
        self.open().await?;
        if tail.is_some() {
            while let Some(line) = self.read_line().await? {
                keep(line);
            }
        }
        self.ready = lines;
        Ok(())
    }

    async fn open(&mut self) -> io::Result<()> {
        let file = File::open(&self.path).await?;
        self.inode = file.metadata().await?.ino();
        self.file = Some(BufReader::new(file));
        self.line.clear();
        Ok(())
    }

    fn rotated(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|data| data.ino() != self.inode)
    }

    /// The next whole line that is wanted; `None` at the end of what has been written.
    async fn read_line(&mut self) -> io::Result<Option<LogLine>> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        loop {
            file.read_until(b'\n', &mut self.line).await?;
            if self.line.last() != Some(&b'\n') {
                return Ok(None);
            }
            let part = parse(&self.line);
            self.line.clear();
            if let Some(line) = part.and_then(|part| self.joiner.push(part))
                && self.options.since.is_none_or(|since| line.time >= since)
            {
                return Ok(Some(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};

    use super::*;

    fn line(second: u32, text: &str) -> String {
        format!("2026-01-01T00:00:{second:02}.000000001Z stdout F {text}\n")
    }
    fn ended(yes: bool) -> Ended {
        Box::new(move || futures::future::ready(yes).boxed())
    }
    async fn texts(path: &Path, options: LogOptions) -> Vec<String> {
        read(path.to_owned(), options, ended(true))
            .map_ok(|line| line.text)
            .try_collect()
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn tail_and_since_choose_lines_across_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(older(&path), line(1, "a") + &line(2, "b")).unwrap();
        std::fs::write(&path, line(3, "c") + &line(4, "d")).unwrap();
        assert_eq!(
            texts(&path, LogOptions::default()).await,
            ["a", "b", "c", "d"]
        );
        assert_eq!(
            texts(
                &path,
                LogOptions {
                    tail: Some(3),
                    ..LogOptions::default()
                }
            )
            .await,
            ["b", "c", "d"]
        );
        let since = Some("2026-01-01T00:00:03Z".parse().unwrap());
        assert_eq!(
            texts(
                &path,
                LogOptions {
                    since,
                    ..LogOptions::default()
                }
            )
            .await,
            ["c", "d"]
        );
        assert_eq!(
            texts(
                &path,
                LogOptions {
                    tail: Some(0),
                    ..LogOptions::default()
                }
            )
            .await,
            Vec::<String>::new()
        );
    }

    #[tokio::test]
    async fn parts_of_a_line_are_put_together_for_each_stream() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let time = "2026-01-01T00:00:00Z";
        std::fs::write(&path, format!("{time} stdout P one \n{time} stderr P E\n{time} stdout F two\n{time} stderr F rr\nnot a line\n{time} stdout F\n")).unwrap();
        assert_eq!(
            texts(&path, LogOptions::default()).await,
            ["one two", "Err", ""]
        );
    }

    #[tokio::test]
    async fn a_followed_log_goes_on_over_a_rotation_until_the_run_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        std::fs::write(&path, line(1, "a")).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ended: Ended = {
            let over = over.clone();
            Box::new(move || futures::future::ready(over.load(Ordering::SeqCst)).boxed())
        };
        let mut lines = Box::pin(read(
            path.clone(),
            LogOptions {
                follow: true,
                ..LogOptions::default()
            },
            ended,
        ));
        assert_eq!(lines.next().await.unwrap().unwrap().text, "a");
        let mut old = std::fs::File::options().append(true).open(&path).unwrap();
        std::fs::rename(&path, older(&path)).unwrap();
        old.write_all(line(2, "b").as_bytes()).unwrap();
        std::fs::write(&path, line(3, "c")).unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap().text, "b");
        assert_eq!(lines.next().await.unwrap().unwrap().text, "c");
        over.store(true, Ordering::SeqCst);
        assert!(lines.next().await.is_none());
    }
}
