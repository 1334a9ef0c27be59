//! Figures as people read them: three digits and a unit.

/// A time given in nanoseconds.
pub fn time(ns: f64) -> String {
    scaled(ns, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")])
}

/// A number of things in a second.
pub fn rate(per_s: f64) -> String {
    scaled(per_s, &[(1e9, "G/s"), (1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")])
}

/// Bytes in a second, in powers of ten.
pub fn throughput(bytes_per_s: f64) -> String {
    scaled(bytes_per_s, &[(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")])
}

/// So many rounds.
pub fn rounds(count: usize) -> String {
    if count == 1 { "one round".into() } else { format!("{count} rounds") }
}

/// A size in bytes, in powers of two where it is a multiple of one.
pub fn bytes(size: usize) -> String {
    match size {
        size if size >= 1 << 20 && size % (1 << 20) == 0 => format!("{} MiB", size >> 20),
        size if size >= 1 << 10 && size % (1 << 10) == 0 => format!("{} KiB", size >> 10),
        size => format!("{size} B"),
    }
}

/// A size as users write it: `64`, `4k`, `4K`, `4KiB`, `1M`.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        _ => return Err(format!("`{unit}` is no unit: use B, KiB or MiB")),
    };
    let number: usize = number
        .parse()
        .map_err(|_| format!("`{text}` is no size: write a number of bytes, as 64 or 4K"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is too large"))
}

/// Three significant digits in the largest unit that leaves a number of at least one.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let &(scale, unit) = units
        .iter()
        // Rounding to three digits must not give 1000 of the smaller unit.
        .find(|(scale, _)| value >= 0.9995 * scale)
        .unwrap_or(&units[units.len() - 1]);
    let value = value / scale;
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    // Whole nanoseconds and single messages have no fraction worth showing.
    let decimals = if scale == 1.0 { 0 } else { decimals };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        assert_eq!(time(312.4), "312 ns");
        assert_eq!(time(999.6), "1.00 µs");
        assert_eq!(time(78_512.0), "78.5 µs");
        assert_eq!(time(1_204_000.0), "1.20 ms");
        assert_eq!(time(3e9), "3.00 s");
        assert_eq!(rate(243_000_000.0), "243 M/s");
        assert_eq!(rate(999_900.0), "1.00 M/s");
        assert_eq!(rate(12.0), "12 /s");
        assert_eq!(throughput(8.7e9), "8.70 GB/s");
        assert_eq!(bytes(56), "56 B");
        assert_eq!(bytes(65_536), "64 KiB");
        assert_eq!(bytes(1500), "1500 B");
    }

    #[test]
    fn sizes_as_users_write_them() {
        assert_eq!(parse_bytes("64"), Ok(64));
        assert_eq!(parse_bytes("4k"), Ok(4096));
        assert_eq!(parse_bytes("64KiB"), Ok(65_536));
        assert_eq!(parse_bytes("64 KiB"), Ok(65_536));
        assert_eq!(parse_bytes("1M"), Ok(1 << 20));
        for wrong in ["", "k", "-1", "64x", "6.5k", "99999999999999999999", "18446744073709551615M"]
        {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
