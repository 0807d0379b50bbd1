//! CRC-32C (RFC 3385; Castagnoli's polynomial), of headers only: a table of one octet is enough.

const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "it is less than 256")]
        let mut value = octet as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 0 { value >> 1 } else { (value >> 1) ^ POLYNOMIAL };
            bit += 1;
        }
        table[octet] = value;
        octet += 1;
    }
    table
}

/// The checksum of these pieces, one behind the other.
pub(super) fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let octets = pieces.into_iter().flatten();
    !octets.fold(!0, |sum, octet| {
        let [low, ..] = sum.to_le_bytes();
        (sum >> 8) ^ TABLE[usize::from(low ^ octet)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_agree() {
        // RFC 3720 appendix B.4.
        assert_eq!(of([[0; 32].as_slice()]), 0x8a91_36aa);
        assert_eq!(of([[0xff; 32].as_slice()]), 0x62a8_ab43);
        assert_eq!(of([b"1234".as_slice(), b"56789"]), 0xe306_9283);
    }
}
