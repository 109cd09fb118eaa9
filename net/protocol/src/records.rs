//! `Records`: record batches in a message, as slices of where they already lie.
//!
//! Pure. The codec never looks inside; `model::record` does.

use std::fmt;

use bytes::Bytes;

/// Record batches back to back, in one slice (a produce request) or several (a fetch response).
///
/// Equality compares the bytes, not how they are cut.
#[derive(Clone)]
pub struct Records(Pieces);

#[derive(Clone)]
enum Pieces {
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Records {
    /// No batches (which is not null).
    pub const EMPTY: Records = Records(Pieces::One(Bytes::new()));

    /// The slices, in order.
    pub fn pieces(&self) -> &[Bytes] {
        match &self.0 {
            Pieces::One(piece) => std::slice::from_ref(piece),
            Pieces::Many(pieces) => pieces,
        }
    }

    /// Total length in bytes.
    pub fn byte_count(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.pieces().iter().all(Bytes::is_empty)
    }

    /// The bytes as one slice: what was decoded always is one; several are copied together.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Pieces::One(piece) => piece,
            Pieces::Many(mut pieces) if pieces.len() == 1 => pieces.swap_remove(0),
            Pieces::Many(pieces) => Bytes::from(pieces.concat()),
        }
    }
}

impl Default for Records {
    fn default() -> Records {
        Records::EMPTY
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records(Pieces::One(bytes))
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(pieces: Vec<Bytes>) -> Records {
        Records(Pieces::Many(pieces))
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Records {
        Records(Pieces::Many(pieces.into_iter().collect()))
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Records) -> bool {
        self.byte_count() == other.byte_count()
            && self
                .pieces()
                .iter()
                .flatten()
                .eq(other.pieces().iter().flatten())
    }
}

impl Eq for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} bytes)", self.byte_count())
    }
}
