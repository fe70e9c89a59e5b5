//! Sessions of datagrams: an id and a key that a parent hands a child over its mTLS stream, and the tag by which either
//! side proves a datagram to be of it. Used by `beat` and by `crates/relay`.

use std::fmt;

use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};

/// What a parent hands a child for the datagrams of one connection, over that connection.
#[derive(Clone, PartialEq, Eq)]
pub struct DatagramSession {
    /// Which session.
    pub id: u64,
    /// What proves a datagram is of it. A secret: it is not shown by `Debug`.
    pub key: [u8; 32],
}

/// The key of a session, ready for use.
#[derive(Clone)]
pub struct DatagramKey(hmac::Key);

impl DatagramSession {
    /// A session with an id and a key of chance, so that those of a parent before a restart mean nothing to it.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0; 8];
        let mut key = [0; 32];
        let random = SystemRandom::new();
        random.fill(&mut bytes).expect("the kernel gives random bytes on every supported system");
        random.fill(&mut key).expect("the kernel gives random bytes on every supported system");
        Self { id: u64::from_be_bytes(bytes), key }
    }

    /// What tags its datagrams.
    #[must_use]
    pub fn datagram_key(&self) -> DatagramKey {
        DatagramKey::new(&self.key)
    }
}

impl fmt::Debug for DatagramSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatagramSession({:016x}, key withheld)", self.id)
    }
}

impl DatagramKey {
    /// A key that was handed over, or made from one that was.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The beginning of an HMAC-SHA256 over `bytes`.
    #[must_use]
    pub fn tag(&self, bytes: &[u8]) -> u64 {
        let whole = hmac::sign(&self.0, bytes);
        let beginning = whole.as_ref().first_chunk().expect("an HMAC-SHA256 has 32 bytes");
        u64::from_be_bytes(*beginning)
    }

    /// Whether whoever has the key made the tag. Takes as long whichever bit is wrong: tags are compared as one number.
    #[must_use]
    pub fn holds(&self, bytes: &[u8], tag: u64) -> bool {
        self.tag(bytes) == tag
    }
}

impl fmt::Debug for DatagramKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatagramKey")
    }
}
