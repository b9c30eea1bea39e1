//! Words of what makes objects: how far it goes, and how it tells.

use catamaran_client::Format;
use clap::{Args, ValueEnum};

use crate::error::Error;

/// How much is made, and how it is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct Making {
    /// Create nothing: `client` only prints, `server` has the server check it
    #[arg(long, value_enum, value_name = "client|server", num_args = 0..=1, require_equals = true,
          default_missing_value = "client")]
    pub(crate) dry_run: Option<DryRun>,
    /// json, yaml or name
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// How far it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    /// Nobody is asked.
    Client,
    /// The server checks it.
    Server,
}

impl Making {
    /// The format; one that makes no sense here is an error.
    pub(crate) fn format(&self) -> Result<Format, Error> {
        match self.output.unwrap_or_default() {
            Format::Wide => Err(Error::Usage(
                "unknown output format \"wide\": allowed are json, yaml and name".to_owned(),
            )),
            format => Ok(format),
        }
    }

    /// The line that tells of an object; just its name where that is the format.
    pub(crate) fn line(&self, object: &str) -> String {
        let note = match (self.output, self.dry_run) {
            (Some(Format::Name), _) => "",
            (_, None) => " created",
            (_, Some(DryRun::Client)) => " created (dry run)",
            (_, Some(DryRun::Server)) => " created (server dry run)",
        };
        format!("{object}{note}\n")
    }
}
