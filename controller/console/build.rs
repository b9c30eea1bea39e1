//! Builds the crate again when the web files have been built.

fn main() {
    println!("cargo::rerun-if-changed=dist");
}
