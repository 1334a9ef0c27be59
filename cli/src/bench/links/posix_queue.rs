//! POSIX message queues, as long as the kernel lets this process make them.

use nix::errno::Errno;
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_close, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::stat::Mode;

use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};
use crate::bench::payload::Bytes;

/// Queue lengths to try; fs.mqueue.msg_max (10 unless changed) binds those without privilege, RLIMIT_MSGQUEUE all.
const LENGTHS: [i64; 5] = [1024, 256, 64, 32, 10];

/// A queue for each direction.
pub struct PosixQueues {
    forth: Queue,
    back: Queue,
}

struct Queue(Option<MqdT>);

impl Queue {
    fn take(mut self) -> MqdT {
        self.0.take().expect("a queue is taken once")
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            let _ = mq_close(queue);
        }
    }
}

impl Transport for PosixQueues {
    type Link = Ends;

    fn prepare(setup: &Setup) -> Result<Self, Refusal> {
        Ok(Self { forth: make("forth", setup.size)?, back: make("back", setup.size)? })
    }

    fn attach(self, side: Side, _: &Setup) -> Result<Ends, Failure> {
        let (to_peer, from_peer) =
            if side == Side::Near { (self.forth, self.back) } else { (self.back, self.forth) };
        Ok(Ends { to_peer: to_peer.take(), from_peer: from_peer.take() })
    }
}

/// Makes a queue and removes its name at once: the descriptors are inherited.
fn make(direction: &str, size: usize) -> Result<Queue, Refusal> {
    let name = format!("/annulus-bench.{}.{direction}", std::process::id());
    let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR | MQ_OFlag::O_CLOEXEC;
    let mut refused = Errno::EINVAL;
    for length in LENGTHS {
        let attributes = MqAttr::new(0, length, size as i64, 0);
        match mq_open(name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR, Some(&attributes)) {
            Ok(queue) => {
                let _ = mq_unlink(name.as_str());
                return Ok(Queue(Some(queue)));
            }
            Err(error) => refused = error,
        }
    }
    let limit = std::fs::read_to_string("/proc/sys/fs/mqueue/msgsize_max").ok();
    match limit.and_then(|text| text.trim().parse::<usize>().ok()) {
        Some(limit) if limit < size => {
            Err(Refusal::Unavailable(format!("{size} B exceed fs.mqueue.msgsize_max ({limit})")))
        }
        _ => Err(Refusal::by_kernel("mq_open", refused)),
    }
}

/// One side's view of both queues.
pub struct Ends {
    to_peer: MqdT,
    from_peer: MqdT,
}

impl Link for Ends {
    type Message = Bytes;

    #[inline]
    fn send(&mut self, message: &Bytes) -> Result<(), Failure> {
        mq_send(&self.to_peer, &message.0, 0).map_err(|error| Failure::call("mq_send", error))
    }

    #[inline]
    fn recv(&mut self, message: &mut Bytes) -> Result<(), Failure> {
        let mut priority = 0;
        let received = mq_receive(&self.from_peer, &mut message.0, &mut priority)
            .map_err(|error| Failure::call("mq_receive", error))?;
        if received != message.0.len() {
            Err(Failure::wrong_length(received, message.0.len()))
        } else {
            Ok(())
        }
    }
}
