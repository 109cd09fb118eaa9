//! The bytes of a frame, in the pieces that a vectored write takes.
//!
//! Pure. Pieces are shared, never copied.

use bytes::Bytes;

/// What one frame carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    pieces: Vec<Bytes>,
    size_bytes: usize,
}

impl Payload {
    /// Bytes of all pieces.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// A piece before the others.
    #[must_use]
    pub(crate) fn behind(mut self, head: Bytes) -> Payload {
        self.size_bytes += head.len();
        self.pieces.insert(0, head);
        self
    }

    pub(crate) fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }
}

impl From<Vec<Bytes>> for Payload {
    fn from(pieces: Vec<Bytes>) -> Payload {
        let size_bytes = pieces.iter().map(Bytes::len).sum();
        Payload { pieces, size_bytes }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Payload {
        Payload::from(vec![bytes])
    }
}
