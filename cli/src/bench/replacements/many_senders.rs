//! Whole messages from several senders to one receiver: datagrams, and a byte ring with a lane for each sender.

use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use annulus::{ByteReceiver, ByteRing, ByteSender, Place, SetupError, Topology};

use super::trial::Trial;
use crate::bench::crowd::gather;
use crate::bench::crowd::meeting::{Meeting, Receiving, Sending, Terms};
use crate::bench::link::{Failure, Refusal};
use crate::bench::payload::Bytes;
use crate::bench::run::{Bench, Outcome};
use crate::bench::tally::Round;

/// The rate of all senders together.
pub fn many_senders<M: Meeting, const SENDERS: usize>(bench: &Bench, trial: &Trial<'_>) -> Outcome {
    let (setup, topology) = (trial.setup, Topology::Mpsc);
    let terms = Terms { setup, topology, senders: SENDERS, receivers: 1, batch: 1 };
    let budget = trial.budget.rate.unwrap_or_default();
    let findings = gather::<M>(bench, trial.name, &terms, budget)?;
    Ok(findings
        .map(|findings| Round::of_rate(findings.iter().find_map(|sender| sender.msgs_per_s))))
}

/// A Unix datagram socket, to which each sender connects one of its own.
pub struct Datagrams {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Meeting for Datagrams {
    type Message = Bytes;
    type Sender = UnixDatagram;
    type Receiver = UnixDatagram;

    fn prepare(_: &Terms) -> Result<Self, Refusal> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("annulus-bench-{}-datagrams-{number}", process::id());
        let bind = || -> std::io::Result<Self> {
            let address = SocketAddr::from_abstract_name(name)?;
            Ok(Self { socket: UnixDatagram::bind_addr(&address)?, address })
        };
        bind().map_err(|error| Refusal::by_kernel("bind", error))
    }

    fn sender(self, _: &Terms) -> Result<UnixDatagram, Failure> {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&self.address)?;
        Ok(socket)
    }

    fn receiver(self, _: &Terms, _: usize) -> Result<UnixDatagram, Failure> {
        Ok(self.socket)
    }
}

impl Sending for UnixDatagram {
    type Message = Bytes;

    #[inline]
    fn send(&mut self, messages: &[Bytes]) -> Result<(), Failure> {
        for Bytes(message) in messages {
            let sent = Self::send(self, message).map_err(|error| Failure::call("send", error))?;
            if sent != message.len() {
                return Err(Failure::wrong_length(sent, message.len()));
            }
        }
        Ok(())
    }
}

impl Receiving for UnixDatagram {
    type Message = Bytes;

    #[inline]
    fn recv(&mut self, messages: &mut [Bytes]) -> Result<usize, Failure> {
        let Bytes(message) = &mut messages[0];
        let got = Self::recv(self, message).map_err(|error| Failure::call("recv", error))?;
        if got == message.len() { Ok(1) } else { Err(Failure::wrong_length(got, message.len())) }
    }
}

/// Memory of a lane.
const LANE: usize = 1 << 17;

/// A byte ring whose senders have a lane each, by its descriptor.
pub struct Lanes(OwnedFd);

impl Meeting for Lanes {
    type Message = Bytes;
    type Sender = ByteSender;
    type Receiver = ByteReceiver;

    fn prepare(terms: &Terms) -> Result<Self, Refusal> {
        let make = || -> Result<OwnedFd, SetupError> {
            let builder = ByteRing::builder(LANE).topology(terms.topology);
            let builder = builder.participants(terms.senders).prefault(true);
            builder.create(Place::memfd("annulus-bench")?)?.inheritable_fd()
        };
        make().map(Self).map_err(|error| Refusal::Broken(error.to_string()))
    }

    fn sender(self, terms: &Terms) -> Result<ByteSender, Failure> {
        let sender = || Ok(ByteRing::from_fd(self.0)?.sender()?.with_wait(terms.setup.wait.into()));
        sender().map_err(|error: SetupError| Failure::call("attach", error))
    }

    fn receiver(self, terms: &Terms, _: usize) -> Result<ByteReceiver, Failure> {
        let receiver =
            || Ok(ByteRing::from_fd(self.0)?.receiver()?.with_wait(terms.setup.wait.into()));
        receiver().map_err(|error: SetupError| Failure::call("attach", error))
    }
}

impl Sending for ByteSender {
    type Message = Bytes;

    #[inline]
    fn send(&mut self, messages: &[Bytes]) -> Result<(), Failure> {
        let mut messages = messages.iter();
        messages.try_for_each(|Bytes(message)| {
            Self::send(self, message).map_err(|error| Failure::call("send", error))
        })
    }
}

impl Receiving for ByteReceiver {
    type Message = Bytes;

    #[inline]
    fn recv(&mut self, messages: &mut [Bytes]) -> Result<usize, Failure> {
        let Bytes(message) = &mut messages[0];
        let expected = message.len();
        let got = Self::recv(self, message).map_err(|error| Failure::call("recv", error))?;
        if got == expected { Ok(1) } else { Err(Failure::wrong_length(got, expected)) }
    }
}
