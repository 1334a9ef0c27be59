//! The side that listens.
//!
//! Handshakes run side by side, each with its own deadline, so a client that connects and says nothing holds up
//! nobody but itself.

use super::messages::{BELL_PLEASE, Hello, Message, VERSION};
use super::quota::{Place, Quota};
use super::spare::Spare;
use super::{
    Address, Authorize, Channel, Face, Link, MOST_BYTES, Messages, PATIENCE, Peer, label_of, one,
    receive, refuse, send,
};
use crate::error::{ConnectError, Refusal, SetupError};
use crate::segment::{PeersHalves, Spec};
use crate::sys::clock::Monotonic;
use crate::sys::fork::PrivateFd;
use crate::sys::{epoll, socket};
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Handshakes under way at a time. When there are as many, the oldest makes room.
const MOST_PENDING: usize = 64;
/// Steps of handshakes that are made in one go.
const STEPS: usize = 8;
/// The name of the listening socket among those that are waited for; those of clients are higher.
const LISTENING: u64 = 0;
/// How long to wait for another process that is just binding in the same directory.
const PATIENCE_TO_BIND: Duration = Duration::from_secs(3);

/// How to listen. Made by [`Listener::options`].
#[must_use = "nobody listens before `bind`"]
pub struct ListenerOptions {
    mode: u32,
    label: String,
    timeout: Duration,
    most_bytes: u64,
    most_per_user: usize,
    authorize: Authorize,
}

impl fmt::Debug for ListenerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = format_args!("{:04o}", self.mode);
        f.debug_struct("ListenerOptions").field("mode", &mode).finish_non_exhaustive()
    }
}

impl ListenerOptions {
    /// Permission bits of the socket, not reduced by the umask: who may write to it may connect. Default: `0o600`,
    /// only this user. Of no consequence for a name in the abstract namespace.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// A name for the messages, up to 64 bytes, that clients must have, too. Default: none.
    pub fn label(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }

    /// How long each handshake may take. Default: five seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The most memory, in bytes, that the rings of one client may take together, both directions and both sides'
    /// halves. Default: 64 MiB.
    pub fn most_bytes(mut self, bytes: u64) -> Self {
        self.most_bytes = bytes;
        self
    }

    /// The most clients of one user at a time, with those whose handshakes are under way: more are refused
    /// ([`Refusal::Crowded`]). A connection counts until it is dropped here. Who the user is, the kernel says
    /// ([`Peer::uid`]); in a user namespace, users whom it does not know count as one. Default: no limit.
    ///
    /// ```
    /// use annulus::{Address, ByteDuplex, ConnectError, Listener, Refusal};
    ///
    /// let address = Address::name(format!("annulus-example-quota-{}", std::process::id()));
    /// let mut listener = Listener::options().most_per_user(1).bind(address.clone())?;
    /// let client = std::thread::spawn(move || {
    ///     let _first: ByteDuplex = annulus::connect(address.clone()).unwrap();
    ///     annulus::connect::<ByteDuplex>(address).map(drop)
    /// });
    /// let _first: ByteDuplex = listener.accept()?;
    /// while listener.refused() == 0 {
    ///     let _ = listener.accept_timeout::<ByteDuplex>(std::time::Duration::from_millis(1));
    /// }
    /// let second = client.join().unwrap();
    /// assert!(matches!(second, Err(ConnectError::Refused { refusal: Refusal::Crowded })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn most_per_user(mut self, most: usize) -> Self {
        self.most_per_user = most;
        self
    }

    /// Which clients are welcome: those that `authorize` says `true` of. Default: this process's user and the
    /// superuser. It is called once for each connection, before anything that the client says is looked at.
    ///
    /// ```
    /// use annulus::{Address, Listener};
    ///
    /// let name = format!("annulus-example-{}", std::process::id());
    /// let anybody = Listener::options().authorize(|peer| peer.uid() < 60_000);
    /// let listener = anybody.bind(Address::name(name))?;
    /// # Ok::<(), annulus::ConnectError>(())
    /// ```
    pub fn authorize(mut self, authorize: impl FnMut(&Peer) -> bool + Send + 'static) -> Self {
        self.authorize = Box::new(authorize);
        self
    }

    /// Listens at `address`. A socket file that a listener has left behind when it died is replaced.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InUse`] if somebody listens there, or the path is something else;
    /// [`ConnectError::PermissionDenied`], [`ConnectError::InvalidAddress`], [`ConnectError::Ring`] for an invalid
    /// mode or label, and others as the kernel answers.
    pub fn bind(self, address: impl Into<Address>) -> Result<Listener, ConnectError> {
        if self.mode & !0o777 != 0 {
            return Err(SetupError::InvalidMode { mode: self.mode }.into());
        }
        label_of(&self.label)?;
        let address = address.into();
        let raw = address.raw()?;
        let socket = PrivateFd::open_lockless(|| socket::new().map(File::from));
        let socket = socket.map_err(ConnectError::os("socket"))?;
        let bound = match address.as_path() {
            Some(path) => Some(bind_path(&socket, &raw, path, self.mode)?),
            None => {
                socket::bind(socket.as_fd(), &raw, self.mode).map_err(cannot_bind)?;
                socket::listen(socket.as_fd()).map_err(ConnectError::os("listen"))?;
                None
            }
        };
        let set = PrivateFd::open_lockless(|| epoll::new().map(File::from));
        let set = set.map_err(ConnectError::os("epoll_create"))?;
        let added = epoll::add_for_reading(set.as_fd(), socket.as_fd(), LISTENING);
        added.map_err(ConnectError::os("epoll_ctl"))?;
        Ok(Listener {
            socket,
            set,
            bound,
            address,
            quota: Quota::new(self.most_per_user),
            options: self,
            pending: Vec::new(),
            spare: Spare::default(),
            next: LISTENING + 1,
            has_bell: false,
            is_crowded: false,
            refused: 0,
            last: None,
        })
    }
}

fn cannot_bind(error: io::Error) -> ConnectError {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => ConnectError::InUse,
        _ => ConnectError::os("bind")(error),
    }
}

/// A lock on a directory, of its own kind, which leaves nothing behind.
struct DirectoryLock(PrivateFd);

impl DirectoryLock {
    /// Keeps others that use this library from binding in the directory of `path` meanwhile.
    fn of(path: &Path) -> Result<Self, ConnectError> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut options = File::options();
        // Of anything else, such as a FIFO, the opening could wait for ever.
        options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC);
        // A child that is forked meanwhile does not keep it.
        let directory = PrivateFd::open(|| options.open(parent.unwrap_or(Path::new("."))));
        let lock = Self(directory.map_err(ConnectError::os("opening the directory"))?);
        let start = Instant::now();
        loop {
            match lock.flock(nix::fcntl::FlockArg::LockExclusiveNonblock) {
                Ok(()) => return Ok(lock),
                Err(nix::errno::Errno::EWOULDBLOCK) if start.elapsed() < PATIENCE_TO_BIND => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(nix::errno::Errno::EWOULDBLOCK) => return Err(ConnectError::InUse),
                Err(errno) => return Err(ConnectError::os("locking the directory")(errno.into())),
            }
        }
    }

    fn flock(&self, operation: nix::fcntl::FlockArg) -> nix::Result<()> {
        #[allow(deprecated, reason = "the other way has a lock for a file that it owns")]
        nix::fcntl::flock(self.0.file().as_raw_fd(), operation)
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Given up here: closing does so only when the last descriptor goes, and a child that was forked this moment, or
        // made without the handlers of `fork`, still has one.
        let _ = self.flock(nix::fcntl::FlockArg::Unlock);
    }
}

/// Binds to a path, in place of a socket whose listener is dead, and listens.
fn bind_path(
    socket: &PrivateFd,
    raw: &socket::Address,
    path: &Path,
    mode: u32,
) -> Result<Bound, ConnectError> {
    let _alone = DirectoryLock::of(path)?;
    let mut bound = socket::bind(socket.as_fd(), raw, mode);
    if bound.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EADDRINUSE)) {
        remove_stale(raw, path)?;
        bound = socket::bind(socket.as_fd(), raw, mode);
    }
    bound.map_err(cannot_bind)?;
    // The socket has its address, and nobody can connect before it listens: the mode is right by then.
    let finish = || {
        // By a descriptor of the file: whoever may write to the directory could put a link to another file of ours there.
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.file_type().is_socket() {
            return Err(io::Error::from(io::ErrorKind::AddrInUse));
        }
        let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(itself, Permissions::from_mode(mode))?;
        socket::listen(socket.as_fd())?;
        Ok((metadata.dev(), metadata.ino()))
    };
    let done = finish().inspect_err(|_| drop(fs::remove_file(path)));
    let file = done.map_err(ConnectError::os("setting the socket up"))?;
    Ok(Bound { path: path.to_owned(), file })
}

/// Removes a socket that nobody listens at, and nothing else.
fn remove_stale(raw: &socket::Address, path: &Path) -> Result<(), ConnectError> {
    let metadata = match fs::symlink_metadata(path) {
        // Its owner was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(ConnectError::os("lstat"))?,
    };
    if !metadata.file_type().is_socket() {
        return Err(ConnectError::InUse);
    }
    let probe = socket::new().map_err(ConnectError::os("socket"))?;
    match socket::connect(probe.as_fd(), raw) {
        // Only this says that there is nobody.
        Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {
            fs::remove_file(path).map_err(ConnectError::os("unlink"))
        }
        _ => Err(ConnectError::InUse),
    }
}

/// A socket file that is ours.
#[derive(Debug)]
struct Bound {
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

/// Takes connections, each of which is a pair of rings: see [`Duplex`](crate::Duplex).
///
/// The client says what it wants: messages, capacities, label. The listener grants that or nothing, within the
/// limits of its [options](Self::options). Each side makes its own halves of the rings, so that neither can write what
/// the other has written, and checks the other's. Neither need trust the other; see `SECURITY.md`.
///
/// The socket's file is removed when the listener is dropped, unless it is another's by then.
///
/// [`connect`](crate::connect) has an example.
#[derive(Debug)]
pub struct Listener {
    socket: PrivateFd,
    /// This socket, and those of the clients whose handshakes are under way.
    set: PrivateFd,
    bound: Option<Bound>,
    address: Address,
    options: ListenerOptions,
    quota: Quota,
    pending: Vec<Pending>,
    spare: Spare,
    /// The name of the next client in `set`.
    next: u64,
    /// Whether clients are to ring at the socket.
    has_bell: bool,
    /// Whether clients are turned away.
    is_crowded: bool,
    refused: u64,
    last: Option<ConnectError>,
}

/// A client that has not said yet what it wants.
#[derive(Debug)]
struct Pending {
    /// Its name in the set, if it is there. What it wants comes with it, as a rule, and it need not be waited for.
    name: Option<u64>,
    socket: Arc<PrivateFd>,
    peer: Peer,
    deadline: Monotonic,
    place: Place,
}

impl Listener {
    /// The defaults: only this user, five seconds for a handshake, 64 MiB for a client.
    pub fn options() -> ListenerOptions {
        ListenerOptions {
            mode: 0o600,
            label: String::new(),
            timeout: PATIENCE,
            most_bytes: MOST_BYTES,
            most_per_user: usize::MAX,
            authorize: Box::new(Peer::is_same_user),
        }
    }

    /// Listens at `address` with the defaults of [`options`](Self::options).
    ///
    /// # Errors
    ///
    /// As for [`ListenerOptions::bind`].
    pub fn bind(address: impl Into<Address>) -> Result<Self, ConnectError> {
        Self::options().bind(address)
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How many clients were refused, or went away, before they were connected.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// What was wrong with the last of them.
    pub fn last_refusal(&self) -> Option<&ConnectError> {
        self.last.as_ref()
    }

    /// The next client, as `F`, when one has connected.
    ///
    /// A client that is refused, is silent, or goes away again, is passed over.
    ///
    /// # Errors
    ///
    /// Only if this side cannot go on: [`ConnectError::Forked`] in a forked child, and [`ConnectError::Os`], for
    /// example if there are no descriptors left. The client then waits for the next call.
    pub fn accept<F: Face>(&mut self) -> Result<F, ConnectError> {
        self.accept_by(None)
    }

    /// The next client, if one connects within `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`accept`](Self::accept), and [`ConnectError::Timeout`].
    ///
    /// ```
    /// use annulus::{Address, ByteDuplex, ConnectError, Listener};
    /// use std::time::Duration;
    ///
    /// let name = format!("annulus-example-accept-{}", std::process::id());
    /// let mut listener = Listener::bind(Address::name(name))?;
    /// let nobody = listener.accept_timeout::<ByteDuplex>(Duration::from_millis(1));
    /// assert!(matches!(nobody, Err(ConnectError::Timeout)));
    /// # Ok::<(), annulus::ConnectError>(())
    /// ```
    pub fn accept_timeout<F: Face>(&mut self, timeout: Duration) -> Result<F, ConnectError> {
        self.accept_by(Some(Monotonic::now() + timeout))
    }

    fn accept_by<F: Face>(&mut self, deadline: Option<Monotonic>) -> Result<F, ConnectError> {
        loop {
            let now = Monotonic::now();
            let next = self.next_deadline().into_iter().chain(deadline).min();
            let timeout = next.map(|next| next.since(now));
            if let Some(channel) = self.advance(F::messages(), timeout)? {
                match F::over(channel) {
                    Ok(connection) => return Ok(connection),
                    // What it has written meanwhile makes no sense.
                    Err(error) => self.pass_over(error.into()),
                }
            }
            if deadline.is_some_and(|deadline| deadline <= Monotonic::now()) {
                return Err(ConnectError::Timeout);
            }
        }
    }

    /// Whether it is this process's.
    pub(crate) fn is_ours(&self) -> bool {
        self.socket.is_ours()
    }

    /// Counts a client that was not connected for this.
    pub(crate) fn pass_over(&mut self, error: ConnectError) {
        self.refused += 1;
        self.last = Some(error);
    }

    /// What has something to read when [`advance`](Self::advance) has something to do before
    /// [`next_deadline`](Self::next_deadline).
    pub(crate) fn set(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }

    /// When the next handshake has taken too long.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.pending.iter().map(|client| client.deadline).min()
    }

    /// From now on clients are asked to ring at the socket when this side sleeps.
    pub(crate) fn ask_for_bells(&mut self) {
        self.has_bell = true;
    }

    /// Whether clients are turned away from now on.
    pub(crate) fn set_crowded(&mut self, is_crowded: bool) {
        self.is_crowded = is_crowded;
    }

    /// Goes on with the handshakes for which there is something to do within `timeout`; the next connection, if one is
    /// made.
    pub(crate) fn advance(
        &mut self,
        messages: Messages,
        timeout: Option<Duration>,
    ) -> Result<Option<Channel>, ConnectError> {
        if !self.socket.is_ours() {
            return Err(ConnectError::Forked);
        }
        let names = epoll::wait(self.set.as_fd(), timeout, STEPS);
        let names = names.map_err(ConnectError::os("epoll_wait"))?;
        let now = Monotonic::now();
        while let Some(late) = self.pending.iter().position(|client| client.deadline <= now) {
            let late = self.pending.swap_remove(late);
            refuse(late.socket.as_fd(), Refusal::Malformed);
            self.pass_over(ConnectError::Timeout);
        }
        // What is not come to here is reported again.
        for name in names {
            let client = match self.pending.iter().position(|client| client.name == Some(name)) {
                Some(at) => self.pending.swap_remove(at),
                None if name == LISTENING => match self.welcome()? {
                    Some(client) => client,
                    None => continue,
                },
                // It has made room since.
                None => continue,
            };
            if let Some(channel) = self.go_on(client, messages)? {
                return Ok(Some(channel));
            }
        }
        Ok(None)
    }

    /// Goes on with a client, which may have said what it wants; the connection, if that is granted.
    fn go_on(
        &mut self,
        client: Pending,
        messages: Messages,
    ) -> Result<Option<Channel>, ConnectError> {
        let mut answered = self.answer(&client, messages);
        if matches!(answered, Ok(None)) && client.name.is_none() && self.spare.prepare() {
            // It had time to say what it wants.
            answered = self.answer(&client, messages);
        }
        match answered {
            Ok(None) => self.wait_for(client).map(|()| None),
            Ok(Some((sends, receives))) => {
                let Pending { name, socket, peer, place, .. } = client;
                if name.is_some() {
                    epoll::remove(self.set.as_fd(), socket.as_fd());
                }
                let (sends, receives) = (Arc::new(sends), Arc::new(receives));
                // A listener's clients never ask to be rung for.
                let link = Link::new(socket, peer, [&sends, &receives], false, Some(place));
                Ok(Some(Channel { sends, receives, link }))
            }
            Err(error) => {
                client.say_why(&error);
                self.pass_over(error);
                Ok(None)
            }
        }
    }

    /// Answers a client, if it has said what it wants; the rings.
    fn answer(
        &mut self,
        client: &Pending,
        messages: Messages,
    ) -> Result<Option<Rings>, ConnectError> {
        let Some((message, fds)) = receive(client.socket.as_fd())? else { return Ok(None) };
        let Message::Hello(hello) = message else {
            return Err(ConnectError::Protocol { reason: "says something out of turn" });
        };
        let wanted = grant(&hello, messages, &self.options)?;
        // Before anything is made for it.
        let theirs = PeersHalves::open(one(fds)?, &wanted.0, &wanted.1)?;
        let rings = self.spare.take(wanted)?.join(theirs)?;
        let answer = Message::Answer {
            version: VERSION,
            features: if self.has_bell { BELL_PLEASE } else { 0 },
            there: hello.there,
            back: hello.back,
        };
        // Both are in one file.
        send(client.socket.as_fd(), answer, &[rings.0.fd()])?;
        Ok(Some(rings))
    }

    /// Has the set tell when a client says something, which has not yet.
    fn wait_for(&mut self, mut client: Pending) -> Result<(), ConnectError> {
        if client.name.is_none() {
            if self.pending.len() >= MOST_PENDING {
                self.drop_oldest();
            }
            epoll::add_for_reading(self.set.as_fd(), client.socket.as_fd(), self.next)
                .map_err(ConnectError::os("epoll_ctl"))?;
            client.name = Some(self.next);
            self.next += 1;
        }
        self.pending.push(client);
        Ok(())
    }

    /// Lets go of the oldest handshake.
    fn drop_oldest(&mut self) {
        let all = 0..self.pending.len();
        let Some(oldest) = all.min_by_key(|&i| self.pending[i].name) else { return };
        let client = self.pending.swap_remove(oldest);
        refuse(client.socket.as_fd(), Refusal::Crowded);
        self.pass_over(ConnectError::Timeout);
    }

    /// Takes a connection that somebody has made, if it is welcome.
    fn welcome(&mut self) -> Result<Option<Pending>, ConnectError> {
        let accepted =
            PrivateFd::open_lockless(|| socket::accept(self.socket.as_fd()).map(File::from));
        let socket = match accepted {
            Ok(socket) => Arc::new(socket),
            Err(error) => match error.raw_os_error() {
                // It went away again, or it was a signal.
                Some(libc::EAGAIN | libc::ECONNABORTED | libc::EINTR | libc::EPROTO) => {
                    return Ok(None);
                }
                _ => return Err(ConnectError::os("accept")(error)),
            },
        };
        let peer = match Peer::of(&socket) {
            Ok(peer) => peer,
            Err(error) => {
                self.pass_over(ConnectError::os("asking for the peer")(error));
                return Ok(None);
            }
        };
        if !(self.options.authorize)(&peer) {
            refuse(socket.as_fd(), Refusal::Untrusted);
            self.pass_over(ConnectError::Untrusted { uid: peer.uid() });
            return Ok(None);
        }
        let place = self.quota.take(peer.uid()).filter(|_| !self.is_crowded);
        let Some(place) = place else {
            refuse(socket.as_fd(), Refusal::Crowded);
            self.pass_over(ConnectError::Unwanted { refusal: Refusal::Crowded });
            return Ok(None);
        };
        let deadline = Monotonic::now() + self.options.timeout;
        Ok(Some(Pending { name: None, socket, peer, deadline, place }))
    }
}

/// The rings of a client: what this side sends into, and what it receives from.
type Rings = (crate::segment::Segment, crate::segment::Segment);

impl Pending {
    /// Tells the client why there will be no connection.
    fn say_why(&self, error: &ConnectError) {
        let refusal = match error {
            ConnectError::Unwanted { refusal } => *refusal,
            ConnectError::Version { .. } => Refusal::Version,
            ConnectError::Closed | ConnectError::Refused { .. } => return,
            ConnectError::Ring(SetupError::NoSpace { .. } | SetupError::Os { .. })
            | ConnectError::Os { .. } => Refusal::NoRoom,
            _ => Refusal::Malformed,
        };
        refuse(self.socket.as_fd(), refusal);
    }
}

/// What this side sends into and receives from, if what a client asks for is granted.
fn grant(
    hello: &Hello,
    messages: Messages,
    options: &ListenerOptions,
) -> Result<(Spec, Spec), ConnectError> {
    let unwanted = |refusal| Err(ConnectError::Unwanted { refusal });
    if hello.version != VERSION {
        return Err(ConnectError::Version { ours: VERSION, theirs: hello.version });
    }
    if (hello.kind, (hello.size, hello.align)) != (messages.kind.number(), messages.said()) {
        return unwanted(Refusal::Messages);
    }
    if hello.label != label_of(&options.label)? {
        return unwanted(Refusal::Label);
    }
    // Nothing is made, not even reckoned with, before it is within the limit.
    let spec = |capacity: u64| {
        let capacity = usize::try_from(capacity).ok()?;
        let spec = messages.spec(capacity, &options.label);
        spec.check().ok()?;
        let size = spec.split_size().ok()?;
        Some((spec, size))
    };
    let (Some((there, one)), Some((back, other))) = (spec(hello.there), spec(hello.back)) else {
        return unwanted(Refusal::TooLarge);
    };
    let bytes = one.saturating_add(other);
    if bytes > options.most_bytes {
        return unwanted(Refusal::TooLarge);
    }
    Ok((back, there))
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(bound) = self.bound.take().filter(|_| self.socket.is_ours()) else { return };
        // Alone in the directory, so that it is not a successor's socket by the time it is removed.
        let Ok(_alone) = DirectoryLock::of(&bound.path) else { return };
        let there = fs::symlink_metadata(&bound.path);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == bound.file) {
            let _ = fs::remove_file(&bound.path);
        }
    }
}

static_assertions::assert_impl_all!(Listener: Send);
