//! Numbers that spread decisions in time, from a seed and from what they are for: the same in every run, whatever came
//! before.

/// A number of 64 bits for a purpose that two numbers name. (The finalizer of SplitMix64, from Steele, Lea and Flood,
/// "Fast splittable pseudorandom number generators", 2014, once for each word.)
pub(crate) fn mix(seed: u64, one: u64, other: u64) -> u64 {
    [one, other].into_iter().fold(seed, |state, word| {
        let mut z = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// The same as a fraction from 0 to 1, without 1.
pub(crate) fn fraction(seed: u64, one: u64, other: u64) -> f64 {
    (mix(seed, one, other) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_spread_and_repeat() {
        let count = 10_000;
        let mut tenths = [0; 10];
        for number in 0..count {
            let fraction = fraction(7, number, 3);
            assert_eq!(fraction, super::fraction(7, number, 3));
            tenths[(fraction * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|tenth| (900..=1_100).contains(tenth)), "{tenths:?}");
        assert_ne!(mix(1, 2, 3), mix(1, 3, 2));
    }
}
