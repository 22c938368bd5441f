//! Numbers of which some bits are known.
//!
//! After Vishwanathan, Shachnai, Narayana and Nagarakatte, "Sound, Precise, and Fast Abstract Interpretation with Tristate
//! Numbers" (CGO 2022).

/// A set of 64-bit numbers: all that have the bits of `value` where `mask` is 0. Where `mask` is 1, `value` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tnum {
    pub(super) value: u64,
    pub(super) mask: u64,
}

impl Tnum {
    pub(super) const UNKNOWN: Self = Self { value: 0, mask: u64::MAX };

    pub(super) const fn known(value: u64) -> Self {
        Self { value, mask: 0 }
    }

    fn new(value: u64, mask: u64) -> Self {
        Self { value: value & !mask, mask }
    }

    /// The smallest set that has all numbers from `min` to `max`, which is not less.
    pub(super) fn range(min: u64, max: u64) -> Self {
        let differing = 64 - (min ^ max).leading_zeros();
        let mask = if differing == 64 { u64::MAX } else { (1 << differing) - 1 };
        Self::new(min, mask)
    }

    pub(super) fn is_known(self) -> bool {
        self.mask == 0
    }

    /// The largest of its numbers.
    pub(super) fn max(self) -> u64 {
        self.value | self.mask
    }

    pub(super) fn contains(self, value: u64) -> bool {
        value & !self.mask == self.value
    }

    /// Whether every number of `other` is one of its own.
    pub(super) fn includes(self, other: Self) -> bool {
        other.mask & !self.mask == 0 && other.value & !self.mask == self.value
    }

    /// What is in both, or a set that includes that; none where nothing is.
    pub(super) fn intersect(self, other: Self) -> Option<Self> {
        let both_known = !(self.mask | other.mask);
        if (self.value ^ other.value) & both_known != 0 {
            return None;
        }
        Some(Self::new(self.value | other.value, self.mask & other.mask))
    }

    pub(super) fn add(self, other: Self) -> Self {
        let masks = self.mask.wrapping_add(other.mask);
        let values = self.value.wrapping_add(other.value);
        let carries = masks.wrapping_add(values) ^ values;
        Self::new(values, carries | self.mask | other.mask)
    }

    pub(super) fn sub(self, other: Self) -> Self {
        let values = self.value.wrapping_sub(other.value);
        let most = values.wrapping_add(self.mask);
        let least = values.wrapping_sub(other.mask);
        Self::new(values, (most ^ least) | self.mask | other.mask)
    }

    pub(super) fn and(self, other: Self) -> Self {
        let value = self.value & other.value;
        let may = self.max() & other.max();
        Self::new(value, may & !value)
    }

    pub(super) fn or(self, other: Self) -> Self {
        let value = self.value | other.value;
        Self::new(value, (self.mask | other.mask) & !value)
    }

    pub(super) fn xor(self, other: Self) -> Self {
        Self::new(self.value ^ other.value, self.mask | other.mask)
    }

    pub(super) fn mul(self, other: Self) -> Self {
        // Partial products: those of known bits are added up at once, those of unknown ones as sets of what they may add.
        let (mut a, mut b) = (self, other);
        let known = self.value.wrapping_mul(other.value);
        let mut unknown = Self::known(0);
        while a.value != 0 || a.mask != 0 {
            if a.value & 1 != 0 {
                unknown = unknown.add(Self::new(0, b.mask));
            } else if a.mask & 1 != 0 {
                unknown = unknown.add(Self::new(0, b.max()));
            }
            a = a.shr(1);
            b = b.shl(1);
        }
        Self::known(known).add(unknown)
    }

    /// By less than 64.
    pub(super) fn shl(self, by: u32) -> Self {
        Self { value: self.value << by, mask: self.mask << by }
    }

    /// By less than 64.
    pub(super) fn shr(self, by: u32) -> Self {
        Self { value: self.value >> by, mask: self.mask >> by }
    }

    /// By less than 64; the sign bit, known or not, comes in from above.
    pub(super) fn sar(self, by: u32) -> Self {
        Self { value: ((self.value as i64) >> by) as u64, mask: ((self.mask as i64) >> by) as u64 }
    }

    /// The lower `bits`, from 1 to 64; those above are 0.
    pub(super) fn truncate(self, bits: u32) -> Self {
        let keep = u64::MAX >> (64 - bits);
        Self { value: self.value & keep, mask: self.mask & keep }
    }

    /// The lower `bits`, from 1 to 64, of which the uppermost is repeated above.
    pub(super) fn sign_extend(self, bits: u32) -> Self {
        let up = 64 - bits;
        self.shl(up).sar(up)
    }

    /// The upper half of this and the lower of another.
    pub(super) fn with_low(self, low: Self) -> Self {
        let high = u64::from(u32::MAX) << 32;
        let low = low.truncate(32);
        Self { value: (self.value & high) | low.value, mask: (self.mask & high) | low.mask }
    }

    pub(super) fn swap_bytes(self) -> Self {
        Self { value: self.value.swap_bytes(), mask: self.mask.swap_bytes() }
    }

    /// Whether all its numbers are multiples of `size`, a power of two.
    pub(super) fn is_aligned(self, size: u64) -> bool {
        self.max() & (size - 1) == 0
    }
}
