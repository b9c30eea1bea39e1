//! Names: what Kubernetes allows where.

use super::problem::Problem;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', start and end with an alphanumeric character, and be at most 63 characters";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', start and end with an alphanumeric character, and be at most 253 characters";

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|part| {
            is_label(part) || (part.len() > 63 && part.len() <= 253 && is_label(&part[..63]))
        })
}

/// A required RFC 1123 label.
pub(super) fn label(field: &str, value: &str, problems: &mut Vec<Problem>) {
    if value.is_empty() {
        problems.push(Problem::required(field));
    } else if !is_label(value) {
        problems.push(Problem::invalid(field, value, LABEL));
    }
}

/// A required RFC 1123 subdomain.
pub(super) fn subdomain(field: &str, value: &str, problems: &mut Vec<Problem>) {
    if value.is_empty() {
        problems.push(Problem::required(field));
    } else if !is_subdomain(value) {
        problems.push(Problem::invalid(field, value, SUBDOMAIN));
    }
}

/// The name of an environment variable.
pub(super) fn variable(field: &str, value: &str, problems: &mut Vec<Problem>) {
    if value.is_empty() {
        problems.push(Problem::required(field));
    } else if value.contains('=') || !value.bytes().all(|b| (b' '..0x7f).contains(&b)) {
        problems.push(Problem::invalid(
            field,
            value,
            "a name of an environment variable holds printable ASCII characters other than '='",
        ));
    }
}

/// Whether it is a reference of an image: `[registry[:port]/]name[:tag][@sha256:…]`.
pub(super) fn is_image(text: &str) -> bool {
    let (rest, digest) = text
        .split_once('@')
        .map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    let (folders, last) = rest
        .rsplit_once('/')
        .map_or((None, rest), |(folders, last)| (Some(folders), last));
    let (last, tag) = last
        .split_once(':')
        .map_or((last, None), |(last, tag)| (last, Some(tag)));
    let tag_fits = |tag: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        !tag.is_empty()
            && tag.len() <= 128
            && tag.bytes().all(inner)
            && !tag.starts_with(['.', '-'])
    };
    let digest_fits = |digest: &str| {
        digest.strip_prefix("sha256:").is_some_and(|hash| {
            hash.len() == 64
                && hash
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
    };
    let part_fits = |part: &str| {
        let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|b| edge(*b))
            && bytes.last().is_some_and(|b| edge(*b))
            && bytes.iter().all(|b| edge(*b) || b"._-".contains(b))
    };
    let host_fits = |host: &str| {
        let (name, port) = host
            .split_once(':')
            .map_or((host, None), |(name, port)| (name, Some(port)));
        let name_fits = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
        name_fits && port.is_none_or(|port| port.parse::<u16>().is_ok())
    };
    let mut parts = folders
        .into_iter()
        .flat_map(|folders| folders.split('/'))
        .enumerate();
    let is_host = |host: &str| host == "localhost" || host.contains(['.', ':']);
    let folders_fit = parts.all(|(index, part)| {
        if index == 0 && is_host(part) {
            host_fits(part)
        } else {
            part_fits(part)
        }
    });
    folders_fit && part_fits(last) && tag.is_none_or(tag_fits) && digest.is_none_or(digest_fits)
}

/// A number that must lie between two others.
pub(super) fn range(field: &str, value: i64, low: i64, high: i64, problems: &mut Vec<Problem>) {
    if !(low..=high).contains(&value) {
        problems.push(Problem::invalid(
            field,
            value,
            format_args!("must be between {low} and {high}, inclusive"),
        ));
    }
}

/// A relative path without `..`.
pub(super) fn local_path(field: &str, value: &str, problems: &mut Vec<Problem>) {
    if value.is_empty() {
        problems.push(Problem::required(field));
    } else if value.starts_with('/') {
        problems.push(Problem::invalid(field, value, "must be a relative path"));
    } else if value.split('/').any(|part| part == "..") {
        problems.push(Problem::invalid(field, value, "must not contain '..'"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_images_are_recognised() {
        let digest = format!("app@sha256:{}", "0a".repeat(32));
        for good in [
            "busybox",
            "busybox:1.36",
            "team/app",
            "reg.test:5000/a/b-c/d__e:v1.0_x",
            "localhost/x",
            "127.0.0.1:5000/x",
            "Reg.Test/x",
            digest.as_str(),
        ] {
            assert!(is_image(good), "{good}");
        }
        for bad in [
            "",
            "UPPER/case:1",
            "app:",
            "app:.1",
            "a//b",
            "/a",
            "a/",
            "a b",
            "app@sha256:12",
            "reg.test:port/x",
            "-a",
            "a:b:c",
        ] {
            assert!(!is_image(bad), "{bad}");
        }
    }

    #[test]
    fn labels_and_subdomains_are_those_of_rfc_1123() {
        for good in ["a", "web-1", "0"] {
            assert!(is_label(good) && is_subdomain(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
        assert!(is_subdomain("web.example.com"));
        assert!(!is_subdomain("web..com") && !is_subdomain(&"a.".repeat(200)));
    }
}
