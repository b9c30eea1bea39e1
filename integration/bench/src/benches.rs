//! The benchmarks, one module each.

pub(crate) mod crowd;
pub(crate) mod daemon;
pub(crate) mod enrolment;
pub(crate) mod hosts;
pub(crate) mod kubernetes;
pub(crate) mod managed;
pub(crate) mod single;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{self, Pid};
use crate::wait;

/// How long a guest may take to boot on a busy machine without KVM.
pub(crate) const BOOT: Duration = Duration::from_secs(300);

/// Bytes as MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The smallest program there is: the floor of every process's memory. Killed on drop.
pub(crate) struct Sleeper(Child);

impl Sleeper {
    pub(crate) fn start() -> Result<Sleeper> {
        let child = Command::new("sleep")
            .arg("86400")
            .stdin(Stdio::null())
            .spawn()
            .context("sleep")?;
        let sleeper = Sleeper(child);
        let pid = sleeper.pid()?;
        wait::until("sleeping process", Duration::from_secs(10), || {
            Ok(process::name(pid)
                .is_some_and(|name| name == "sleep")
                .then_some(()))
        })?;
        Ok(sleeper)
    }

    pub(crate) fn pss(&self) -> Result<f64> {
        Ok(mib(process::pss(self.pid()?)?))
    }

    pub(crate) fn rss(&self) -> Result<f64> {
        Ok(mib(process::rss(self.pid()?)?))
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::try_from(self.0.id())?)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
