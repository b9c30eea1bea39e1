//! The table of fields, read from `fields.tsv`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use super::Context;

/// Pattern that the spec of an instance begins with; fields of a VM itself begin with `vm`.
pub(super) const INSTANCE: &str = "";

/// Pattern that the spec of an instancetype begins with; no field has such a name.
pub(crate) const INSTANCETYPE: &str = "@instancetype";
/// Pattern that the spec of a preference begins with.
pub(crate) const PREFERENCE: &str = "@preference";

/// Pattern that an annotation of an instance begins with.
const ANNOTATION: &str = "@annotation";

/// What happens to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Carried out; a test reads its effect.
    Supported,
    /// Accepted with a warning: harmless, and without effect.
    Accepted,
    /// Refused by name.
    Refused,
}

impl State {
    fn parse(word: &str) -> Self {
        match word {
            "supported" => Self::Supported,
            "accepted" => Self::Accepted,
            _ => Self::Refused,
        }
    }

    /// The word of the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
        }
    }
}

/// One field.
#[derive(Debug, Clone)]
pub struct Row {
    /// Path from the instance's spec, or behind `vm.`, `@instancetype.` or `@preference.` from the spec of such an object; list elements as `[]`.
    /// Behind `@annotation.` the name of an annotation.
    pub path: &'static str,
    /// Everything below shares this row.
    pub whole: bool,
    /// State under `play`.
    pub play: State,
    /// State on Kubernetes.
    pub cluster: State,
    /// Why it is not supported; empty where it is.
    pub reason: &'static str,
    /// Tests that read its effect: `golden:NAME` from plan and domain XML, or the name of a test function.
    pub tests: Vec<&'static str>,
}

impl Row {
    /// State in that context.
    #[must_use]
    pub fn state(&self, context: Context) -> State {
        match context {
            Context::Play => self.play,
            Context::Cluster => self.cluster,
        }
    }
}

struct Table {
    rows: Vec<Row>,
    by_path: BTreeMap<&'static str, usize>,
    prefixes: BTreeSet<&'static str>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let rows: Vec<Row> = include_str!("fields.tsv")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(row)
        .collect();
    let by_path = rows
        .iter()
        .enumerate()
        .map(|(at, row)| (row.path, at))
        .collect();
    let mut prefixes = BTreeSet::from([INSTANCE]);
    for row in &rows {
        prefixes.extend(
            row.path
                .match_indices('.')
                .map(|(dot, _)| row.path[..dot].trim_end_matches("[]")),
        );
        prefixes.extend(row.path.match_indices("[]").map(|(at, _)| &row.path[..at]));
    }
    Table {
        rows,
        by_path,
        prefixes,
    }
});

/// `path play cluster tests reason`, separated by tabs.
fn row(line: &'static str) -> Row {
    let mut columns = line.split('\t');
    let mut column = || columns.next().unwrap_or_default();
    let path = column();
    let (play, cluster) = (State::parse(column()), State::parse(column()));
    let tests = column()
        .split(',')
        .filter(|t| !t.is_empty() && *t != "-")
        .collect();
    let whole = path.ends_with(".**");
    Row {
        path: path.trim_end_matches(".**"),
        whole,
        play,
        cluster,
        reason: column(),
        tests,
    }
}

/// The whole table, in the order of the file.
#[must_use]
pub fn rows() -> &'static [Row] {
    &TABLE.rows
}

/// The row of exactly that pattern.
pub(super) fn find(pattern: &str) -> Option<&'static Row> {
    TABLE.by_path.get(pattern).map(|at| &TABLE.rows[*at])
}

/// The row of an annotation.
pub(super) fn annotation(key: &str) -> Option<&'static Row> {
    find(&format!("{ANNOTATION}.{key}"))
}

/// Whether rows stand below that pattern.
pub(super) fn is_prefix(pattern: &str) -> bool {
    TABLE.prefixes.contains(pattern)
}

/// The pattern of a field below; the spec of a VM's template is the spec of an instance.
pub(super) fn child(pattern: &str, name: &str) -> String {
    match (pattern, name) {
        ("vm.template", "spec") => INSTANCE.to_owned(),
        (INSTANCE, name) => name.to_owned(),
        (pattern, name) => format!("{pattern}.{name}"),
    }
}
