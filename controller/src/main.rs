//! Maps VirtualMachine resources to pods, restarts and bare metal.

fn main() {}
