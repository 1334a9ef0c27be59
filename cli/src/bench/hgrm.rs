//! Percentiles in the text format of HdrHistogram, which its plotters read. Values are nanoseconds.
//!
//! Into a file go the blocks of all rows, each after a line `# transport wait size`. Into a directory goes a file for
//! each row, `transport-wait-size.hgrm`, as the plotters want them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;

use super::rows::Row;
use super::tally::Tally;

/// Lines for each halving of the distance to 100 %.
const TICKS_PER_HALF: u32 = 5;

/// Where the blocks go, opened before anything is measured so that a wrong path is reported at once.
pub enum Target {
    File(BufWriter<File>),
    Directory(PathBuf),
}

impl Target {
    pub fn open(path: &Path) -> io::Result<Self> {
        if path.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        Ok(Self::File(BufWriter::new(File::create(path)?)))
    }

    /// Writes a block for each row that was measured.
    pub fn write<'a>(self, rows: impl Iterator<Item = (&'a Row, &'a Tally)>) -> io::Result<()> {
        let measured = rows.filter_map(|(row, tally)| Some((row, tally.round_trips()?)));
        match self {
            Self::File(mut file) => {
                for (row, histogram) in measured {
                    writeln!(
                        file,
                        "# {} {} {}",
                        row.carrier.name(),
                        row.carrier.wait().name(),
                        row.size
                    )?;
                    block(&mut file, &histogram)?;
                    writeln!(file)?;
                }
                file.flush()
            }
            Self::Directory(path) => {
                for (row, histogram) in measured {
                    let name = format!(
                        "{}-{}-{}.hgrm",
                        row.carrier.name(),
                        row.carrier.wait().name(),
                        row.size
                    );
                    let mut text = Vec::new();
                    block(&mut text, &histogram)?;
                    fs::write(path.join(name), text)?;
                }
                Ok(())
            }
        }
    }
}

fn block(out: &mut impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64, step.quantile_iterated_to());
        write!(out, "{value:>12.3} {quantile:>2.12} {total:>10}")?;
        if quantile < 1.0 {
            write!(out, " {:>14.2}", 1.0 / (1.0 - quantile))?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]",
        histogram.mean(),
        histogram.stdev()
    )?;
    writeln!(
        out,
        "#[Max     = {:>12.3}, Total count    = {:>12}]",
        histogram.max() as f64,
        histogram.len()
    )?;
    writeln!(out, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", histogram.buckets(), SUB_BUCKETS)
}

/// For three significant digits.
const SUB_BUCKETS: u32 = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_ends_at_one_hundred_percent_and_counts_everything() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for value in 1..=1000 {
            histogram.record(value).unwrap();
        }
        let mut text = Vec::new();
        block(&mut text, &histogram).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..2], ["Value", "Percentile"]);
        let last = lines.iter().rfind(|line| line.len() == 3).unwrap();
        assert_eq!(last[..], ["1000.000", "1.000000000000", "1000"]);
        let middle =
            lines.iter().find(|line| line.get(1).is_some_and(|q| q.starts_with("0.5000"))).unwrap();
        assert_eq!(middle[0], "500.000");
        assert!(text.contains("Total count    =         1000]"));
    }
}
