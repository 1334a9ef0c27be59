//! annulus beside peers, in one run: pinned threads that spin, medians of interleaved rounds.
//! `cargo run --release -p annulus-bench-peers [-- ROUNDS [FILE]]`, of all files below or of one.
//!
//! | file | what |
//! | --- | --- |
//! | `queue` | `Ring` beside iceoryx2: round trip and one way |
//! | `broadcast` | `Broadcast` beside disruptor and iceoryx2, to one receiver and to four |
//! | `variable` | `Latest` beside mmap-sync: reads and writes, alone and while the other side is at it |
//! | `race` | threads that start together |

mod broadcast;
mod queue;
mod race;
mod variable;

use race::Result;

fn main() -> Result<()> {
    iceoryx2::prelude::set_log_level(iceoryx2::prelude::LogLevel::Error);
    let rounds = std::env::args().nth(1).map_or(Ok(5), |rounds| rounds.parse())?;
    let only = std::env::args().nth(2);
    let is_wanted = |file| only.as_deref().is_none_or(|only| only == file);
    if is_wanted("queue") {
        queue::compare::<1>(rounds)?;
        queue::compare::<8>(rounds)?;
    }
    if is_wanted("broadcast") {
        broadcast::compare(rounds)?;
    }
    if is_wanted("variable") {
        variable::compare(rounds)?;
    }
    Ok(())
}
