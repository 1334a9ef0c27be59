//! What carries messages from many processes to many.

use std::os::fd::OwnedFd;

use annulus::{Receiver, Ring, Sender, SetupError, Topology, Wait};

use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};
use crate::bench::links::ring;
use crate::bench::payload::Payload;

/// What is measured on a meeting.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub setup: Setup,
    pub topology: Topology,
    pub senders: usize,
    pub receivers: usize,
    /// Messages in a call.
    pub batch: usize,
}

impl Terms {
    /// Processes that measure.
    pub fn workers(&self) -> usize {
        self.senders + self.receivers
    }
}

/// Where senders and receivers meet. Made by the coordinator, inherited by all workers through fork.
pub trait Meeting: Sized {
    type Message: Payload;
    type Sender: Sending<Message = Self::Message>;
    type Receiver: Receiving<Message = Self::Message>;

    /// Makes what is shared.
    fn prepare(terms: &Terms) -> Result<Self, Refusal>;

    /// Becomes one of the senders, in a worker.
    fn sender(self, terms: &Terms) -> Result<Self::Sender, Failure>;

    /// Becomes one of the receivers, in a worker; they are numbered from 0.
    fn receiver(self, terms: &Terms, number: usize) -> Result<Self::Receiver, Failure>;
}

/// A sender's end.
pub trait Sending {
    type Message;

    /// Sends all of them, waiting for room.
    fn send(&mut self, messages: &[Self::Message]) -> Result<(), Failure>;
}

/// A receiver's end.
pub trait Receiving {
    type Message;

    /// Receives one or, if there are more, as many as fit; waits for the first.
    fn recv(&mut self, messages: &mut [Self::Message]) -> Result<usize, Failure>;
}

/// A ring of messages of one type.
pub struct SharedRing<const N: usize>(OwnedFd);

impl<const N: usize> Meeting for SharedRing<N> {
    type Message = [u64; N];
    type Sender = Sender<[u64; N]>;
    type Receiver = Receiver<[u64; N]>;

    fn prepare(terms: &Terms) -> Result<Self, Refusal> {
        ring::make::<N>(terms.setup.size, terms.topology, terms.workers()).map(Self)
    }

    fn sender(self, terms: &Terms) -> Result<Self::Sender, Failure> {
        let sender = || -> Result<_, SetupError> {
            Ok(Ring::from_fd(self.0)?.sender()?.with_wait(Wait::from(terms.setup.wait)))
        };
        sender().map_err(|error| Failure::call("attach", error))
    }

    fn receiver(self, terms: &Terms, _: usize) -> Result<Self::Receiver, Failure> {
        let receiver = || -> Result<_, SetupError> {
            Ok(Ring::from_fd(self.0)?.receiver()?.with_wait(Wait::from(terms.setup.wait)))
        };
        receiver().map_err(|error| Failure::call("attach", error))
    }
}

impl<const N: usize> Sending for Sender<[u64; N]> {
    type Message = [u64; N];

    #[inline]
    fn send(&mut self, messages: &[[u64; N]]) -> Result<(), Failure> {
        match messages {
            [message] => Self::send(self, *message).map_err(|error| Failure::call("send", error)),
            many => self.send_all(many).map_err(|error| Failure::call("send_all", error)),
        }
    }
}

impl<const N: usize> Receiving for Receiver<[u64; N]> {
    type Message = [u64; N];

    #[inline]
    fn recv(&mut self, messages: &mut [[u64; N]]) -> Result<usize, Failure> {
        match messages {
            [message] => {
                *message = Self::recv(self).map_err(|error| Failure::call("recv", error))?;
                Ok(1)
            }
            many => self.recv_batch(many).map_err(|error| Failure::call("recv_batch", error)),
        }
    }
}

/// A transport of the kernel that keeps messages apart, whoever and however many use its ends: all senders are the near
/// side, all receivers the far one.
pub struct Kept<T>(T);

impl<T: Transport> Meeting for Kept<T> {
    type Message = <T::Link as Link>::Message;
    type Sender = OneByOne<T::Link>;
    type Receiver = OneByOne<T::Link>;

    fn prepare(terms: &Terms) -> Result<Self, Refusal> {
        T::prepare(&terms.setup).map(Self)
    }

    fn sender(self, terms: &Terms) -> Result<Self::Sender, Failure> {
        self.0.attach(Side::Near, &terms.setup).map(OneByOne)
    }

    fn receiver(self, terms: &Terms, _: usize) -> Result<Self::Receiver, Failure> {
        self.0.attach(Side::Far, &terms.setup).map(OneByOne)
    }
}

/// A link that takes one message a call.
pub struct OneByOne<L>(L);

impl<L: Link> Sending for OneByOne<L> {
    type Message = L::Message;

    #[inline]
    fn send(&mut self, messages: &[L::Message]) -> Result<(), Failure> {
        messages.iter().try_for_each(|message| self.0.send(message))
    }
}

impl<L: Link> Receiving for OneByOne<L> {
    type Message = L::Message;

    #[inline]
    fn recv(&mut self, messages: &mut [L::Message]) -> Result<usize, Failure> {
        self.0.recv(&mut messages[0]).map(|()| 1)
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::VecDeque;
    use std::sync::{Condvar, Mutex};

    use super::*;

    type Message = [u64; 2];

    /// A queue of the standard library's parts.
    #[derive(Default)]
    pub struct Queue {
        messages: Mutex<VecDeque<Message>>,
        more: Condvar,
    }

    impl Sending for &Queue {
        type Message = Message;

        fn send(&mut self, messages: &[Message]) -> Result<(), Failure> {
            self.messages.lock().unwrap().extend(messages);
            self.more.notify_all();
            Ok(())
        }
    }

    impl Receiving for &Queue {
        type Message = Message;

        fn recv(&mut self, messages: &mut [Message]) -> Result<usize, Failure> {
            let queue = self.messages.lock().unwrap();
            let mut queue = self.more.wait_while(queue, |queue| queue.is_empty()).unwrap();
            let count = messages.len().min(queue.len());
            messages.iter_mut().zip(queue.drain(..count)).for_each(|(to, from)| *to = from);
            Ok(count)
        }
    }
}
