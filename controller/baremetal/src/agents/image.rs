//! From a host's spec to what the deploy agent writes, and where. Pure.

use catamaran_api::metal3::{Image, RootDeviceHints};
use catamaran_deploy_wire::{self as wire, Checksum, ChecksumKind, Format};

/// The image, or the field that is wrong with it.
pub(super) fn image(image: &Image) -> Result<wire::Image, String> {
    let url = &image.url;
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(format!(
            "spec.image.url: '{url}' can't be fetched; http and https are allowed"
        ));
    }
    Ok(wire::Image {
        url: url.clone(),
        format: format(image)?,
        checksum: checksum(image)?,
        ca: None,
    })
}

/// A file's name tells its format only where it says so: what is called `.img` is of either kind.
fn format(image: &Image) -> Result<Format, String> {
    let path = image.url.split(['?', '#']).next().unwrap_or_default();
    match image.format.as_deref() {
        Some("raw") => Ok(Format::Raw),
        Some("qcow2") => Ok(Format::Qcow2),
        None if path.ends_with(".qcow2") => Ok(Format::Qcow2),
        None if path.ends_with(".raw") => Ok(Format::Raw),
        None => Err(
            "spec.image.format: absent, and the URL does not end in .raw or .qcow2; allowed: raw, qcow2, live-iso"
                .to_owned(),
        ),
        Some(other) => Err(format!(
            "spec.image.format: '{other}' can't be written; allowed: raw, qcow2, live-iso"
        )),
    }
}

fn checksum(image: &Image) -> Result<Checksum, String> {
    const ALLOWED: &str = "allowed: 32 (md5), 64 (sha256) or 128 (sha512) hexadecimal digits, or the http or https URL of a file with them";
    let given = image.checksum.as_deref().unwrap_or_default().trim();
    if given.is_empty() {
        return Err(format!("spec.image.checksum: absent; {ALLOWED}"));
    }
    let kind = match image.checksum_type.as_deref() {
        None | Some("" | "auto") => None,
        Some("md5") => Some(ChecksumKind::Md5),
        Some("sha256") => Some(ChecksumKind::Sha256),
        Some("sha512") => Some(ChecksumKind::Sha512),
        Some(other) => {
            return Err(format!(
                "spec.image.checksumType: '{other}'; allowed: md5, sha256, sha512, auto"
            ));
        }
    };
    if given.starts_with("http://") || given.starts_with("https://") {
        let value = given.to_owned();
        return Ok(Checksum { kind, value });
    }
    let Some(kind) = ChecksumKind::of(given, kind) else {
        return Err(format!(
            "spec.image.checksum: '{given}' has {} characters, and spec.image.checksumType is '{}'; {ALLOWED}",
            given.len(),
            kind.map_or_else(|| "auto".to_owned(), |kind| kind.to_string())
        ));
    };
    Ok(Checksum {
        kind: Some(kind),
        value: given.to_ascii_lowercase(),
    })
}

/// Which disk.
pub(super) fn hints(given: Option<&RootDeviceHints>) -> Result<wire::RootDeviceHints, String> {
    let Some(given) = given else {
        return Ok(wire::RootDeviceHints::default());
    };
    let RootDeviceHints {
        device_name,
        hctl,
        min_size_gigabytes,
        model,
        rotational,
        serial_number,
        vendor,
        wwn,
        wwn_vendor_extension,
        wwn_with_extension,
    } = given.clone();
    let min_size_gigabytes = min_size_gigabytes.map(|size| {
        u64::try_from(size).map_err(|_| {
            format!("spec.rootDeviceHints.minSizeGigabytes: '{size}'; 0 and more are allowed")
        })
    });
    // Clients send empty texts for what they do not give.
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(wire::RootDeviceHints {
        device_name: text(device_name),
        hctl: text(hctl),
        model: text(model),
        vendor: text(vendor),
        serial_number: text(serial_number),
        min_size_gigabytes: min_size_gigabytes.transpose()?.filter(|size| *size > 0),
        wwn: text(wwn),
        wwn_with_extension: text(wwn_with_extension),
        wwn_vendor_extension: text(wwn_vendor_extension),
        rotational,
    })
}

#[cfg(test)]
mod tests {
    use catamaran_api::metal3::Image;
    use serde_json::json;

    fn parsed(spec: &serde_json::Value) -> Result<super::wire::Image, String> {
        let mut all = json!({"url": "http://192.0.2.1/a.qcow2", "checksum": "0".repeat(64)});
        for (name, value) in spec.as_object().unwrap() {
            all[name] = value.clone();
        }
        super::image(&serde_json::from_value::<Image>(all).unwrap())
    }

    #[test]
    fn format_and_kind_of_checksum_are_found_where_they_are_plain() {
        let found = parsed(&json!({})).unwrap();
        assert_eq!(found.format, super::Format::Qcow2);
        assert_eq!(found.checksum.kind, Some(super::ChecksumKind::Sha256));
        let found = parsed(
            &json!({"url": "https://a/b.raw", "checksum": "A".repeat(128), "checksumType": "sha512"}),
        );
        let found = found.unwrap();
        assert_eq!(found.format, super::Format::Raw);
        assert_eq!(found.checksum.value, "a".repeat(128));
        assert_eq!(
            parsed(&json!({"url": "http://a/b", "format": "raw"}))
                .unwrap()
                .format,
            super::Format::Raw
        );
    }

    #[test]
    fn checksums_are_digits_of_three_kinds_or_a_files_url() {
        let found = |spec| parsed(&spec).unwrap().checksum;
        let kind = super::ChecksumKind::Md5;
        assert_eq!(found(json!({"checksum": "0".repeat(32)})).kind, Some(kind));
        let url = "https://a/SUMS";
        for (spec, kind) in [
            (json!({"checksum": url}), None),
            (json!({"checksum": url, "checksumType": "auto"}), None),
            (json!({"checksum": url, "checksumType": "md5"}), Some(kind)),
        ] {
            let checksum = found(spec);
            assert_eq!((checksum.kind, checksum.value.as_str()), (kind, url));
        }
    }

    #[test]
    fn what_can_not_be_written_is_refused_by_its_field() {
        for (spec, field) in [
            (json!({"url": "oci://a/b"}), "spec.image.url: 'oci://a/b'"),
            (
                json!({"url": "http://a/b.img"}),
                "spec.image.format: absent",
            ),
            (json!({"format": "vmdk"}), "spec.image.format: 'vmdk'"),
            (json!({"checksum": ""}), "spec.image.checksum: absent"),
            (
                json!({"checksum": "ftp://a/SUMS"}),
                "spec.image.checksum: 'ftp://a/SUMS'",
            ),
            (
                json!({"checksumType": "crc32"}),
                "spec.image.checksumType: 'crc32'",
            ),
            (json!({"checksumType": "md5"}), "spec.image.checksum: '000"),
            (
                json!({"checksumType": "sha512"}),
                "spec.image.checksum: '000",
            ),
            (
                json!({"checksum": "g".repeat(64)}),
                "spec.image.checksum: 'ggg",
            ),
        ] {
            let error = parsed(&spec).unwrap_err();
            assert!(
                error.starts_with(field) && error.contains("allowed"),
                "{spec}: {error}"
            );
        }
    }

    #[test]
    fn hints_that_say_nothing_are_none() {
        let given = json!({"serialNumber": "", "minSizeGigabytes": 0, "model": "x"});
        let found = super::hints(Some(&serde_json::from_value(given).unwrap())).unwrap();
        assert_eq!(found.model.as_deref(), Some("x"));
        assert_eq!(
            (found.serial_number, found.min_size_gigabytes),
            (None, None)
        );
    }
}
