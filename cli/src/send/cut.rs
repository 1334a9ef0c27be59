//! Where the messages are in the input.

use super::input::Input;
use super::sink::Sink;
use crate::exit::{Code, Failure, Outcome};
use crate::units::exact_bytes;
use memchr::memchr_iter;

/// Bytes to read at a time where messages are shorter.
const BUFFER: usize = 256 * 1024;

/// A way to find messages, for one kind of ring.
#[derive(Clone, Copy, Debug)]
pub enum Cutter {
    /// Up to a byte that ends it, which is stripped or not.
    Ended { end: u8, strip: bool, longest: usize, exact: Option<usize> },
    /// After its length.
    Len32 { longest: usize, exact: Option<usize> },
    /// As much as one read gives.
    Chunks { most: usize },
    /// All of one size.
    Blocks { size: usize },
}

/// Bytes of a length.
const LENGTH: usize = 4;

impl Cutter {
    /// Bytes of buffer to begin with.
    pub fn buffer(self) -> usize {
        match self {
            Self::Chunks { most } => most,
            Self::Blocks { size } => BUFFER.max(size),
            _ => BUFFER,
        }
    }

    /// Reads on; `true` at the end of the input.
    pub fn refill(self, input: &mut Input) -> Outcome<bool> {
        let most = if let Self::Chunks { most } = self { most } else { usize::MAX };
        Ok(!input.read(most)?)
    }

    /// Sends what is complete, and at the end the rest.
    pub fn send(self, input: &mut Input, at_end: bool, sink: &mut Sink<'_>) -> Outcome {
        match self {
            Self::Ended { end, strip, longest, exact } => {
                let ended = Ended { end, strip, longest, exact };
                ended.send(input, at_end, sink)
            }
            Self::Len32 { longest, exact } => send_len32(longest, exact, input, at_end, sink),
            Self::Chunks { .. } => {
                let count = input.bytes().len();
                if count > 0 {
                    sink.send(input.bytes())?;
                    input.take(count);
                }
                Ok(())
            }
            Self::Blocks { size } => send_blocks(size, input, at_end, sink),
        }
    }
}

struct Ended {
    end: u8,
    strip: bool,
    longest: usize,
    exact: Option<usize>,
}

impl Ended {
    fn send(&self, input: &mut Input, at_end: bool, sink: &mut Sink<'_>) -> Outcome {
        let mut start = 0;
        let bytes = input.bytes();
        let result = memchr_iter(self.end, bytes).try_for_each(|at| {
            let message = &bytes[start..if self.strip { at } else { at + 1 }];
            self.send_one(message, sink)?;
            start = at + 1;
            Ok(())
        });
        let rest = &bytes[start..];
        let last = match result {
            Ok(()) if at_end && !rest.is_empty() => {
                self.send_one(rest, sink).map(|()| start += rest.len())
            }
            // It can only get longer.
            Ok(()) if rest.len() > self.longest => self.check(rest.len(), sink),
            result => result,
        };
        input.take(start);
        last
    }

    fn send_one(&self, message: &[u8], sink: &mut Sink<'_>) -> Outcome {
        if message.len() > self.longest || self.exact.is_some() {
            self.check(message.len(), sink)?;
        }
        sink.send(message)
    }

    #[cold]
    fn refuse(&self, text: String, sink: &Sink<'_>) -> Failure {
        let what = if self.end == b'\n' { "line" } else { "item" };
        Failure::new(Code::Failure, format!("{what} {} {text}", sink.messages() + 1))
    }

    fn check(&self, len: usize, sink: &Sink<'_>) -> Outcome {
        match self.exact {
            Some(size) if len < size => Err(self.refuse(
                format!("has {}, and the ring's messages have exactly {size}", exact_bytes(len)),
                sink,
            )),
            Some(size) if len > size => Err(self.refuse(
                format!("has more than the {} of the ring's messages", exact_bytes(size)),
                sink,
            )),
            Some(_) => Ok(()),
            None => Err(self.refuse(
                format!(
                    "is longer than the ring's longest message of {}; make a larger ring, or send it --raw",
                    exact_bytes(self.longest)
                ),
                sink,
            )),
        }
    }
}

fn send_len32(
    longest: usize,
    exact: Option<usize>,
    input: &mut Input,
    at_end: bool,
    sink: &mut Sink<'_>,
) -> Outcome {
    let number = |sink: &Sink<'_>| sink.messages() + 1;
    loop {
        let bytes = input.bytes();
        let Some((head, rest)) = bytes.split_first_chunk::<LENGTH>() else {
            return match bytes.len() {
                0 => Ok(()),
                _ if !at_end => Ok(()),
                left => Err(Failure::new(
                    Code::Failure,
                    format!(
                        "the input ends {} into the length of message {}",
                        exact_bytes(left),
                        number(sink)
                    ),
                )),
            };
        };
        let len = u32::from_le_bytes(*head) as usize;
        if len > longest || exact.is_some_and(|size| size != len) {
            let text = match exact {
                Some(size) => format!("and the ring's messages have exactly {size}"),
                None => format!("and the ring's longest has {longest}"),
            };
            let text = format!(
                "message {} has {} by its length, {text}; see that the input has four bytes of length before each message",
                number(sink),
                exact_bytes(len)
            );
            return Err(Failure::new(Code::Failure, text));
        }
        let Some(message) = rest.get(..len) else {
            if !at_end {
                return Ok(());
            }
            let text = format!(
                "the input ends {} into message {}, which has {len}",
                exact_bytes(rest.len()),
                number(sink)
            );
            return Err(Failure::new(Code::Failure, text));
        };
        sink.send(message)?;
        input.take(LENGTH + len);
    }
}

fn send_blocks(size: usize, input: &mut Input, at_end: bool, sink: &mut Sink<'_>) -> Outcome {
    let left = input.bytes().len() % size;
    let whole = input.bytes().len() - left;
    if whole > 0 {
        sink.send_blocks(&input.bytes()[..whole])?;
        input.take(whole);
    }
    if at_end && left > 0 {
        let text = format!(
            "the input ends with {}, less than a message of {size}; that was not sent",
            exact_bytes(left)
        );
        return Err(Failure::new(Code::Failure, text));
    }
    Ok(())
}
