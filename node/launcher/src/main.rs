//! `catamaran-launcher`: owns one virtual machine.
fn main() {}
