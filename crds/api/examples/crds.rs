//! Writes the CustomResourceDefinitions to standard output, or as files into the folder given as the only argument.

use std::io::Write;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1);
    for (name, yaml) in catamaran_api::crd::render() {
        match &folder {
            Some(folder) => std::fs::write(Path::new(folder).join(name), yaml)?,
            None => write!(std::io::stdout(), "---\n{yaml}")?,
        }
    }
    Ok(())
}
