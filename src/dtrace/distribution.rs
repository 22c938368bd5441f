//! Distributions of numbers over the powers of two.

use std::fmt;

/// Buckets of a distribution.
pub const BUCKETS: usize = 127;
/// The bucket of zeros.
const ZERO: usize = 63;
/// How wide the drawing of all numbers is.
const COLUMNS: u128 = 40;

/// How many numbers there are of each power of two: what `quantize` of DTrace shows.
///
/// Bucket 63 has the zeros, 64 + n those from 2^n to 2^(n+1) - 1, 62 - n those from -2^(n+1) + 1 to -2^n. Printed as DTrace draws it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution(Box<[u128; BUCKETS]>);

impl Default for Distribution {
    fn default() -> Self {
        Self(Box::new([0; BUCKETS]))
    }
}

impl Distribution {
    /// Adds to a bucket. To one that is not there nothing is added.
    pub fn add(&mut self, bucket: usize, count: u64) {
        if let Some(to) = self.0.get_mut(bucket) {
            *to = to.saturating_add(count.into());
        }
    }

    /// How many there are in a bucket; none where there is no such bucket.
    pub fn count(&self, bucket: usize) -> Option<u128> {
        self.0.get(bucket).copied()
    }

    /// How many there are in all.
    pub fn total(&self) -> u128 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The number of a bucket that is nearest to zero: of 66, which has those from 4 to 7, 4.
    pub fn value(bucket: usize) -> i64 {
        match bucket {
            ZERO => 0,
            ..ZERO => -(1 << (ZERO - 1 - bucket)),
            _ => 1 << (bucket - ZERO - 1).min(62),
        }
    }

    /// The buckets with something in them: their values, and how many there are.
    pub fn buckets(&self) -> impl DoubleEndedIterator<Item = (i64, u128)> {
        let buckets = self.0.iter().enumerate();
        buckets.filter(|(_, count)| **count != 0).map(|(bucket, count)| (Self::value(bucket), *count))
    }

    /// The first and the last bucket with something in them.
    pub(super) fn bounds(&self) -> Option<(usize, usize)> {
        let is_used = |count: &u128| *count != 0;
        Some((self.0.iter().position(is_used)?, self.0.iter().rposition(is_used)?))
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>16} {:41} count", "value", " ------------- Distribution -------------")?;
        let Some((first, last)) = self.bounds() else { return Ok(()) };
        let total = self.total();
        for bucket in first.saturating_sub(1)..=(last + 1).min(BUCKETS - 1) {
            let count = self.count(bucket).unwrap_or_default();
            // Half a column counts as one.
            let bar = (count.saturating_mul(2 * COLUMNS).saturating_add(total) / total.saturating_mul(2)).min(COLUMNS);
            let bar = "@".repeat(bar as usize);
            writeln!(f, "{:>16} |{bar:40} {count}", Self::value(bucket))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Distribution};

    #[test]
    fn buckets_start_at_powers_of_two() {
        let around: Vec<_> = (58..69).map(Distribution::value).collect();
        assert_eq!(around, [-16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16]);
        assert_eq!((Distribution::value(0), Distribution::value(BUCKETS - 1)), (-(1 << 62), 1 << 62));
    }

    #[test]
    fn it_is_drawn_from_before_the_first_to_behind_the_last() {
        let mut distribution = Distribution::default();
        distribution.add(63, 1);
        distribution.add(65, 3);
        distribution.add(BUCKETS, 9);
        let expected = "           value  ------------- Distribution ------------- count
              -1 |                                         0
               0 |@@@@@@@@@@                               1
               1 |                                         0
               2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@           3
               4 |                                         0
";
        assert_eq!(distribution.to_string(), expected);
        assert_eq!(distribution.buckets().collect::<Vec<_>>(), [(0, 1), (2, 3)]);
        distribution.add(0, u64::MAX);
        distribution.add(BUCKETS - 1, 1);
        let lines: Vec<String> = distribution.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), BUCKETS + 1);
        assert_eq!(lines[1], format!("{} |{} {}", -4611686018427387904_i64, "@".repeat(40), u64::MAX));
    }
}
