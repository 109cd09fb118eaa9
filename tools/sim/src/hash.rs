//! A 64-bit hash of bytes, the same on every machine and in every run. To compare contents, not for secrets.

/// Where a hash begins.
pub const START: u64 = 0xCBF2_9CE4_8422_2325;

/// Odd, with bits all over (of the golden ratio).
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a leader stamps is in front of this byte of a batch: base offset, length, leader epoch.
const STAMPED_BYTES: usize = 16;

/// Adds bytes, and how many they are, to a hash.
#[must_use]
pub fn fold(hash: u64, bytes: &[u8]) -> u64 {
    let mut hash = mix(hash, bytes.len() as u64);
    for piece in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..piece.len()].copy_from_slice(piece);
        hash = mix(hash, u64::from_le_bytes(word));
    }
    hash
}

/// Of everything in a record batch that no leader stamps: the same on the producer's wire and on every disk.
pub fn of_batch(batch: &[u8]) -> u64 {
    fold(START, &batch[STAMPED_BYTES..])
}

fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(FACTOR).rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_the_length_count() {
        let bytes: Vec<u8> = (0..40).collect();
        let hash = fold(START, &bytes);
        for index in 0..bytes.len() {
            let mut other = bytes.clone();
            other[index] ^= 1;
            assert_ne!(fold(START, &other), hash, "byte {index}");
        }
        assert_ne!(fold(START, &[0; 7]), fold(START, &[0; 8]));
        let mut stamped = bytes.clone();
        stamped[..STAMPED_BYTES].fill(9);
        assert_eq!(of_batch(&stamped), of_batch(&bytes));
    }
}
