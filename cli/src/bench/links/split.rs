//! `Duplex<[u64; N]>`: the split form, each side's half in a file of its own, met over a Unix socket.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annulus::{Address, Connect, ConnectError, Duplex, Listener};

use super::ring::capacity;
use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};

/// How long one worker waits for the other.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

/// Where the workers meet: a half belongs to the process that makes it, so the coordinator can make none for them.
pub struct Split<const N: usize>(Address);

impl<const N: usize> Transport for Split<N> {
    type Link = Ends<N>;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self(Address::name(format!("annulus-bench-{}-{number}", process::id()))))
    }

    fn attach(self, side: Side, setup: &Setup) -> Result<Ends<N>, Failure> {
        let connected = match side {
            Side::Near => {
                let options = Listener::options().most_bytes(u64::MAX);
                options.bind(self.0).and_then(|mut listener| listener.accept_timeout(PATIENCE))
            }
            Side::Far => reach(&self.0, setup.size),
        };
        let mut ends: Duplex<[u64; N]> =
            connected.map_err(|error| Failure::call("attach", error))?;
        ends.set_wait(setup.wait.into());
        Ok(Ends(ends))
    }
}

/// Connects when the other worker listens.
fn reach<const N: usize>(address: &Address, size: usize) -> Result<Duplex<[u64; N]>, ConnectError> {
    let start = Instant::now();
    loop {
        match Connect::new().capacity(capacity(size)).open(address.clone()) {
            Err(ConnectError::NotListening) if start.elapsed() < PATIENCE => thread::sleep(PAUSE),
            done => return done,
        }
    }
}

/// One side's end.
pub struct Ends<const N: usize>(Duplex<[u64; N]>);

impl<const N: usize> Link for Ends<N> {
    type Message = [u64; N];

    #[inline(always)]
    fn send(&mut self, message: &[u64; N]) -> Result<(), Failure> {
        self.0.send(*message).map_err(|error| Failure::call("send", error))
    }

    #[inline(always)]
    fn recv(&mut self, message: &mut [u64; N]) -> Result<(), Failure> {
        *message = self.0.recv().map_err(|error| Failure::call("recv", error))?;
        Ok(())
    }
}
