//! Decisions out of bytes.

/// Bytes that are taken from the front; when they have run out, everything is 0.
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let number = if end <= 256 { usize::from(self.byte()) } else { usize::from(self.short()) };
        number % end
    }

    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn long(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number of the kind that breaks arithmetic: near 0, near `around`, near a power of two, or any.
    pub fn edgy(&mut self, around: u64) -> u64 {
        let near = |base: u64, by: u8| base.wrapping_add_signed(i64::from(by as i8));
        match self.byte() % 6 {
            0 => u64::from(self.byte()),
            1 => near(around, self.byte()),
            2 => {
                let bit = self.byte() % 64;
                near(1 << bit, self.byte())
            }
            3 => near(0, self.byte()),
            4 => u64::from(self.short()),
            _ => self.long(),
        }
    }
}
