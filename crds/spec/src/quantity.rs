//! Kubernetes quantities: `512Mi`, `1.5G`, `100m`, `12e6`.
//!
//! Source: `k8s.io/apimachinery/pkg/api/resource`, "quantity.go".

/// Reads a quantity in whole units (bytes, cores), rounded up. `None` when it is no quantity, negative or beyond `u64`.
///
/// ```
/// assert_eq!(catamaran_spec::quantity::units("1.5Ki"), Some(1536));
/// assert_eq!(catamaran_spec::quantity::units("1500m"), Some(2));
/// assert_eq!(catamaran_spec::quantity::units("-1"), None);
/// ```
#[must_use]
pub fn units(text: &str) -> Option<u64> {
    scaled(text, 1)
}

/// Reads a quantity in thousandths (CPU), rounded up. `None` as for [`units`].
#[must_use]
pub fn millis(text: &str) -> Option<u64> {
    scaled(text, 1000)
}

fn scaled(text: &str, scale: u128) -> Option<u64> {
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty()
        || !fraction
            .chars()
            .chain(whole.chars())
            .all(|c| c.is_ascii_digit())
    {
        return None;
    }
    // 18 digits are more than any machine needs, and keep the product below inside 128 bits.
    let digits = format!("{whole}{fraction}");
    if digits.len() > 20 || fraction.len() > 18 {
        return None;
    }
    let mantissa: u128 = digits.parse().ok()?;
    let (up, down) = multiplier(suffix)?;
    let numerator = mantissa.checked_mul(up)?.checked_mul(scale)?;
    let denominator = 10u128
        .checked_pow(u32::try_from(fraction.len()).ok()?)?
        .checked_mul(down)?;
    u64::try_from(numerator.div_ceil(denominator)).ok()
}

fn multiplier(suffix: &str) -> Option<(u128, u128)> {
    let binary = |power: u32| Some((1u128 << (10 * power), 1));
    let decimal = |power: u32| Some((10u128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            match u32::try_from(power) {
                Ok(up @ 0..=18) => decimal(up),
                Err(_) if power >= -18 => Some((1, 10u128.pow(power.unsigned_abs()))),
                _ => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{millis, units};

    #[test]
    fn binary_and_decimal_suffixes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("64Mi", 64 << 20),
            ("1G", 1_000_000_000),
            ("0.5Gi", 512 << 20),
            ("12e6", 12_000_000),
            ("1E3", 1000),
            ("1e-3", 1),
            (".5k", 500),
        ] {
            assert_eq!(units(text), Some(bytes), "{text}");
        }
        assert_eq!(units("8Ei"), Some(8 << 60));
    }

    #[test]
    fn cpu_is_read_in_thousandths() {
        for (text, value) in [
            ("2", 2000),
            ("100m", 100),
            ("0.1", 100),
            ("1.5", 1500),
            ("1u", 1),
        ] {
            assert_eq!(millis(text), Some(value), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_quantity() {
        for text in [
            "",
            "-1",
            "Mi",
            "1 Gi",
            "1gi",
            "1GiB",
            "0x10",
            "1.2.3",
            "1e99",
            "64Ei",
            "999999999999999999999",
            "+",
            ".",
            "1+1",
        ] {
            assert_eq!(units(text), None, "{text}");
        }
    }
}
