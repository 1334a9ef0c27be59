//! Sizes and durations, as people write them.

use std::time::Duration;

/// Reads `64`, `64K`, `1M`, `1G`, `1T`, also `64KiB` or `64kB`; the factor is 1024.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at(digits);
    let shift = match suffix.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(NOT_A_SIZE.to_owned()),
    };
    if number.is_empty() {
        return Err(NOT_A_SIZE.to_owned());
    }
    number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "too large to be addressed".to_owned())
}

const NOT_A_SIZE: &str = "not a size; write one as 64, 64K, 1M or 1G";

/// Reads `2s`, `500ms`, `250us`, `1.5m`, `1h`; without a unit, seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let seconds = match unit.trim() {
        "" | "s" => 1.0,
        "us" => 1e-6,
        "ms" => 1e-3,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(NOT_A_DURATION.to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| NOT_A_DURATION.to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "too long".to_owned())
}

const NOT_A_DURATION: &str = "not a duration; write one as 2s, 500ms or 1m";

/// `1536` as `1.5 KiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let number = format!("{size:.1}");
    format!("{} {}", number.trim_end_matches(".0"), UNITS[unit])
}

/// `1 byte`, `2 bytes`: to the last one, where that counts.
pub fn exact_bytes(count: usize) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

/// `1 message`, `2 messages`.
pub fn messages(count: u64) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, size) in [
            ("0", 0),
            ("64", 64),
            ("64K", 65536),
            ("64kB", 65536),
            ("1MiB", 1 << 20),
            ("2G", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "K", "-1", "1.5M", "1X", "99999999999999999999", "99999999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(
            [512, 1024, 1536, 1 << 20, (1 << 20) - 1].map(bytes),
            ["512 B", "1 KiB", "1.5 KiB", "1 MiB", "1 MiB"]
        );
    }

    #[test]
    fn durations() {
        for (text, milliseconds) in [("2s", 2000), ("2", 2000), ("500ms", 500), ("1.5m", 90_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "1.2.3s", "99999999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
