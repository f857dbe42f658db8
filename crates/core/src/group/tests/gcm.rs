//! What a cipher of the registry does not prevent: one ciphertext and tag that two AES-256-GCM keys open. Also for
//! `tests/attacks`.

/// Multiplication in GCM's field (NIST SP 800-38D §6.3).
pub(super) fn times(a: u128, b: u128) -> u128 {
    let (mut product, mut factor) = (0, b);
    for bit in (0..128).rev() {
        product ^= if a >> bit & 1 == 1 { factor } else { 0 };
        factor = factor >> 1 ^ if factor & 1 == 1 { 0xe1 << 120 } else { 0 };
    }
    product
}

pub(super) fn inverse(a: u128) -> u128 {
    // a^(2^128 - 2)
    let (mut result, mut power) = (1 << 127, times(a, a));
    for _ in 1..128 {
        result = times(result, power);
        power = times(power, power);
    }
    result
}

/// Two blocks and their tag, for keys given by hash key and the mask of the tag: the free second block lets both tags agree.
pub(super) fn two_keyed(keys: [(u128, u128); 2], aad: &[u8]) -> [u8; 48] {
    let block = |bytes: &[u8]| {
        let mut padded = [0; 16];
        padded[..bytes.len()].copy_from_slice(bytes);
        u128::from_be_bytes(padded)
    };
    let (first, length) = (0x1234_u128, ((aad.len() as u128 * 8) << 64) | (32 * 8));
    let [(h1, tag1), (h2, tag2)] = keys.map(|(h, mask)| {
        let blocks = aad.chunks(16).map(block).chain([first, 0, length]);
        (h, blocks.fold(0, |sum, block| times(sum ^ block, h)) ^ mask)
    });
    let second = times(tag1 ^ tag2, inverse(times(h1, h1) ^ times(h2, h2)));
    let tag = tag1 ^ times(second, times(h1, h1));
    let mut sealed = [0; 48];
    for (place, block) in sealed.chunks_mut(16).zip([first, second, tag]) {
        place.copy_from_slice(&block.to_be_bytes());
    }
    sealed
}
