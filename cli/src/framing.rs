//! Where a message ends in a stream of bytes.

use clap::Args;

/// How a stream is cut into messages, and how messages are put together again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A message ends with this byte, which belongs to it.
    Ended(u8),
    /// Four bytes before each message say how long it is, the lowest first.
    Len32,
    /// Nothing marks where a message ends.
    Raw,
}

/// The framing, on the command line.
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
pub struct FramingArgs {
    /// Every line is a message (default where messages have any length)
    #[arg(long)]
    lines: bool,

    /// Every item that ends with a zero byte is a message, as `find -print0` writes them
    #[arg(long)]
    null: bool,

    /// Before every message its length, in four bytes, lowest first
    #[arg(long)]
    len32: bool,

    /// The bytes as they come, with no mark between messages (default for streams, and where
    /// all messages have one size)
    #[arg(long)]
    raw: bool,
}

impl FramingArgs {
    /// What was chosen, if anything was.
    pub fn chosen(self) -> Option<Framing> {
        match self {
            Self { lines: true, .. } => Some(Framing::Ended(b'\n')),
            Self { null: true, .. } => Some(Framing::Ended(0)),
            Self { len32: true, .. } => Some(Framing::Len32),
            Self { raw: true, .. } => Some(Framing::Raw),
            _ => None,
        }
    }
}
