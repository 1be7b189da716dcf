//! CRC-64-AVRO, the Rabin fingerprint of the Avro specification.

const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut fingerprint = i as u64;
        let mut bit = 0;
        while bit < 8 {
            fingerprint = (fingerprint >> 1) ^ (EMPTY & (fingerprint & 1).wrapping_neg());
            bit += 1;
        }
        table[i] = fingerprint;
        i += 1;
    }
    table
};

/// CRC-64-AVRO of a schema's canonical form.
pub const fn fingerprint(canonical: &str) -> u64 {
    let bytes = canonical.as_bytes();
    let mut fingerprint = EMPTY;
    let mut i = 0;
    while i < bytes.len() {
        fingerprint = (fingerprint >> 8) ^ TABLE[((fingerprint ^ bytes[i] as u64) & 0xff) as usize];
        i += 1;
    }
    fingerprint
}
