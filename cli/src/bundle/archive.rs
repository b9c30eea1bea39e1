//! A `tar.gz` in memory. Pure but for the clock that is passed in.

use std::io;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use tar::{Builder, Header};

/// Folder that everything is in.
const FOLDER: &str = "catamaran-bundle";

/// The archive.
pub(super) struct Archive;

impl Archive {
    /// Of files: path and content.
    pub(super) fn of(files: &[(String, String)], now: Timestamp) -> io::Result<Vec<u8>> {
        let encoder = GzEncoder::new(Vec::new(), Compression::default());
        let mut builder = Builder::new(encoder);
        for (path, content) in files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(u64::try_from(now.as_second()).unwrap_or(0));
            builder.append_data(&mut header, format!("{FOLDER}/{path}"), content.as_bytes())?;
        }
        builder.into_inner()?.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let long = format!("objects/pods/{}.yaml", "x".repeat(200));
        let files = [("why.txt", "it runs\n"), (&long, "kind: Pod\n")];
        let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
        let bytes = Archive::of(&files, Timestamp::UNIX_EPOCH).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((path.replace("catamaran-bundle/", ""), text));
        }
        assert_eq!(found, files);
    }
}
