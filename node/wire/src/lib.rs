//! Messages between the node daemon and the launchers.
