//! What is measured: one row for each transport, way of waiting and message size.

use super::link::Waiting;

/// Message sizes of a run that names none, in bytes.
pub const DEFAULT_SIZES: [usize; 6] = [8, 56, 64, 1024, 4096, 65_536];

/// The largest message that shares a cache line with the word that announces it. Measured by default for our own rings,
/// for which it is a landmark, and not for the kernel's transports, for which it is not.
pub const OWN_LANDMARK: usize = 56;

/// Our own transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Own {
    /// `Ring<T>`: messages of one type.
    Ring,
    /// `ByteRing`: messages of any length.
    Bytes,
    /// `Stream`: bytes without boundaries, by `Read` and `Write`.
    Stream,
    /// `Duplex<T>`: the split form of `Ring<T>`, for peers that need not trust each other.
    Split,
    /// `ByteDuplex`: the split form of `ByteRing`.
    SplitBytes,
}

impl Own {
    /// What this is the split form of.
    pub fn shared_form(self) -> Option<Self> {
        match self {
            Self::Split => Some(Self::Ring),
            Self::SplitBytes => Some(Self::Bytes),
            Self::Ring | Self::Bytes | Self::Stream => None,
        }
    }
}

/// The kernel's transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kernel {
    /// Anonymous pipes.
    Pipe,
    /// Named pipes.
    Fifo,
    /// A pair of Unix stream sockets.
    UnixStream,
    /// A pair of Unix seqpacket sockets.
    UnixSeqpacket,
    /// System V message queues.
    SysvQueue,
    /// POSIX message queues.
    PosixQueue,
    /// Event counters; 8 bytes only.
    Eventfd,
    /// TCP over 127.0.0.1, without Nagle's algorithm.
    Tcp,
}

impl Kernel {
    pub const ALL: [Self; 8] = [
        Self::Pipe,
        Self::Fifo,
        Self::UnixStream,
        Self::UnixSeqpacket,
        Self::SysvQueue,
        Self::PosixQueue,
        Self::Eventfd,
        Self::Tcp,
    ];
}

/// Anything that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// One cache line each way.
    Floor,
    /// One core copying out of the other's cache.
    CopyLimit,
    Own(Own, Waiting),
    /// Always blocking.
    Kernel(Kernel),
}

impl Carrier {
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::CopyLimit => "copy-limit",
            Self::Own(Own::Ring, _) => "ring",
            Self::Own(Own::Bytes, _) => "bytes",
            Self::Own(Own::Stream, _) => "stream",
            Self::Own(Own::Split, _) => "split",
            Self::Own(Own::SplitBytes, _) => "split-bytes",
            Self::Kernel(Kernel::Pipe) => "pipe",
            Self::Kernel(Kernel::Fifo) => "fifo",
            Self::Kernel(Kernel::UnixStream) => "unix-stream",
            Self::Kernel(Kernel::UnixSeqpacket) => "unix-seqpacket",
            Self::Kernel(Kernel::SysvQueue) => "sysv-queue",
            Self::Kernel(Kernel::PosixQueue) => "posix-queue",
            Self::Kernel(Kernel::Eventfd) => "eventfd",
            Self::Kernel(Kernel::Tcp) => "tcp",
        }
    }

    pub fn wait(self) -> Waiting {
        match self {
            Self::Floor | Self::CopyLimit => Waiting::Spin,
            Self::Own(_, wait) => wait,
            Self::Kernel(_) => Waiting::Block,
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub carrier: Carrier,
    /// Bytes of a message.
    pub size: usize,
    /// Both workers share one processor.
    pub one_cpu: bool,
}

impl Row {
    pub fn describe(&self) -> String {
        let size = super::units::bytes(self.size);
        match self.carrier {
            Carrier::Own(_, wait) => format!("{} {} {size}", self.carrier.name(), wait.name()),
            _ => format!("{} {size}", self.carrier.name()),
        }
    }
}

/// What the user wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// `None` for the default sizes.
    pub sizes: Option<Vec<usize>>,
    pub own: Vec<Own>,
    pub waits: Vec<Waiting>,
    pub kernel: Vec<Kernel>,
    pub one_cpu: bool,
}

impl Selection {
    /// The rows of the table, by size and within a size ours first.
    pub fn rows(&self) -> Vec<Row> {
        let chosen = self.sizes.is_some();
        let sizes = self.sizes.clone().unwrap_or(DEFAULT_SIZES.to_vec());
        let mut rows = Vec::new();
        for &size in &sizes {
            let mut push = |carrier| rows.push(Row { carrier, size, one_cpu: self.one_cpu });
            for &own in &self.own {
                for &wait in &self.waits {
                    push(Carrier::Own(own, wait));
                }
            }
            for &kernel in &self.kernel {
                // Eight bytes is all that an eventfd carries: without that size its row says so, once.
                let fits = match kernel {
                    Kernel::Eventfd => size == 8 || (!sizes.contains(&8) && size == sizes[0]),
                    _ => chosen || size != OWN_LANDMARK,
                };
                if fits {
                    push(Carrier::Kernel(kernel));
                }
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Selection {
        Selection {
            sizes: None,
            own: vec![Own::Ring, Own::Bytes, Own::Stream],
            waits: vec![Waiting::Spin, Waiting::Adaptive, Waiting::Block],
            kernel: Kernel::ALL.to_vec(),
            one_cpu: false,
        }
    }

    #[test]
    fn the_default_has_every_transport_at_every_size_that_makes_sense() {
        let rows = everything().rows();
        let count = |carrier: &str| rows.iter().filter(|row| row.carrier.name() == carrier).count();
        assert_eq!(["ring", "bytes", "stream"].map(count), [18; 3]);
        assert_eq!((count("pipe"), count("tcp"), count("eventfd")), (5, 5, 1));
        assert_eq!(rows.len(), 54 + 7 * 5 + 1);
    }

    #[test]
    fn a_chosen_size_is_measured_for_all() {
        let rows = Selection { sizes: Some(vec![56]), ..everything() }.rows();
        assert_eq!(rows.len(), 9 + 8);
        assert!(rows.iter().all(|row| row.size == 56));
    }
}
