//! kubectl plugin.

fn main() {}
