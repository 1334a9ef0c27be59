//! `annulus listen` and `annulus connect`: standard input and output over a connection, both ways.
//!
//! The end of our input closes that direction, and the other one goes on; when both are closed, we are done.

use crate::exit::{Code, Coded, Failure, Outcome};
use crate::output::complain;
use crate::ring::Waiting;
use crate::{create, output, signals, standard, units};
use annulus::{
    Address, ByteStream, ByteStreamReader, ByteStreamWriter, Connect, ConnectError, Ending,
    Listener, Refusal,
};
use clap::Args;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes copied at a time.
const PIECE: usize = 64 * 1024;
/// Between two looks whether somebody listens by now.
const PAUSE: Duration = Duration::from_millis(10);

/// What both verbs are told.
#[derive(Debug, Args)]
pub struct MeetArgs {
    /// The socket: a path, or @NAME for a name in the abstract namespace
    address: String,

    /// How to wait for the other side
    #[arg(long, value_enum, default_value_t = Waiting::Adaptive)]
    wait: Waiting,

    /// Give up when there is no connection after so long, with exit code 124
    #[arg(long, value_name = "D", value_parser = units::parse_duration)]
    timeout: Option<Duration>,

    /// A name for the messages, up to 64 bytes, that the other side must have, too
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,

    /// Accept this user, by its id, at the other side, beside our own and the superuser
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,
}

/// Wait for one client, and copy standard input to it and what it sends to standard output
#[derive(Debug, Args)]
#[command(after_help = AFTER_LISTEN)]
pub struct ListenArgs {
    #[command(flatten)]
    meet: MeetArgs,

    /// Permission bits of the socket: who may write to it may connect
    #[arg(long, value_name = "MODE", value_parser = create::mode, default_value = "0600")]
    mode: u32,

    /// The most memory that a client's rings may take, both directions together: 64M, 1G
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size, default_value = "64M")]
    most_bytes: usize,
}

/// Connect to a listener, and copy standard input to it and what it sends to standard output
#[derive(Debug, Args)]
#[command(after_help = AFTER_CONNECT)]
pub struct ConnectArgs {
    #[command(flatten)]
    meet: MeetArgs,

    /// Bytes of each direction's ring: 64K, 1M; what a listener takes for both together is its --most-bytes
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size, default_value = "256K")]
    capacity: usize,
}

const AFTER_LISTEN: &str = "\
The socket is removed when a client has connected. At the end of standard input the client learns that there is no more; \
what it sends is copied until it closes its side, too. A client that dies ends this with exit code 7.

Examples:
  annulus listen /run/user/1000/s > copy
  annulus listen @chat --timeout 1m";

const AFTER_CONNECT: &str = "\
With --timeout a listener that is not there yet is waited for. Half-close and exit codes are those of `annulus listen`.

Examples:
  annulus connect /run/user/1000/s < file
  tar c . | annulus connect @backup --timeout 10s";

impl MeetArgs {
    fn address(&self) -> Address {
        match self.address.strip_prefix('@') {
            Some(name) => Address::name(name),
            None => Address::path(&self.address),
        }
    }

    fn failed(&self, error: &ConnectError) -> Failure {
        match error {
            ConnectError::Os { source, .. } if is_nowhere(source) => {
                // There are file systems that say so of what they do not let anybody make.
                let parent = Path::new(&self.address).parent();
                let (code, text) = match parent.is_some_and(Path::is_dir) {
                    true => {
                        (Code::Failure, "no socket can be made in that directory; take another")
                    }
                    false => (Code::NotFound, "there is no such directory; make it first"),
                };
                Failure::new(code, format!("{}: {text}", self.address))
            }
            ConnectError::Refused { refusal: refusal @ Refusal::TooLarge } => {
                let text = "the listener takes no rings that large; give a smaller --capacity here, or a larger --most-bytes there";
                Failure::new(refusal.code(), format!("{}: {text}", self.address))
            }
            ConnectError::Unwanted { refusal: refusal @ Refusal::TooLarge } => {
                let text = "a client was refused that wants larger rings than --most-bytes allows";
                Failure::new(refusal.code(), format!("{}: {text}", self.address))
            }
            // It says what address.
            ConnectError::InvalidAddress { .. } => Failure::new(error.code(), error.to_string()),
            _ => Failure::of(&self.address, error),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    fn late(&self) -> Failure {
        Failure::new(
            Code::TimedOut,
            format!("{}: nobody was there in time; see what keeps the other side", self.address),
        )
    }

    /// Whom to let in, for a library that knows nothing of `owner`.
    fn authorize(&self) -> impl FnMut(&annulus::Peer) -> bool + Send + 'static {
        let owner = self.owner;
        move |peer| peer.is_same_user() || Some(peer.uid()) == owner
    }
}

/// Whether some part of a path is not there, or no directory.
fn is_nowhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

pub fn listen(args: &ListenArgs) -> Outcome {
    standard::check_input()?;
    standard::check_output()?;
    let meet = &args.meet;
    let deadline = meet.deadline();
    // So that the socket's file goes with us.
    signals::hold();
    let options = Listener::options().mode(args.mode).label(&meet.label);
    let options = options.most_bytes(args.most_bytes as u64);
    let bound = options.authorize(meet.authorize()).bind(meet.address());
    let mut listener = bound.map_err(|error| meet.failed(&error))?;
    let mut refused = 0;
    let stream = loop {
        let accepted = listener.accept_timeout::<ByteStream>(signals::SLICE);
        // Who only went away has learnt what it wanted.
        let why = listener.last_refusal().filter(|why| !matches!(why, ConnectError::Closed));
        if let Some(why) = why.filter(|_| listener.refused() > refused) {
            complain(meet.failed(why).text());
        }
        refused = listener.refused();
        match accepted {
            Ok(stream) => break stream,
            Err(ConnectError::Timeout) => {}
            Err(error) => return Err(meet.failed(&error)),
        }
        signals::check()?;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(meet.late());
        }
    };
    drop(listener);
    signals::let_go();
    signals::check()?;
    copy(stream, meet)
}

pub fn connect(args: &ConnectArgs) -> Outcome {
    standard::check_input()?;
    standard::check_output()?;
    let meet = &args.meet;
    let deadline = meet.deadline();
    loop {
        let connect = Connect::new().capacity(args.capacity).label(&meet.label);
        let connect = match deadline {
            Some(deadline) => connect.timeout(deadline.saturating_duration_since(Instant::now())),
            None => connect,
        };
        match connect.authorize(meet.authorize()).open::<ByteStream>(meet.address()) {
            Ok(stream) => return copy(stream, meet),
            Err(ConnectError::NotListening) if deadline.is_some() => {}
            Err(error) => return Err(meet.failed(&error)),
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(meet.late());
        }
        thread::sleep(PAUSE);
    }
}

/// Copies both ways until both are closed, or one fails.
fn copy(mut stream: ByteStream, meet: &MeetArgs) -> Outcome {
    stream.set_wait(meet.wait.into());
    let (reader, writer) = stream.split();
    let (tell, told) = mpsc::channel();
    let tell_too = tell.clone();
    let (name, name_too) = (meet.address.clone(), meet.address.clone());
    let out = thread::Builder::new().spawn(move || drop(tell.send(send(writer, &name))));
    let back =
        thread::Builder::new().spawn(move || drop(tell_too.send(receive(reader, &name_too))));
    for started in [out, back] {
        started.map_err(|error| Failure::io("a thread", &error))?;
    }
    // Both ends are told, also by a thread that is no more.
    told.iter().take(2).collect()
}

/// Standard input to the peer. When it ends, the peer learns that; when it cannot be read, that we have died.
fn send(mut writer: ByteStreamWriter, name: &str) -> Outcome {
    let mut buffer = vec![0; PIECE];
    let mut input = io::stdin().lock();
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                writer.write_all(&buffer[..count]).map_err(|error| Failure::of(name, &error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                std::mem::forget(writer);
                return Err(Failure::io("standard input", &error));
            }
        }
    }
}

/// What the peer sends to standard output, until it has closed its side.
fn receive(mut reader: ByteStreamReader, name: &str) -> Outcome {
    let mut buffer = vec![0; PIECE];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => {
                debug_assert_ne!(reader.ending(), Some(Ending::Died));
                return Ok(());
            }
            Ok(count) => {
                output::write_all(&buffer[..count]).map_err(|stopped| stopped.failure)?;
            }
            Err(error) => return Err(Failure::of(name, &error)),
        }
    }
}
