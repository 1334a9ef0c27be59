//! [`Hub`]: one listener, many clients, one wait.
//!
//! ```text
//!            bell, end             handshakes
//! client A ------------\                |
//! client B ------------- one epoll set --- the hub sleeps here
//! client C ------------/
//!                          active   A looks at its ring in each round; no system call on either side
//!                          quiet    announced in its ring: its next message rings, and makes it active
//! ```
//!
//! A client is what a lane is to the receiver of many (`lanes.rs`), but for the doorbell: there all senders set bits in
//! one word, and here nobody is trusted to write what others rely on. What a client rings is its own control socket,
//! which only it can ring, and which also tells its end. So a wait costs what there is to do, not what is connected.

mod clients;
mod rounds;

pub use clients::{ClientId, Member};

use crate::duplex::{ByteDuplex, Duplex};
use crate::error::{ByteSendError, ConnectError, TrySendError};
use crate::handshake::Listener;
use crate::participants::Ending;
use crate::sys::clock::Monotonic;
use crate::sys::epoll;
use crate::sys::fork::PrivateFd;
use crate::wait::Wait;
use bytemuck::{AnyBitPattern, NoUninit};
use clients::Clients;
use rounds::{Occasion, Rounds};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

/// Clients at a time, if nobody says.
const MOST_CLIENTS: usize = 64;
/// Messages in a turn, if nobody says.
const TURN_MESSAGES: usize = 32;
/// Bytes in a turn, if nobody says: a turn ends with the message that reaches it.
const TURN_BYTES: usize = 64 * 1024;

/// A service for many clients that need not trust it, nor each other: takes connections of a [`Listener`], each with
/// rings of its own, and waits for all of them in one call.
///
/// `F` is [`Duplex<T>`](Duplex) or [`ByteDuplex`]. Clients use [`connect`](crate::connect), and notice nothing.
///
/// # Turns
///
/// [`next`](Self::next) says what there is to do: a client has come, has sent something, has made room, has left. Who
/// has sent something gets a [`Turn`], in which a limited number of its messages can be received; then comes the next
/// one's. So whatever a client sends, it does not keep the others from being served. One that is stopped keeps nobody
/// waiting either, as long as the program answers by [`Turn::try_send`] and [`Hub::try_send`], which never block.
///
/// While messages come, no side makes a system call for one. A client that has been silent is looked at again when it
/// rings, so a hundred idle ones cost nothing. A message of such a client costs it two system calls, a wake by a futex
/// that nobody needs and a message on its control socket, and the hub one or two.
///
/// # The end of a client
///
/// What it has sent comes first; then [`HubEvent::Left`] says how it ended, and hands its connection over, which is closed
/// when that is dropped. A client that writes into its half what no correct one writes is let go of with
/// [`Ending::Corrupt`]. The hub goes on in each case.
///
/// ```
/// use annulus::{Address, Duplex, Hub, HubEvent, Listener};
///
/// let address = Address::name(format!("annulus-example-hub-{}", std::process::id()));
/// let mut hub = Hub::<Duplex<u64>>::new(Listener::bind(address.clone())?)?;
/// let clients: Vec<_> = (0..3)
///     .map(|i| {
///         let address = address.clone();
///         std::thread::spawn(move || {
///             let mut service: Duplex<u64> = annulus::connect(address).unwrap();
///             service.send(i).unwrap();
///             assert_eq!(service.recv(), Ok(2 * i));
///         })
///     })
///     .collect();
/// let mut left = 0;
/// while left < 3 {
///     match hub.next()? {
///         HubEvent::Ready(mut turn) => {
///             while let Some(number) = turn.recv() {
///                 turn.try_send(2 * number)?;
///             }
///         }
///         HubEvent::Left { .. } => left += 1,
///         _ => {}
///     }
/// }
/// clients.into_iter().for_each(|client| client.join().unwrap());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Hub<F> {
    listener: Listener,
    /// The listener's set and the clients' sockets.
    set: PrivateFd,
    clients: Clients<F>,
    rounds: Rounds,
    /// What was heard and not told yet.
    news: VecDeque<Occasion<F>>,
    most_clients: usize,
    turn: (usize, usize),
    most_fds: usize,
}

/// What there is to do for the program of a [`Hub`].
#[derive(Debug)]
#[non_exhaustive]
pub enum HubEvent<'a, F> {
    /// A client has connected.
    Joined(ClientId),
    /// A client has sent something.
    Ready(Turn<'a, F>),
    /// A client that had no room, as [`Hub::try_send`] or [`Turn::try_send`] said, has made some.
    Room(ClientId),
    /// A client will send nothing more, and the hub has let go of it.
    Left {
        /// Which it was. The name is not used again.
        client: ClientId,
        /// How it ended.
        ending: Ending,
        /// The connection. If the client has only closed its sending side (`Ending::Closed`), it can still be sent to.
        connection: Box<F>,
    },
}

/// A client's turn: some of what it has sent. It ends when it is dropped; what was not received comes in the next
/// one.
pub struct Turn<'a, F> {
    hub: &'a mut Hub<F>,
    client: ClientId,
    messages: usize,
    bytes: usize,
}

impl<F: Member> Hub<F> {
    /// Serves the clients of `listener`, up to 64 of them. Clients that the listener has already accepted stay as
    /// they are.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Os`] if there is no descriptor left, [`ConnectError::Forked`] if the listener belongs to the
    /// parent process.
    pub fn new(mut listener: Listener) -> Result<Self, ConnectError> {
        if !listener.is_ours() {
            return Err(ConnectError::Forked);
        }
        listener.ask_for_bells();
        let set = PrivateFd::open_lockless(|| epoll::new().map(File::from));
        let set = set.map_err(ConnectError::os("epoll_create"))?;
        epoll::add_for_reading(set.as_fd(), listener.set(), clients::LISTENER)
            .map_err(ConnectError::os("epoll_ctl"))?;
        Ok(Self {
            listener,
            set,
            clients: Clients::default(),
            rounds: Rounds::default(),
            news: VecDeque::new(),
            most_clients: MOST_CLIENTS,
            turn: (TURN_MESSAGES, TURN_BYTES),
            most_fds: 0,
        })
    }

    /// The most clients at a time; more are refused ([`Refusal::Crowded`](crate::Refusal::Crowded)). How many of one
    /// user: [`ListenerOptions::most_per_user`](crate::ListenerOptions::most_per_user). Each takes
    /// five descriptors of this process, and the memory that [`ListenerOptions::most_bytes`] allows. Default: 64.
    ///
    /// [`ListenerOptions::most_bytes`]: crate::ListenerOptions::most_bytes
    #[must_use]
    pub fn most_clients(mut self, most: usize) -> Self {
        self.most_clients = most;
        self.count_clients();
        self
    }

    /// The most of a turn: `messages`, and after the message that makes them `bytes` no more. At least one message.
    /// Default: 32, and 64 KiB.
    #[must_use]
    pub fn turn(mut self, messages: usize, bytes: usize) -> Self {
        self.turn = (messages.max(1), bytes);
        self
    }

    /// Lets clients that join from now on send descriptors with their messages, with up to `most` messages that wait
    /// to be received, and up to 8 with each; a client that has more waiting is let go of. The program receives them by
    /// [`Turn::connection`] and [`Duplex::try_recv_with_fds`]. Default: 0, they are closed.
    #[must_use]
    pub fn most_with_fds(mut self, most: usize) -> Self {
        self.most_fds = most;
        self
    }

    /// Chooses how the hub waits. Default: [`Wait::Adaptive`].
    pub fn set_wait(&mut self, wait: Wait) {
        self.rounds.wait = wait;
    }

    /// The listener: who was refused, and where it listens.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The clients, in no order.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.clients.ids()
    }

    /// The connection of a client, if it is still there.
    pub fn get(&self, client: ClientId) -> Option<&F> {
        self.clients.get(client).map(|client| &*client.connection)
    }

    /// The connection of a client, if it is still there. Its blocking verbs hold up all the others.
    pub fn get_mut(&mut self, client: ClientId) -> Option<&mut F> {
        self.clients.get_mut(client).map(|client| &mut *client.connection)
    }

    /// Lets go of a client, and hands its connection over: to close it, or to serve it elsewhere. `None` if it has
    /// left already.
    pub fn remove(&mut self, client: ClientId) -> Option<Box<F>> {
        let connection = self.forget(client)?;
        self.news.retain(
            |news| !matches!(news, Occasion::Room(id) | Occasion::Joined(id) if *id == client),
        );
        Some(connection)
    }

    /// What there is to do next, waiting if there is nothing.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Forked`] in a forked child, [`ConnectError::Os`] if the kernel refuses to wait. What a client
    /// does is no error.
    #[allow(clippy::should_implement_trait, reason = "an event borrows the hub")]
    pub fn next(&mut self) -> Result<HubEvent<'_, F>, ConnectError> {
        loop {
            // There is no deadline, so there is an occasion.
            if let Some(occasion) = self.find(None)? {
                return Ok(self.event(occasion));
            }
        }
    }

    /// What there is to do next, waiting for as long as `timeout`; `None` if there was nothing.
    ///
    /// # Errors
    ///
    /// As for [`next`](Self::next).
    pub fn next_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<HubEvent<'_, F>>, ConnectError> {
        let found = self.find(Some(Monotonic::now() + timeout))?;
        Ok(found.map(|occasion| self.event(occasion)))
    }

    fn event(&mut self, occasion: Occasion<F>) -> HubEvent<'_, F> {
        match occasion {
            Occasion::Joined(client) => HubEvent::Joined(client),
            Occasion::Room(client) => HubEvent::Room(client),
            Occasion::Left(client, ending, connection) => {
                HubEvent::Left { client, ending, connection }
            }
            Occasion::Ready(client) => {
                let (messages, bytes) = self.turn;
                HubEvent::Ready(Turn { hub: self, client, messages, bytes })
            }
        }
    }
}

/// Sends, and once more after saying that room is waited for: what was made in between is seen then.
fn send_or_wait<F: Member, M, E>(
    hub: &mut Hub<F>,
    client: ClientId,
    message: M,
    send: impl Fn(&mut F, M) -> Result<(), (Option<M>, E)>,
    gone: impl FnOnce(M) -> E,
) -> Result<(), E> {
    let Some(there) = hub.clients.get_mut(client) else { return Err(gone(message)) };
    match send(&mut there.connection, message) {
        Ok(()) => Ok(()),
        Err((None, error)) => Err(error),
        // The client has been asked and has received nothing since: it will ring when it does. To ask costs a barrier on
        // all processors, which who never receives is not to cause for each message.
        Err((Some(_), error)) if there.awaits_room.is_some() && !there.made_room() => Err(error),
        Err((Some(message), _)) => {
            there.awaits_room = Some(there.connection.ask_for_room());
            let sent = send(&mut there.connection, message);
            if sent.is_ok() {
                there.awaits_room = None;
            }
            sent.map_err(|(_, error)| error)
        }
    }
}

impl<T: NoUninit + AnyBitPattern> Hub<Duplex<T>> {
    /// Sends to a client, if there is room now. Never blocks.
    ///
    /// # Errors
    ///
    /// As for [`Sender::try_send`](crate::Sender::try_send). After `Full` an [`HubEvent::Room`] follows when the client
    /// has received something. `Disconnected` also if the hub has let go of it.
    pub fn try_send(&mut self, client: ClientId, message: T) -> Result<(), TrySendError<T>> {
        let send = |connection: &mut Duplex<T>, message| {
            connection.try_send(message).map_err(|error| match error {
                TrySendError::Full(message) => (Some(message), TrySendError::Full(message)),
                other => (None, other),
            })
        };
        send_or_wait(self, client, message, send, TrySendError::Disconnected)
    }
}

impl Hub<ByteDuplex> {
    /// Sends to a client, if there is room now. Never blocks.
    ///
    /// # Errors
    ///
    /// As for [`ByteSender::try_send`](crate::ByteSender::try_send). After `Full` an [`HubEvent::Room`] follows when the
    /// client has received something, which need not be room enough. `Disconnected` also if the hub has let go of it.
    pub fn try_send(&mut self, client: ClientId, message: &[u8]) -> Result<(), ByteSendError> {
        let send = |connection: &mut ByteDuplex, message| {
            connection.try_send(message).map_err(|error| match error {
                ByteSendError::Full => (Some(message), error),
                other => (None, other),
            })
        };
        send_or_wait(self, client, message, send, |_| ByteSendError::Disconnected)
    }
}

impl<F: Member> Turn<'_, F> {
    /// Whose turn it is.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Its connection, for all that it can do; but what is received there does not count for the turn.
    pub fn connection(&mut self) -> &mut F {
        self.hub.get_mut(self.client).expect("a client stays for its turn")
    }

    /// The next message, if the turn is not over and there is one.
    fn take(&mut self, receive: impl FnOnce(&mut F) -> Option<usize>) -> Option<()> {
        if self.messages == 0 {
            return None;
        }
        let bytes = receive(self.connection())?;
        self.hub.rounds.received();
        self.messages -= 1;
        match self.bytes.checked_sub(bytes.max(1)) {
            Some(left) if left > 0 => self.bytes = left,
            _ => self.messages = 0,
        }
        Some(())
    }
}

impl<T: NoUninit + AnyBitPattern> Turn<'_, Duplex<T>> {
    /// The next message of this turn; `None` if there is none now, or the turn is over.
    #[inline]
    pub fn recv(&mut self) -> Option<T> {
        let mut message = None;
        self.take(|connection| {
            message = connection.try_recv().ok();
            message.is_some().then_some(size_of::<T>())
        })?;
        message
    }

    /// Answers, if there is room now: see [`Hub::try_send`].
    ///
    /// # Errors
    ///
    /// As for [`Hub::try_send`].
    pub fn try_send(&mut self, message: T) -> Result<(), TrySendError<T>> {
        self.hub.try_send(self.client, message)
    }
}

impl Turn<'_, ByteDuplex> {
    /// The next message of this turn into `message`, whose contents are replaced, and its length; `None` if there is
    /// none now, or the turn is over.
    #[inline]
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Option<usize> {
        let mut length = None;
        self.take(|connection| {
            length = connection.try_recv(message).ok();
            length
        })?;
        length
    }

    /// Answers, if there is room now: see [`Hub::try_send`].
    ///
    /// # Errors
    ///
    /// As for [`Hub::try_send`].
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), ByteSendError> {
        self.hub.try_send(self.client, message)
    }
}

impl<F> fmt::Debug for Hub<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Turn<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("client", &self.client).finish_non_exhaustive()
    }
}

static_assertions::assert_impl_all!(Hub<Duplex<u64>>: Send);
