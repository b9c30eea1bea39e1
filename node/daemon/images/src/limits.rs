//! Upper bounds on everything that a registry, an image or a layer can make the daemon do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits of a store. Sizes are bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Limits {
    /// Largest manifest, index or config (default 4 MiB, as in common registries).
    pub manifest_size: u64,
    /// Most layers in a manifest (default 128).
    pub layers: usize,
    /// Largest sum of the compressed layers of an image (default 64 GiB).
    pub image_size: u64,
    /// Largest disk file taken from an image, apparent size (default 256 GiB).
    pub disk_size: u64,
    /// Largest virtual size of a disk (default 16 TiB).
    pub virtual_size: u64,
    /// Most entries in one layer (default 1 000 000).
    pub entries: u64,
    /// Largest number of bytes that a compressed byte may become (default 250)…
    pub expansion: u64,
    /// …above this many uncompressed bytes, below which the ratio is not looked at (default 1 GiB).
    pub expansion_floor: u64,
    /// Bytes that a pull must leave free on the store's file system (default 64 MiB).
    pub keep_free: u64,
    /// Address space of the worker process (default 512 MiB).
    pub worker_memory: u64,
    /// Longest run of the worker for one layer, wall clock (default 30 minutes).
    pub worker_time: Duration,
    /// Longest whole pull of one image (default 2 hours).
    pub pull_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        const GIB: u64 = 1 << 30;
        Self {
            manifest_size: 4 * MIB,
            layers: 128,
            image_size: 64 * GIB,
            disk_size: 256 * GIB,
            virtual_size: 16 * 1024 * GIB,
            entries: 1_000_000,
            expansion: 250,
            expansion_floor: GIB,
            keep_free: 64 * MIB,
            worker_memory: 512 * MIB,
            worker_time: Duration::from_secs(30 * 60),
            pull_time: Duration::from_secs(2 * 60 * 60),
        }
    }
}

impl Limits {
    /// Most bytes that a layer of `compressed` bytes may expand to.
    pub(crate) fn layer_expanded(&self, compressed: u64) -> u64 {
        let by_ratio = compressed
            .saturating_mul(self.expansion)
            .max(self.expansion_floor);
        // Some room for what surrounds the disk in its layer.
        by_ratio.min(self.disk_size.saturating_add(self.expansion_floor))
    }
}

/// Bytes in words: `3.5 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut rest = bytes;
    while rest >= 10 * 1024 && unit + 1 < UNITS.len() {
        rest /= 1024;
        unit += 1;
    }
    format!("{rest} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_layer_may_expand_to_the_floor_and_a_large_one_by_the_ratio() {
        let limits = Limits::default();
        assert_eq!(limits.layer_expanded(1000), 1 << 30);
        assert_eq!(limits.layer_expanded(10 << 20), 2500 << 20);
        assert!(limits.layer_expanded(u64::MAX) <= limits.disk_size + limits.expansion_floor);
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(human(12), "12 B");
        assert_eq!(human(4 << 20), "4096 KiB");
        assert_eq!(human(64 << 30), "64 GiB");
    }
}
