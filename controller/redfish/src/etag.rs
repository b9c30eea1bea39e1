//! Which `If-Match` to send, and what to try when the BMC does not like it.

/// The forms of an ETag to try one after another: as given, then strong (a BMC may hand out weak ones and accept strong ones only), then
/// none at all (some compare with something else altogether).
pub(crate) fn ladder(etag: Option<&str>) -> Vec<Option<String>> {
    let Some(etag) = etag else { return vec![None] };
    let mut forms = vec![Some(etag.to_owned())];
    if let Some(strong) = etag.strip_prefix("W/") {
        forms.push(Some(strong.to_owned()));
    }
    forms.push(None);
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_tags_become_strong_then_none() {
        let forms = |etag| {
            let forms = ladder(etag).into_iter();
            forms
                .map(|form| form.unwrap_or_default())
                .collect::<Vec<_>>()
        };
        assert_eq!(forms(Some("W/\"1\"")), ["W/\"1\"", "\"1\"", ""]);
        assert_eq!(forms(Some("\"1\"")), ["\"1\"", ""]);
        assert_eq!(forms(None), [""]);
    }
}
