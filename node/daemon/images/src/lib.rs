//! Content-addressed cache of container disks.
