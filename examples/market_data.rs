//! A feed of market data: ticks of a fixed size, sent at a steady pace, with the latency of each.
//!
//! Run it: `cargo run --release --example market_data -- [adaptive|spin|block]`
//!
//! One process is the feed, the other the strategy that listens. It shows four habits of such systems:
//!
//! * The message is a plain `struct`, copied into the ring as it is: nothing is serialized.
//! * The feed never waits for a slow listener. It uses `try_send`, and drops and counts what does not
//!   fit; the listener finds the gaps by the sequence numbers.
//! * Latency is measured from the moment at which a tick **should** have been sent. Measured from the
//!   moment at which it was sent, a feed that falls behind would look good for being late.
//! * How to wait is each side's own choice. `spin` has the lowest latency and costs a processor,
//!   `block` costs a wake-up by the kernel for almost every tick, `adaptive` spins for some
//!   microseconds and then sleeps.

use annulus::{Place, Ring, TrySendError, Wait};
use bytemuck::{Pod, Zeroable};
use std::env;
use std::error::Error;
use std::hint;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

/// A change of price.
///
/// `Pod` asks of it what a message between processes needs: a fixed layout (`repr(C)`), no padding
/// whose bytes would be undefined, and no bit pattern that is not a value. The derive refuses a struct
/// that has not got all three. Prices are integers (here ten-thousandths) as on the exchanges' wires.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Tick {
    sequence: u64,
    /// When it should be sent, in nanoseconds on the clock that all processes share.
    due: u64,
    price: i64,
    size: u32,
    instrument: u32,
}

/// Says which `Tick` this is. A process that was built with another one is refused when it opens the
/// ring; the size alone would not tell.
const LABEL: &str = "example/tick/1";
const CAPACITY: usize = 4096;
const TICKS: u64 = 40_000;
const PACE: Duration = Duration::from_micros(50);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["feed", name] => feed(name),
        [] => listen(Wait::Adaptive),
        ["adaptive"] => listen(Wait::Adaptive),
        ["spin"] => listen(Wait::Spin),
        ["block"] => listen(Wait::Block),
        _ => Err("usage: market_data [adaptive|spin|block]".into()),
    }
}

fn listen(wait: Wait) -> Result<(), Box<dyn Error>> {
    let name = format!("market-data-{}", process::id());
    let ring = Ring::<Tick>::builder(CAPACITY).label(LABEL).create(Place::name(&name)?)?;
    let mut rx = ring.receiver()?.with_wait(wait);
    let mut child = Command::new(env::current_exe()?).args(["feed", &name]).spawn()?;

    let mut latency = Histogram::new();
    let mut expected = 0;
    let mut missed = 0;
    let mut last = None;
    // The loop ends when the feed has left and the ring is empty.
    for tick in rx.iter() {
        latency.record(now().saturating_sub(tick.due));
        missed += tick.sequence - expected;
        expected = tick.sequence + 1;
        last = Some(tick);
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the feed failed: {status}").into());
    }

    println!("{} ticks received, {missed} missed, waiting: {wait:?}", latency.count);
    println!("latency from the intended time of sending:");
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)]
    {
        println!("  {name:<6} {:>10.1} us", latency.percentile(share) as f64 / 1000.0);
    }
    if let Some(tick) = last {
        let price = tick.price as f64 / 10_000.0;
        println!("last tick: instrument {}, {} at {price:.4}", tick.instrument, tick.size);
    }
    let stats = ring.stats();
    println!(
        "the ring: {} sent, {} seen waiting at the most, {} sleeps, {} wakes",
        stats.sent, stats.high_water, stats.waits, stats.wakes
    );
    Ok(())
}

fn feed(name: &str) -> Result<(), Box<dyn Error>> {
    // `attach` is `open` with more to insist on: here, on the label.
    let ring = Ring::<Tick>::attach().label(LABEL).open(Place::name(name)?)?;
    let mut tx = ring.sender()?;
    let mut random = 88_172_645_463_325_252_u64;
    let mut price = 1_012_500_i64;
    let mut dropped = 0_u64;
    let start = now() + 1_000_000;
    for sequence in 0..TICKS {
        // A random walk (xorshift), for something to look at.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        price += (random % 201) as i64 - 100;

        let due = start + sequence * PACE.as_nanos() as u64;
        wait_until(due);
        let size = 100 + (random % 900) as u32;
        let tick = Tick { sequence, due, price, size, instrument: 42 };
        match tx.try_send(tick) {
            Ok(()) => {}
            // The listener is more than a whole ring behind. The tick comes back in the error; a feed
            // of prices has a newer one soon.
            Err(TrySendError::Full(_)) => dropped += 1,
            Err(error) => return Err(error.into()),
        }
    }
    if dropped > 0 {
        eprintln!("the feed dropped {dropped} ticks that found the ring full");
    }
    Ok(())
}

/// Waits for a point in time: asleep while it is far, then awake, because sleeping overshoots.
fn wait_until(due: u64) {
    const NEAR: u64 = 200_000;
    loop {
        let left = due.saturating_sub(now());
        if left == 0 {
            return;
        }
        if left > NEAR {
            thread::sleep(Duration::from_nanos(left - NEAR));
        } else {
            hint::spin_loop();
        }
    }
}

/// Nanoseconds on CLOCK_MONOTONIC, which is one clock for all processes and is never set.
///
/// `std::time::Instant` reads the same clock but keeps the number to itself, so it cannot be sent.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes, and every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Counts of values in buckets whose width is a sixteenth of their value at most: small, of fixed size
/// and exact enough for percentiles. (In earnest, use the crate `hdrhistogram`.)
struct Histogram {
    counts: Vec<u64>,
    count: u64,
    largest: u64,
}

/// Buckets for each power of two.
const STEPS: u64 = 16;

impl Histogram {
    fn new() -> Self {
        Self { counts: vec![0; (64 * STEPS) as usize], count: 0, largest: 0 }
    }

    fn record(&mut self, value: u64) {
        self.counts[Self::bucket(value)] += 1;
        self.count += 1;
        self.largest = self.largest.max(value);
    }

    fn bucket(value: u64) -> usize {
        if value < STEPS {
            return value as usize;
        }
        // The power of two, and the four bits that follow the highest.
        let power = u64::from(63 - value.leading_zeros());
        let shift = power - 4;
        ((power - 3) * STEPS + (value >> shift) % STEPS) as usize
    }

    /// The highest value that falls into the bucket.
    fn upper(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        if bucket < STEPS {
            return bucket;
        }
        let shift = bucket / STEPS - 1;
        (((STEPS + bucket % STEPS + 1) as u128) << shift).min(u64::MAX as u128) as u64 - 1
    }

    /// The value that `share` of all values do not exceed.
    fn percentile(&self, share: f64) -> u64 {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::upper(bucket).min(self.largest);
            }
        }
        self.largest
    }
}
