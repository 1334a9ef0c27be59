//! Messages put together into a stream.
//!
//! The streams of `send --lines` consist of messages that contain their end of line, except that the last
//! one may lack it; what other programs send usually has none. Both shall come out right: the former byte
//! by byte, the latter a message a line. So the first message without an end of line is written with that
//! *owed*. It is paid when another message follows or none comes for a while, and from then on no credit
//! is given; it is never paid if the sender leaves, because then the message was the last.

use crate::framing::Framing;

/// Bytes to write at a time, unless a message is longer: so many are written twice at most if the process is killed, and more
/// at a time would be no faster.
pub const FULL: usize = 32 * 1024;

/// What is to be written next.
#[derive(Debug)]
pub struct Joiner {
    framing: Framing,
    credit: Credit,
    start: Credit,
    buffer: Vec<u8>,
    end: usize,
}

/// Whether ends of line may be owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    Given,
    Used,
    Refused,
}

impl Joiner {
    /// `refuse`: no end of line is ever owed.
    pub fn new(framing: Framing, refuse: bool) -> Self {
        let credit = if refuse { Credit::Refused } else { Credit::Given };
        Self { framing, credit, start: credit, buffer: vec![0; 2 * FULL], end: 0 }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.end]
    }

    /// How the bytes so far have begun; those that come later begin as it is now.
    pub fn take_start(&mut self) -> Credit {
        std::mem::replace(&mut self.start, self.credit)
    }

    pub fn clear(&mut self) {
        self.end = 0;
    }

    /// Begins again as it once began.
    pub fn restart(&mut self, start: Credit) {
        (self.credit, self.start, self.end) = (start, start, 0);
    }

    /// Whether messages follow one another with nothing between them.
    pub fn joins_bare(&self) -> bool {
        self.framing == Framing::Raw
    }

    /// Whether it is time to write.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.end >= FULL
    }

    /// Whether a message of `len` bytes would surely end within the first `limit` bytes.
    pub fn fits(&self, len: usize, limit: usize) -> bool {
        let more = match self.framing {
            Framing::Ended(_) => usize::from(self.credit != Credit::Given),
            Framing::Len32 => 4,
            Framing::Raw => 0,
        };
        self.end.saturating_add(len + more) <= limit
    }

    /// Adds a message of `len` bytes, which `copy` writes.
    #[inline]
    pub fn add(&mut self, len: usize, copy: impl FnOnce(&mut [u8])) {
        if self.buffer.len() - self.end < len + 8 {
            self.grow(len);
        }
        match self.framing {
            Framing::Len32 => self.put(&(len as u32).to_le_bytes()),
            Framing::Ended(byte) if self.credit == Credit::Used => {
                self.credit = Credit::Refused;
                self.put(&[byte]);
            }
            _ => {}
        }
        let message = &mut self.buffer[self.end..self.end + len];
        copy(message);
        let last = message.last().copied();
        self.end += len;
        if let Framing::Ended(byte) = self.framing {
            if last != Some(byte) {
                self.owe(byte);
            }
        }
    }

    /// Pays what is owed; whether that was anything.
    pub fn settle(&mut self) -> bool {
        let Framing::Ended(byte) = self.framing else { return false };
        if self.credit != Credit::Used {
            return false;
        }
        self.credit = Credit::Refused;
        self.start = Credit::Refused;
        self.put(&[byte]);
        true
    }

    fn owe(&mut self, byte: u8) {
        match self.credit {
            Credit::Given => self.credit = Credit::Used,
            _ => self.put(&[byte]),
        }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        self.buffer.resize(self.end + len + 8, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(framing: Framing, refuse: bool, messages: &[&[u8]]) -> Vec<u8> {
        let mut joiner = Joiner::new(framing, refuse);
        for message in messages {
            joiner.add(message.len(), |to| to.copy_from_slice(message));
        }
        joiner.bytes().to_vec()
    }

    #[test]
    fn lines_come_out_as_they_went_in() {
        let lines = Framing::Ended(b'\n');
        assert_eq!(join(lines, false, &[b"a\n", b"\n", b"b"]), b"a\n\nb");
        assert_eq!(join(lines, false, &[b"a\r\n", b"\0\n"]), b"a\r\n\0\n");
    }

    #[test]
    fn bare_messages_become_lines() {
        let lines = Framing::Ended(b'\n');
        assert_eq!(join(lines, false, &[b"a", b"", b"b"]), b"a\n\nb\n");
        assert_eq!(join(lines, true, &[b"a", b"b"]), b"a\nb\n");
    }

    #[test]
    fn a_debt_is_paid_once() {
        let mut joiner = Joiner::new(Framing::Ended(0), false);
        assert!(!joiner.settle());
        joiner.add(1, |to| to[0] = b'a');
        assert!(joiner.settle());
        assert!(!joiner.settle());
        joiner.add(1, |to| to[0] = b'b');
        assert_eq!(joiner.bytes(), b"a\0b\0");
    }

    #[test]
    fn lengths_come_first() {
        assert_eq!(join(Framing::Len32, false, &[b"", b"ab"]), b"\0\0\0\0\x02\0\0\0ab");
        assert_eq!(join(Framing::Raw, false, &[b"", b"ab", b"c"]), b"abc");
    }
}
