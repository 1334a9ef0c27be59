//! The loop of a hub: rounds of turns, and one sleep for all clients.
//!
//! The active clients are looked at in turn. Before the hub sleeps, it announces that in the ring of each, runs the
//! barrier of P1 (`protocol/park.rs`) once, and looks once more; those that still have nothing are quiet from then on,
//! and cost nothing until they ring. So does one that had nothing for many rounds while others kept the hub awake.
//! While the hub is awake it asks the kernel for bells and newcomers every so many microseconds.

use super::Hub;
use super::clients::{self, Client, ClientId, Found, LISTENER, Member};
use crate::budget::Budget;
use crate::error::ConnectError;
use crate::handshake::Heard;
use crate::participants::Ending;
use crate::sync::spin_hint;
use crate::sys::clock::Monotonic;
use crate::sys::epoll;
use crate::wait::Wait;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Looks and messages between two looks at the clock.
const STEPS_PER_LOOK: usize = 64;
/// How long the hub is awake before it asks the kernel again who has rung: an empty question costs half a microsecond.
const HEARING: Duration = Duration::from_micros(20);
/// Rounds without a message after which a client is to ring, though the hub is awake.
const MOST_EMPTY: u32 = 256;
/// Between two looks at everybody, also the longest sleep: the kernel may have had no memory for a bell.
const SWEEP: Duration = Duration::from_secs(1);
/// How long nobody is let in after the kernel had no descriptor, or no memory, for somebody.
const PAUSE: Duration = Duration::from_millis(100);
/// Times that handshakes took which the clients who are there have to themselves afterwards: to make rings for one
/// takes as long as hundreds of messages, and who connects over and over must not keep the others from theirs.
const SHARE: u32 = 4;
/// How long nobody is let in, at least, after somebody had come for nothing.
const RESPITE: Duration = Duration::from_millis(1);
/// Clients let in at a time.
const MOST_AT_ONCE: usize = 4;
/// Spin hints between two rounds that found nothing.
const HINTS: u32 = 4;

/// Something for the program to do.
pub(super) enum Occasion<F> {
    Joined(ClientId),
    Ready(ClientId),
    Room(ClientId),
    Left(ClientId, Ending, Box<F>),
}

/// Where the hub is in its rounds.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    pub(super) wait: Wait,
    budget: Budget,
    /// The active clients, the next one first.
    active: VecDeque<ClientId>,
    /// How many of them are still to be looked at in this round.
    left: usize,
    /// Whether this round has found something.
    has_found: bool,
    /// Since the clock was last looked at.
    steps: usize,
    heard: Option<Monotonic>,
    /// When everybody was last looked at.
    swept: Option<Monotonic>,
    /// Since when nothing is found.
    idle: Option<Monotonic>,
    /// Until when nobody is let in.
    closed: Option<Monotonic>,
    /// When handshakes may go on while clients are served.
    next_handshakes: Option<Monotonic>,
}

impl Rounds {
    /// Counts a message.
    #[inline]
    pub(super) fn received(&mut self) {
        self.steps += 1;
    }
}

impl<F: Member> Hub<F> {
    /// The next thing to do; `None` if there is none by `deadline`.
    pub(super) fn find(
        &mut self,
        deadline: Option<Monotonic>,
    ) -> Result<Option<Occasion<F>>, ConnectError> {
        if !self.set.is_ours() {
            return Err(ConnectError::Forked);
        }
        loop {
            if let Some(news) = self.news.pop_front() {
                return Ok(Some(news));
            }
            if let Some(occasion) = self.go_round() {
                return Ok(Some(occasion));
            }
            let found = std::mem::take(&mut self.rounds.has_found);
            self.rounds.left = self.rounds.active.len();
            let now = self.look_at_clock(found);
            if let Some(now) = now {
                if self.rounds.heard.is_none_or(|heard| now.since(heard) >= HEARING) {
                    self.hear(now, Some(Duration::ZERO))?;
                    if found {
                        self.quieten(|client| client.empty >= MOST_EMPTY);
                    }
                }
            }
            if found || !self.news.is_empty() {
                if self.rounds.idle.take().is_some() {
                    self.rounds.budget.paid(false);
                }
                continue;
            }
            if let Some(now) = now {
                if deadline.is_some_and(|deadline| deadline <= now) {
                    return Ok(None);
                }
            }
            if self.spins(now) {
                (0..HINTS).for_each(|_| spin_hint());
            } else if self.quieten(|_| true) {
                let now = Monotonic::now();
                self.hear(now, Some(self.time_to_sleep(now, deadline)))?;
                if deadline.is_some_and(|deadline| deadline <= Monotonic::now()) {
                    // What was heard at the last moment counts.
                    return Ok(self.news.pop_front().or_else(|| self.go_round()));
                }
            }
        }
    }

    /// Looks at the clients whose turn it is, up to the first that has something.
    fn go_round(&mut self) -> Option<Occasion<F>> {
        while self.rounds.left > 0 {
            self.rounds.left -= 1;
            self.rounds.steps += 1;
            let id = self.rounds.active.pop_front()?;
            // One that has left meanwhile is only forgotten here.
            let Some(client) = self.clients.get_mut(id) else { continue };
            if client.has_room() {
                self.rounds.active.push_back(id);
                return Some(Occasion::Room(id));
            }
            match client.connection.look() {
                Found::Message => {
                    client.empty = 0;
                    self.rounds.has_found = true;
                    self.rounds.active.push_back(id);
                    return Some(Occasion::Ready(id));
                }
                Found::Nothing if client.has_hung_up => {
                    // Its memory was as it stays, before its socket was closed.
                    let ending = client.connection.how_it_ended().unwrap_or(Ending::Died);
                    return self.left(id, ending);
                }
                Found::Nothing => {
                    client.empty = client.empty.saturating_add(1);
                    self.rounds.active.push_back(id);
                }
                Found::Ended(ending) => return self.left(id, ending),
            }
        }
        None
    }

    fn left(&mut self, id: ClientId, ending: Ending) -> Option<Occasion<F>> {
        self.forget(id).map(|connection| Occasion::Left(id, ending, connection))
    }

    /// The time, now and then.
    fn look_at_clock(&mut self, found: bool) -> Option<Monotonic> {
        self.rounds.steps += 1;
        let is_first_empty = !found && self.rounds.idle.is_none();
        if self.rounds.steps < STEPS_PER_LOOK && !is_first_empty {
            return None;
        }
        self.rounds.steps = 0;
        Some(Monotonic::now())
    }

    /// Whether to look again before a sleep.
    fn spins(&mut self, now: Option<Monotonic>) -> bool {
        let rounds = &mut self.rounds;
        if rounds.wait == Wait::Spin {
            return true;
        }
        if rounds.wait == Wait::Block || rounds.active.is_empty() {
            return false;
        }
        let Some(now) = now else { return true };
        let idle = *rounds.idle.get_or_insert(now);
        if now.since(idle) < rounds.budget.spin() {
            return true;
        }
        rounds.idle = None;
        rounds.budget.wasted();
        false
    }

    /// Has those clients ring for their next message that are `eligible` and have none now; whether nobody is active
    /// any more.
    fn quieten(&mut self, eligible: impl Fn(&Client<F>) -> bool) -> bool {
        let (rounds, clients) = (&mut self.rounds, &mut self.clients);
        let mut asked = 0;
        for &id in &rounds.active {
            if let Some(client) = clients.get_mut(id).filter(|client| eligible(client)) {
                client.ask();
                asked += 1;
            }
        }
        if asked == 0 {
            return rounds.active.is_empty();
        }
        clients::barrier();
        rounds.active.retain(|&id| {
            let Some(client) = clients.get_mut(id) else { return false };
            if !client.is_active {
                client.is_active = client.has_news();
            }
            client.is_active
        });
        rounds.left = rounds.active.len();
        rounds.active.is_empty()
    }

    fn time_to_sleep(&self, now: Monotonic, deadline: Option<Monotonic>) -> Duration {
        let next = self.listener.next_deadline();
        let until = deadline.into_iter().chain(next).chain(self.rounds.closed).min();
        until.map_or(SWEEP, |until| until.since(now).min(SWEEP))
    }

    /// Hears who has rung, has come, or has hung up, waiting for as long as `timeout`.
    fn hear(&mut self, now: Monotonic, timeout: Option<Duration>) -> Result<(), ConnectError> {
        let names = epoll::wait(self.set.as_fd(), timeout, epoll::EVENTS)
            .map_err(ConnectError::os("epoll_wait"))?;
        let sleeps = timeout.is_some_and(|timeout| !timeout.is_zero());
        let now = if sleeps { Monotonic::now() } else { now };
        self.rounds.heard = Some(now);
        if now.since(*self.rounds.swept.get_or_insert(now)) >= SWEEP {
            self.rounds.swept = Some(now);
            self.look_at_all();
        }
        let mut comes = self.listener.next_deadline().is_some_and(|deadline| deadline <= now);
        for name in names {
            if name == LISTENER {
                comes = true;
            } else {
                self.hear_client(ClientId::of(name));
            }
        }
        if self.rounds.closed.is_some_and(|closed| closed <= now) {
            self.rounds.closed = None;
            let (set, listener) = (self.set.as_fd(), self.listener.set());
            epoll::add_for_reading(set, listener, LISTENER)
                .map_err(ConnectError::os("epoll_ctl"))?;
        }
        let is_early = self.rounds.next_handshakes.is_some_and(|next| now < next);
        if comes && self.rounds.closed.is_none() && !(is_early && self.is_busy()) {
            let refused = self.listener.refused();
            self.let_in(now)?;
            let end = Monotonic::now();
            let next = end + end.since(now) * SHARE;
            self.rounds.next_handshakes = Some(next);
            if self.listener.refused() != refused && self.rounds.closed.is_none() {
                // Also when there is nobody to serve at the moment: who knocks for nothing, as fast as he can, would keep
                // this side from sleeping, and clients on its processor from running.
                self.close_until(next.max(end + RESPITE));
            }
        }
        Ok(())
    }

    /// Whether there are clients to serve.
    fn is_busy(&self) -> bool {
        !self.rounds.active.is_empty()
    }

    /// Hears one thing that a client says at its socket; what else it says is reported again.
    fn hear_client(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        match client.link.hear() {
            Heard::Silence => {}
            Heard::Bell if client.may_ring() => {
                if !client.is_active && client.rings_for_something() {
                    self.activate(id);
                }
            }
            Heard::End => {
                client.has_hung_up = true;
                epoll::remove(self.set.as_fd(), client.link.socket());
                self.activate(id);
            }
            Heard::Bell | Heard::Nonsense => {
                let left = self.left(id, Ending::Corrupt);
                self.news.extend(left);
            }
        }
    }

    fn activate(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if !std::mem::replace(&mut client.is_active, true) {
            client.empty = 0;
            self.rounds.active.push_back(id);
            self.rounds.left += 1;
        }
    }

    fn look_at_all(&mut self) {
        let all: Vec<_> = self.clients.ids().collect();
        all.into_iter().for_each(|id| self.activate(id));
    }

    /// Goes on with the handshakes, and takes in those that are done.
    fn let_in(&mut self, now: Monotonic) -> Result<(), ConnectError> {
        for _ in 0..MOST_AT_ONCE {
            match self.listener.advance(F::messages(), Some(Duration::ZERO)) {
                Ok(Some(channel)) => match F::over(channel) {
                    Ok(connection) => self.add(connection),
                    Err(error) => self.listener.pass_over(error.into()),
                },
                Ok(None) => break,
                Err(ConnectError::Forked) => return Err(ConnectError::Forked),
                // There may be descriptors again when somebody has left. Those who are there are served meanwhile.
                Err(error) => {
                    self.listener.pass_over(error);
                    self.close_until(now + PAUSE);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Lets nobody in before that.
    fn close_until(&mut self, until: Monotonic) {
        self.rounds.closed = Some(until);
        epoll::remove(self.set.as_fd(), self.listener.set());
    }

    fn add(&mut self, connection: F) {
        let link = connection.control().0;
        link.keep_fds(self.most_fds);
        let id = self.clients.add(Box::new(connection), Arc::clone(&link));
        let added = epoll::add_for_reading(self.set.as_fd(), link.socket(), id.name());
        if let Err(error) = added {
            drop(self.clients.remove(id));
            return self.listener.pass_over(ConnectError::os("epoll_ctl")(error));
        }
        self.count_clients();
        self.news.push_back(Occasion::Joined(id));
        self.activate(id);
    }

    /// Lets go of a client; its connection.
    pub(super) fn forget(&mut self, id: ClientId) -> Option<Box<F>> {
        let client = self.clients.remove(id)?;
        if self.set.is_ours() && !client.has_hung_up {
            epoll::remove(self.set.as_fd(), client.link.socket());
        }
        self.count_clients();
        Some(client.connection)
    }

    pub(super) fn count_clients(&mut self) {
        self.listener.set_crowded(self.clients.len() >= self.most_clients);
    }
}
