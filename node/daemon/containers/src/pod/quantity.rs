//! Kubernetes quantities (`100m`, `1.5Gi`, `2e3`) as whole numbers.

/// Thousandths of the unit, rounded up; `None` when `text` is no quantity or has no place in an `i64`.
pub(crate) fn milli(text: &str) -> Option<i64> {
    scaled(text, 1000)
}

/// Whole units (bytes), rounded up; `None` when `text` is no quantity or has no place in an `i64`.
pub(crate) fn whole(text: &str) -> Option<i64> {
    scaled(text, 1)
}

/// The quantity times `scale`, rounded away from zero.
fn scaled(text: &str, scale: i128) -> Option<i64> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.' || c == '+' || c == '-';
    let split = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (numerator, denominator) = unit(suffix)?;
    let negative = number.starts_with('-');
    let number = number.strip_prefix(['-', '+']).unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if fraction.len() > 12 || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let divisor = denominator.checked_mul(10_i128.pow(u32::try_from(fraction.len()).ok()?))?;
    let value = digits
        .parse::<i128>()
        .ok()?
        .checked_mul(numerator)?
        .checked_mul(scale)?;
    let rounded = value / divisor + i128::from(value % divisor != 0);
    i64::try_from(if negative { -rounded } else { rounded }).ok()
}

/// What a suffix stands for, as a fraction.
fn unit(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "" => (1, 1),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("100m", 100),
            ("1", 1000),
            ("0.5", 500),
            (".5", 500),
            ("1.5k", 1_500_000),
            ("1e3", 1_000_000),
            ("1u", 1),
            ("-1", -1000),
        ] {
            assert_eq!(milli(text), Some(expected), "{text}");
        }
        for (text, expected) in [
            ("64Mi", 64 << 20),
            ("1.5Gi", 3 << 29),
            ("128974848", 128_974_848),
            ("129e6", 129_000_000),
            ("7Ei", 7 << 60),
            ("1m", 1),
        ] {
            assert_eq!(whole(text), Some(expected), "{text}");
        }
        for text in ["", "Mi", "1.2.3", "1 Gi", "ten", "1ki", "9Ei", "--1"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }
}
