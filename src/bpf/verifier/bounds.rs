//! The least and the most that a number of one width may be, taken as unsigned and as signed.

/// What an operation without overflow gives, or else everything.
macro_rules! bounds {
    ($name:ident, $u:ty, $s:ty) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) struct $name {
            pub(super) umin: $u,
            pub(super) umax: $u,
            pub(super) smin: $s,
            pub(super) smax: $s,
        }

        impl $name {
            pub(super) const UNKNOWN: Self = Self { umin: 0, umax: <$u>::MAX, smin: <$s>::MIN, smax: <$s>::MAX };

            pub(super) const fn known(value: $u) -> Self {
                Self { umin: value, umax: value, smin: value as $s, smax: value as $s }
            }

            pub(super) fn unsigned(umin: $u, umax: $u) -> Self {
                Self { umin, umax, ..Self::UNKNOWN }
            }

            pub(super) fn signed(smin: $s, smax: $s) -> Self {
                Self { smin, smax, ..Self::UNKNOWN }
            }

            /// Whether both have a number at all.
            pub(super) fn is_possible(&self) -> bool {
                self.umin <= self.umax && self.smin <= self.smax
            }

            pub(super) fn includes(&self, other: &Self) -> bool {
                self.umin <= other.umin && other.umax <= self.umax && self.smin <= other.smin && other.smax <= self.smax
            }

            pub(super) fn intersect(&self, other: &Self) -> Self {
                Self {
                    umin: self.umin.max(other.umin),
                    umax: self.umax.min(other.umax),
                    smin: self.smin.max(other.smin),
                    smax: self.smax.min(other.smax),
                }
            }

            /// What the unsigned bounds say about the signed ones, and the other way round.
            pub(super) fn exchange(&mut self) {
                // Unsigned numbers that do not pass from the largest signed one to the least are in the same order signed.
                if self.umin as $s <= self.umax as $s {
                    self.smin = self.smin.max(self.umin as $s);
                    self.smax = self.smax.min(self.umax as $s);
                }
                if self.smin >= 0 || self.smax < 0 {
                    self.umin = self.umin.max(self.smin as $u);
                    self.umax = self.umax.min(self.smax as $u);
                } else if self.umin > self.smax as $u {
                    // Of the two parts, from 0 to the most and from the least to -1, only the second is left.
                    self.umin = self.umin.max(self.smin as $u);
                } else if self.umax < self.smin as $u {
                    self.umax = self.umax.min(self.smax as $u);
                }
            }

            pub(super) fn add(&self, other: &Self) -> Self {
                let mut sum = Self::UNKNOWN;
                let (umin, first) = self.umin.overflowing_add(other.umin);
                let (umax, second) = self.umax.overflowing_add(other.umax);
                if first == second {
                    (sum.umin, sum.umax) = (umin, umax);
                }
                if let (Some(smin), Some(smax)) = (self.smin.checked_add(other.smin), self.smax.checked_add(other.smax))
                {
                    (sum.smin, sum.smax) = (smin, smax);
                }
                sum
            }

            pub(super) fn sub(&self, other: &Self) -> Self {
                let mut difference = Self::UNKNOWN;
                let (umin, first) = self.umin.overflowing_sub(other.umax);
                let (umax, second) = self.umax.overflowing_sub(other.umin);
                if first == second {
                    (difference.umin, difference.umax) = (umin, umax);
                }
                if let (Some(smin), Some(smax)) = (self.smin.checked_sub(other.smax), self.smax.checked_sub(other.smin))
                {
                    (difference.smin, difference.smax) = (smin, smax);
                }
                difference
            }

            pub(super) fn mul(&self, other: &Self) -> Self {
                let mut product = Self::UNKNOWN;
                if let Some(umax) = self.umax.checked_mul(other.umax) {
                    (product.umin, product.umax) = (self.umin * other.umin, umax);
                }
                let ends = [
                    self.smin.checked_mul(other.smin),
                    self.smin.checked_mul(other.smax),
                    self.smax.checked_mul(other.smin),
                    self.smax.checked_mul(other.smax),
                ];
                if let [Some(a), Some(b), Some(c), Some(d)] = ends {
                    (product.smin, product.smax) = (a.min(b).min(c).min(d), a.max(b).max(c).max(d));
                }
                product
            }

            pub(super) fn and(&self, other: &Self) -> Self {
                Self::unsigned(0, self.umax.min(other.umax))
            }

            pub(super) fn or(&self, other: &Self) -> Self {
                Self::unsigned(self.umin.max(other.umin), <$u>::MAX)
            }

            pub(super) fn div(&self, other: &Self) -> Self {
                // By 0 it gives 0.
                let least = if other.umin == 0 { 0 } else { self.umin / other.umax };
                Self::unsigned(least, self.umax / other.umin.max(1))
            }

            pub(super) fn rem(&self, other: &Self) -> Self {
                // By 0 it leaves the number as it is; and a smaller one too.
                if other.umin == 0 {
                    return Self::unsigned(0, self.umax);
                }
                if self.umax < other.umin {
                    return Self::unsigned(self.umin, self.umax);
                }
                Self::unsigned(0, self.umax.min(other.umax - 1))
            }

            /// By `least` to `most`, less than the width.
            pub(super) fn shl(&self, least: u32, most: u32) -> Self {
                let mut shifted = Self::UNKNOWN;
                if self.umax.leading_zeros() >= most {
                    (shifted.umin, shifted.umax) = (self.umin << least, self.umax << most);
                }
                let fits = |value: $s| (value << most) >> most == value;
                if fits(self.smin) && fits(self.smax) {
                    shifted.smin = (self.smin << least).min(self.smin << most);
                    shifted.smax = (self.smax << least).max(self.smax << most);
                }
                shifted
            }

            /// Likewise.
            pub(super) fn shr(&self, least: u32, most: u32) -> Self {
                Self::unsigned(self.umin >> most, self.umax >> least)
            }

            /// Likewise.
            pub(super) fn sar(&self, least: u32, most: u32) -> Self {
                Self::signed((self.smin >> least).min(self.smin >> most), (self.smax >> least).max(self.smax >> most))
            }
        }
    };
}

bounds!(Bounds64, u64, i64);
bounds!(Bounds32, u32, i32);
