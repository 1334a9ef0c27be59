//! What travels in these tests: a tag of 40 bits, and contents that follow from it, so that a torn, stale or
//! foreign message shows at once.

/// The largest tag.
pub const LAST_TAG: u64 = (1 << 40) - 1;

/// Scatters the bits of `x`: the finaliser of the SplitMix64 generator (Steele, Lea and Flood, 2014).
pub fn scatter(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A message type made from a tag.
pub trait Tagged:
    bytemuck::NoUninit + bytemuck::AnyBitPattern + PartialEq + std::fmt::Debug + Send
{
    /// For the table.
    const LABEL: &'static str;

    /// For the table, when the sides are shared.
    const SHARED_LABEL: &'static str;

    /// For the table, when the ring does not know the type.
    const BARE_LABEL: &'static str;

    /// The message of `tag`.
    fn make(tag: u64) -> Self;

    /// What a message says its tag is; to be believed if `make` gives the same message.
    fn claimed(&self) -> u64;

    /// The tag, if the whole message is as `make` made it.
    fn tag(&self) -> Result<u64, String> {
        let tag = self.claimed();
        if *self == Self::make(tag) { Ok(tag) } else { Err(format!("torn message {self:x?}")) }
    }
}

/// `{ tag:40 | check:24 }`
impl Tagged for u64 {
    const LABEL: &'static str = "u64";
    const SHARED_LABEL: &'static str = "shared u64";
    const BARE_LABEL: &'static str = "bare u64";

    fn make(tag: u64) -> Self {
        tag << 24 | scatter(tag) >> 40
    }

    fn claimed(&self) -> u64 {
        self >> 24
    }
}

/// Several words: the tag and those that follow from it. Three are two messages a line, seven fill one.
impl<const N: usize> Tagged for [u64; N] {
    const LABEL: &'static str = labels(N)[0];
    const SHARED_LABEL: &'static str = labels(N)[1];
    const BARE_LABEL: &'static str = labels(N)[2];

    fn make(tag: u64) -> Self {
        std::array::from_fn(|i| if i == 0 { tag } else { scatter(tag * 8 + i as u64) })
    }

    fn claimed(&self) -> u64 {
        self[0]
    }
}

/// What messages of so many words are called, by the kind of ring.
const fn labels(words: usize) -> [&'static str; 3] {
    match words {
        3 => ["[u64; 3]", "shared [u64; 3]", "bare [u64; 3]"],
        7 => ["[u64; 7]", "shared [u64; 7]", "bare [u64; 7]"],
        8 => ["[u64; 8]", "shared [u64; 8]", "bare [u64; 8]"],
        _ => panic!("no test sends messages of so many words"),
    }
}

/// A message that fills no whole number of words: the tag in two parts, and a word that follows from it.
impl Tagged for [u32; 3] {
    const LABEL: &'static str = "[u32; 3]";
    const SHARED_LABEL: &'static str = "shared [u32; 3]";
    const BARE_LABEL: &'static str = "bare [u32; 3]";

    fn make(tag: u64) -> Self {
        [tag as u32, (tag >> 32) as u32, scatter(tag) as u32]
    }

    fn claimed(&self) -> u64 {
        u64::from(self[0]) | u64::from(self[1]) << 32
    }
}

/// The longest message of [`bytes`].
pub const LONGEST: usize = 8 + 56;

/// Eight bytes of tag and 0 to 56 bytes that follow from it, of a length that follows from it too.
pub fn bytes(tag: u64) -> Vec<u8> {
    let length = 8 + (scatter(tag) % 57) as usize;
    let mut bytes = Vec::with_capacity(LONGEST);
    bytes.extend(tag.to_le_bytes());
    bytes.extend((1..8).flat_map(|i| scatter(tag * 8 + i).to_le_bytes()));
    bytes.truncate(length);
    bytes
}

/// The tag of such a message, if the whole is as [`bytes`] made it.
pub fn tag_of_bytes(message: &[u8]) -> Result<u64, String> {
    let tag = message.first_chunk().map_or(u64::MAX, |head| u64::from_le_bytes(*head));
    if tag <= LAST_TAG && message == bytes(tag) {
        Ok(tag)
    } else {
        Err(format!("torn message {message:x?}"))
    }
}
