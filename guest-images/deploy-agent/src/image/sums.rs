//! Files with checksums: a digest alone, or lines as `sha256sum` and its kin write them, plain or with `--tag`. Pure.

use catamaran_deploy_wire::ChecksumKind;
use percent_encoding::percent_decode_str;

/// The digest of the image of that name, as it is in its URL: of that kind, or the longest. In a file of one line it is that line's, whatever name is on it.
#[must_use]
pub fn find<'a>(text: &'a str, name: &str, kind: Option<ChecksumKind>) -> Option<&'a str> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let fits = |digest: &&str| kind.is_none_or(|kind| digest.len() == kind.digits());
    let decoded = |name: &str| percent_decode_str(name).decode_utf8_lossy().into_owned();
    let wanted = decoded(name);
    // Most files have the name as it is on a disk, some as it is in a URL.
    let is = |of: &str| of == name || of == wanted || decoded(of) == wanted;
    let named = lines().filter_map(entry).filter(|(_, of)| is(base(of)));
    let digests = named.map(|(digest, _)| digest);
    if let Some(digest) = digests.filter(fits).max_by_key(|digest| digest.len()) {
        return Some(digest);
    }
    let mut all = lines();
    match (all.next(), all.next()) {
        (Some(only), None) => match entry(only) {
            Some((digest, _)) => Some(digest),
            None => only.split_whitespace().next(),
        },
        _ => None,
    }
}

/// Digest and name of `DIGEST  NAME`, `DIGEST *NAME` or `KIND (NAME) = DIGEST`.
fn entry(line: &str) -> Option<(&str, &str)> {
    if let Some((name, digest)) = line.rsplit_once(") = ") {
        return Some((digest, name.split_once(" (")?.1));
    }
    let (digest, name) = line.split_once(char::is_whitespace)?;
    let name = name.trim_start();
    Some((digest, name.strip_prefix('*').unwrap_or(name)))
}

/// The last part of a path.
fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The name of the file at a URL, as it is there.
#[must_use]
pub fn name(url: &str) -> &str {
    base(url.split(['?', '#']).next().unwrap_or(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_its_name() {
        let gnu = "aaa  other.qcow2\nbbb *./images/disk.qcow2\n";
        assert_eq!(find(gnu, "disk.qcow2", None), Some("bbb"));
        let tagged = "# a comment\nSHA256 (other) = aaa\nSHA512 (disk.qcow2) = bbb\n";
        assert_eq!(find(tagged, "disk.qcow2", None), Some("bbb"));
        assert_eq!(find(gnu, "disk", None), None);
        assert_eq!(find("aaa\nbbb\n", "disk", None), None);
        assert_eq!(find("", "disk", None), None);
    }

    #[test]
    fn names_are_the_same_whether_they_are_percent_encoded_or_not() {
        let text = "aaa  other.img\nbbb *my disk+1.img\nccc  100%25.img\n";
        assert_eq!(find(text, "my%20disk+1.img", None), Some("bbb"));
        assert_eq!(find(text, "my%20disk%2B1.img", None), Some("bbb"));
        assert_eq!(find(text, "100%25.img", None), Some("ccc"));
        assert_eq!(find(text, "my%2Fdisk+1.img", None), None);
        let encoded = "aaa  other.img\nbbb  my%20disk.img\n";
        assert_eq!(find(encoded, "my%20disk.img", None), Some("bbb"));
        assert_eq!(find(encoded, "my disk.img", None), Some("bbb"));
    }

    #[test]
    fn of_several_kinds_the_wanted_one_counts_or_the_strongest() {
        let [md5, sha256, sha512] = ChecksumKind::ALL.map(|kind| "a".repeat(kind.digits()));
        let text =
            format!("MD5 (disk) = {md5}\nSHA512 (disk) = {sha512}\nSHA256 (disk) = {sha256}\n");
        let found = |kind| find(&text, "disk", kind);
        assert_eq!(found(Some(ChecksumKind::Sha256)), Some(sha256.as_str()));
        assert_eq!(found(None), Some(sha512.as_str()));
    }

    #[test]
    fn the_only_line_needs_no_name_of_the_image() {
        for text in [
            "aaa",
            "aaa\n\n",
            "aaa  built-elsewhere.img\n",
            "SHA256 (x) = aaa",
        ] {
            assert_eq!(find(text, "disk.qcow2", None), Some("aaa"), "{text:?}");
        }
    }

    #[test]
    fn a_url_names_a_file() {
        assert_eq!(name("https://a/b/disk.qcow2?token=x/y"), "disk.qcow2");
    }
}
