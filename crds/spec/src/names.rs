//! What Kubernetes calls a name, and small text checks.

/// What a DNS label is, in the words of Kubernetes.
pub(crate) const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
/// What a DNS subdomain is, in the words of Kubernetes.
pub(crate) const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
/// What a path in an image is.
pub(crate) const PATH: &str =
    "must be an absolute path without '..', control characters or more than 1024 bytes";

/// A DNS label of at most 63 characters.
pub(crate) fn is_label(text: &str) -> bool {
    let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= 63
        && edge(text.bytes().next())
        && edge(text.bytes().last())
        && text
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

/// Labels with dots, at most 253 characters.
pub(crate) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Letters, digits, `-` and `_`.
pub(crate) fn is_device_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
}

/// An absolute path that cannot leave its root.
pub(crate) fn is_safe_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 1024
        && !text.chars().any(char::is_control)
        && text.split('/').all(|part| part != "..")
}

/// A PCI address `dddd:bb:ss.f`.
pub(crate) fn is_pci_address(text: &str) -> bool {
    let shape = ["xxxx:xx:xx.x"];
    text.len() == shape[0].len()
        && text.chars().zip(shape[0].chars()).all(|(c, s)| {
            if s == 'x' {
                c.is_ascii_hexdigit()
            } else {
                c == s
            }
        })
        && text.ends_with(|c: char| ('0'..='7').contains(&c))
}
