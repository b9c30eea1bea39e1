//! Where a launcher finds things: the sandbox's paths, or other folders when it runs outside of one (tests, demos).

use std::path::{Path, PathBuf};

use catamaran_plan::paths;

/// The folders that stand for `/vm` and `/state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    run: PathBuf,
    state: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            run: paths::RUN.into(),
            state: paths::STATE.into(),
        }
    }
}

impl Places {
    /// Other folders in place of `/vm` and `/state`.
    #[must_use]
    pub fn new(run: PathBuf, state: PathBuf) -> Self {
        Self { run, state }
    }

    /// Where a path of the sandbox is.
    #[must_use]
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        if let Ok(rest) = path.strip_prefix(paths::RUN) {
            self.run.join(rest)
        } else if let Ok(rest) = path.strip_prefix(paths::STATE) {
            self.state.join(rest)
        } else {
            path.to_owned()
        }
    }

    /// The plan that was started.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.run.join("plan.json")
    }

    /// The QEMU that was started.
    #[must_use]
    pub fn started(&self) -> PathBuf {
        self.run.join("started.json")
    }

    /// What was plugged in since the start.
    #[must_use]
    pub fn plugged(&self) -> PathBuf {
        self.run.join("plugged.json")
    }

    /// How the machine ended.
    #[must_use]
    pub fn end(&self) -> PathBuf {
        self.run.join("end.json")
    }

    /// Resolved hardware of the last plan.
    #[must_use]
    pub fn hardware(&self) -> PathBuf {
        self.state.join("hardware.json")
    }

    /// Saved memory.
    #[must_use]
    pub fn memory(&self) -> PathBuf {
        self.state.join("memory.save")
    }

    /// Digest of the spec that the saved memory belongs to.
    #[must_use]
    pub fn memory_of(&self) -> PathBuf {
        self.state.join("memory.json")
    }
}
