//! One `epoll` loop that serves a ring, an event and a timer.
//!
//! Run it: `cargo run --release --example poll_loop`
//!
//! A program that waits for many things at once waits for descriptors. Messages in memory have none, so a `Pollable` makes
//! one: a thread beside the loop sleeps until something comes, and makes the descriptor readable. The loop then takes what
//! there is, and arms the handle again when there is nothing more. A ring on which messages come as fast as they are
//! taken costs no system call: it is never armed.
//!
//! This program starts itself again as the other side, which sends readings in bursts and says when it is done.

use annulus::{Event, Place, Pollable, Receiver, Ring, TryRecvError};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::env;
use std::error::Error;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// How the other side learns the names.
const NAME: &str = "EXAMPLE_NAME";
/// What the sender says by the event.
const DONE: u64 = 1;
/// Readings in a burst, and bursts.
const BURST: u64 = 1000;
const BURSTS: u64 = 50;

/// What the loop waits for, as `epoll` names it.
const READINGS: u64 = 0;
const CONTROL: u64 = 1;
const TICK: u64 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    match env::var(NAME) {
        Ok(name) => sense(&name),
        Err(_) => serve(),
    }
}

/// The sender knows nothing of descriptors.
fn sense(name: &str) -> Result<(), Box<dyn Error>> {
    let mut readings = Ring::<u64>::open(Place::name(&format!("{name}-readings"))?)?.sender()?;
    let mut control = Event::open(Place::name(&format!("{name}-control"))?)?.handle()?;
    for burst in 0..BURSTS {
        for i in 0..BURST {
            readings.send(burst * BURST + i)?;
        }
        thread::sleep(Duration::from_millis(10));
    }
    control.raise(DONE)?;
    Ok(())
}

fn serve() -> Result<(), Box<dyn Error>> {
    let name = format!("example-poll-loop-{}", std::process::id());
    let ring = Ring::<u64>::builder(256).create(Place::name(&format!("{name}-readings"))?)?;
    let event = Event::builder().create(Place::name(&format!("{name}-control"))?)?;
    let mut readings = Pollable::new(ring.receiver()?)?;
    let mut control = Pollable::new(event.handle()?)?;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
    let period = Expiration::Interval(TimeSpec::milliseconds(100));
    timer.set(period, TimerSetTimeFlags::empty())?;

    let set = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let input = |name| EpollEvent::new(EpollFlags::EPOLLIN, name);
    set.add(readings.as_fd(), input(READINGS))?;
    set.add(control.as_fd(), input(CONTROL))?;
    set.add(timer.as_fd(), input(TICK))?;

    let mut sensor = Command::new(env::current_exe()?).env(NAME, &name).spawn()?;
    let (mut count, mut rounds) = (0, 0);
    let (mut is_told, mut is_over) = (false, false);
    while !(is_told && is_over) {
        let mut events = [EpollEvent::empty(); 3];
        let ready = set.wait(&mut events, EpollTimeout::NONE)?;
        rounds += 1;
        for event in &events[..ready] {
            match event.data() {
                READINGS => {
                    is_over = receive(&mut readings, &mut count)?;
                    if is_over {
                        // Not armed again, its descriptor stays readable.
                        set.delete(readings.as_fd())?;
                    }
                }
                CONTROL => {
                    is_told |= control.try_take(DONE)? != 0;
                    // If the flag has been raised in between, the descriptor stays readable, and the loop comes back.
                    let _ = control.arm_for(DONE);
                }
                _ => {
                    timer.wait()?;
                    println!("{count} readings so far, in {rounds} rounds of the loop");
                }
            }
        }
    }
    sensor.wait()?;
    assert_eq!(count, BURST * BURSTS);
    println!("{count} readings, in {rounds} rounds of the loop");
    Ok(())
}

/// Takes what there is, and arms the handle when that is all. Whether nothing more will come.
fn receive(readings: &mut Pollable<Receiver<u64>>, count: &mut u64) -> Result<bool, TryRecvError> {
    loop {
        match readings.try_recv() {
            Ok(_) => *count += 1,
            Err(TryRecvError::Empty) if readings.arm().is_pending() => return Ok(false),
            // Something has come meanwhile.
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}
