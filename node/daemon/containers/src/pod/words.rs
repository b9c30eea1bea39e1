//! Names: what Kubernetes allows where.

use super::problem::Problem;

const LABEL: &str =
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', start and end with an alphanumeric character, and be at most 63 characters";
const SUBDOMAIN: &str =
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', start and end with an alphanumeric character, and be at most 253 characters";

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|part| is_label(part) || (part.len() > 63 && part.len() <= 253 && is_label(&part[..63])))
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
        problems.push(Problem::invalid(field, value, "a name of an environment variable holds printable ASCII characters other than '='"));
    }
}

/// A number that must lie between two others.
pub(super) fn range(field: &str, value: i64, low: i64, high: i64, problems: &mut Vec<Problem>) {
    if !(low..=high).contains(&value) {
        problems.push(Problem::invalid(field, value, format_args!("must be between {low} and {high}, inclusive")));
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
