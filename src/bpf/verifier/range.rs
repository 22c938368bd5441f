//! What is known of a number: some of its bits, and its bounds in both widths, unsigned and signed.
//!
//! A range stands for the set of the 64-bit numbers that have its known bits, lie in its 64-bit bounds, and whose lower halves lie
//! in its 32-bit bounds. Each operation gives a range that includes whatever the interpreter's operation gives of numbers of the
//! operands' ranges.

use super::Interval;
use super::bounds::{Bounds32, Bounds64};
use super::tnum::Tnum;
use crate::bpf::insn::{AluOp, ByteSwap, JmpOp, Size, Width};

/// Narrows the bounds of two numbers of which the first is greater than the second by at least `$by`, 0 or 1.
macro_rules! greater {
    ($amin:expr, $amax:expr, $bmin:expr, $bmax:expr, $by:literal) => {{
        $amin = $amin.max($bmin.checked_add($by)?);
        $bmax = $bmax.min($amax.checked_sub($by)?);
    }};
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Range {
    pub(super) bits: Tnum,
    pub(super) wide: Bounds64,
    pub(super) low: Bounds32,
}

const HIGH: u64 = 0xffff_ffff_0000_0000;

impl Range {
    pub(super) const UNKNOWN: Self = Self { bits: Tnum::UNKNOWN, wide: Bounds64::UNKNOWN, low: Bounds32::UNKNOWN };

    pub(super) const fn known(value: u64) -> Self {
        Self { bits: Tnum::known(value), wide: Bounds64::known(value), low: Bounds32::known(value as u32) }
    }

    /// Any number of the lower `bits`, from 1 to 64.
    pub(super) fn of_bits(bits: u32) -> Self {
        Self::from_bits(Tnum::UNKNOWN.truncate(bits))
    }

    pub(super) fn from_bits(bits: Tnum) -> Self {
        Self { bits, ..Self::UNKNOWN }.settled()
    }

    pub(super) fn unsigned(min: u64, max: u64) -> Self {
        Self { wide: Bounds64::unsigned(min, max), ..Self::UNKNOWN }.settled()
    }

    pub(super) fn signed(min: i64, max: i64) -> Self {
        Self { wide: Bounds64::signed(min, max), ..Self::UNKNOWN }.settled()
    }

    /// The number, if there is only one.
    pub(super) fn value(&self) -> Option<u64> {
        self.bits.is_known().then_some(self.bits.value)
    }

    pub(super) fn is_unknown(&self) -> bool {
        *self == Self::UNKNOWN
    }

    pub(super) fn contains(&self, value: u64) -> bool {
        let (low, signed) = (value as u32, value as i64);
        self.bits.contains(value)
            && (self.wide.umin..=self.wide.umax).contains(&value)
            && (self.wide.smin..=self.wide.smax).contains(&signed)
            && (self.low.umin..=self.low.umax).contains(&low)
            && (self.low.smin..=self.low.smax).contains(&(low as i32))
    }

    /// Whether all its numbers are numbers of this one.
    pub(super) fn includes(&self, other: &Self) -> bool {
        self.bits.includes(other.bits) && self.wide.includes(&other.wide) && self.low.includes(&other.low)
    }

    /// What is in both; none if that is nothing, as far as can be told.
    pub(super) fn intersect(&self, other: &Self) -> Option<Self> {
        let bits = self.bits.intersect(other.bits)?;
        Self { bits, wide: self.wide.intersect(&other.wide), low: self.low.intersect(&other.low) }.settle()
    }

    pub(super) fn interval(&self) -> Interval {
        Interval { min: self.wide.smin, max: self.wide.smax }
    }

    /// Makes known in each part what the others say; none if together they leave no number.
    fn settle(mut self) -> Option<Self> {
        // Each round only narrows; a few are enough for nearly all that there is to be found.
        for _ in 0..3 {
            let before = self;
            self.exchange()?;
            if self == before {
                break;
            }
        }
        Some(self)
    }

    /// The same where there is a number, as there always is in what an operation gives.
    fn settled(self) -> Self {
        self.settle().unwrap_or(self)
    }

    fn exchange(&mut self) -> Option<()> {
        // Bits to bounds.
        let bits = self.bits;
        let sign = 1 << 63;
        let from_bits = Bounds64 {
            umin: bits.value,
            umax: bits.max(),
            smin: (bits.value | bits.mask & sign) as i64,
            smax: (bits.value | bits.mask & !sign) as i64,
        };
        self.wide = self.wide.intersect(&from_bits);
        let sign = 1 << 31;
        let (value, mask) = (bits.value as u32, bits.mask as u32);
        let from_bits = Bounds32 {
            umin: value,
            umax: value | mask,
            smin: (value | mask & sign) as i32,
            smax: (value | mask & !sign) as i32,
        };
        self.low = self.low.intersect(&from_bits);
        if !self.wide.is_possible() || !self.low.is_possible() {
            return None;
        }
        self.wide.exchange();
        self.low.exchange();
        if !self.wide.is_possible() || !self.low.is_possible() {
            return None;
        }
        // The whole to its lower half: where the numbers are fewer than 2^32 and the half does not wrap among them, its ends
        // are the halves of the ends.
        for (first, last) in [(self.wide.umin, self.wide.umax), (self.wide.smin as u64, self.wide.smax as u64)] {
            if last.wrapping_sub(first) <= u64::from(u32::MAX) {
                let (first, last) = (first as u32, last as u32);
                if first <= last {
                    self.low.umin = self.low.umin.max(first);
                    self.low.umax = self.low.umax.min(last);
                }
                if first as i32 <= last as i32 {
                    self.low.smin = self.low.smin.max(first as i32);
                    self.low.smax = self.low.smax.min(last as i32);
                }
            }
        }
        // The lower half to the whole: with the upper half of an end, the end is not beyond that of the lower.
        let wide = self.wide;
        self.wide.umin = wide.umin.max(wide.umin & HIGH | u64::from(self.low.umin));
        self.wide.umax = wide.umax.min(wide.umax & HIGH | u64::from(self.low.umax));
        self.wide.smin = wide.smin.max(wide.smin & HIGH as i64 | i64::from(self.low.umin));
        self.wide.smax = wide.smax.min(wide.smax & HIGH as i64 | i64::from(self.low.umax));
        if wide.smin >= i64::from(i32::MIN) && wide.smax <= i64::from(i32::MAX) {
            // They are their lower halves, sign-extended.
            self.wide.smin = self.wide.smin.max(i64::from(self.low.smin));
            self.wide.smax = self.wide.smax.min(i64::from(self.low.smax));
        }
        if !self.wide.is_possible() || !self.low.is_possible() {
            return None;
        }
        // Bounds to bits.
        let low = Tnum::range(u64::from(self.low.umin), u64::from(self.low.umax));
        self.bits =
            self.bits.intersect(Tnum::range(self.wide.umin, self.wide.umax))?.intersect(Tnum::UNKNOWN.with_low(low))?;
        Some(())
    }

    /// The lower half, and 0 above.
    pub(super) fn zero_extend_low(&self) -> Self {
        Self { bits: self.bits.truncate(32), wide: Bounds64::UNKNOWN, low: self.low }.settled()
    }

    /// The lower `bits`, from 1 to 64, and 0 above.
    pub(super) fn truncate(&self, bits: u32) -> Self {
        let mask = u64::MAX >> (64 - bits);
        if self.wide.umax <= mask {
            return *self;
        }
        match bits {
            64 => *self,
            32 => self.zero_extend_low(),
            _ => {
                let mut range = Self { bits: self.bits.truncate(bits), ..Self::UNKNOWN };
                if u64::from(self.low.umax) <= mask {
                    range.low = self.low;
                }
                range.settled()
            }
        }
    }

    /// The lower `bits` with their sign repeated above.
    pub(super) fn sign_extend(&self, bits: u32) -> Self {
        let most = i64::MAX >> (64 - bits);
        if self.wide.smin >= -most - 1 && self.wide.smax <= most {
            return *self;
        }
        let mut range =
            Self { bits: self.bits.sign_extend(bits), wide: Bounds64::signed(-most - 1, most), ..Self::UNKNOWN };
        let low = self.low;
        if bits <= 32 && i64::from(low.smin) >= -most - 1 && i64::from(low.smax) <= most {
            range.wide = Bounds64::signed(i64::from(low.smin), i64::from(low.smax));
        }
        range.settled()
    }

    /// `self >>= by`, by less than 64.
    pub(super) fn shift_right(&self, by: u32) -> Self {
        self.alu64(AluOp::Rsh, &Self::known(u64::from(by)))
    }

    /// `self op= other`
    pub(super) fn alu(&self, op: AluOp, other: &Self, width: Width) -> Self {
        match width {
            Width::W64 => self.alu64(op, other),
            Width::W32 => self.alu32(op, other),
        }
    }

    fn alu64(&self, op: AluOp, other: &Self) -> Self {
        if let (Some(a), Some(b)) = (self.value(), other.value()) {
            return Self::known(concrete64(op, a, b));
        }
        let (a, b) = (self, other);
        let mut result = Self::UNKNOWN;
        match op {
            AluOp::Add => result = Self { bits: a.bits.add(b.bits), wide: a.wide.add(&b.wide), low: a.low.add(&b.low) },
            AluOp::Sub => result = Self { bits: a.bits.sub(b.bits), wide: a.wide.sub(&b.wide), low: a.low.sub(&b.low) },
            AluOp::Mul => result = Self { bits: a.bits.mul(b.bits), wide: a.wide.mul(&b.wide), low: a.low.mul(&b.low) },
            AluOp::And => result = Self { bits: a.bits.and(b.bits), wide: a.wide.and(&b.wide), low: a.low.and(&b.low) },
            AluOp::Or => result = Self { bits: a.bits.or(b.bits), wide: a.wide.or(&b.wide), low: a.low.or(&b.low) },
            AluOp::Xor => result.bits = a.bits.xor(b.bits),
            AluOp::Div => result.wide = a.wide.div(&b.wide),
            AluOp::Mod => result.wide = a.wide.rem(&b.wide),
            AluOp::Sdiv | AluOp::Smod => result = signed_division(op, a, b, i64::MIN),
            AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => {
                let Some((least, most)) = shift(b.wide.umin, b.wide.umax, 64) else { return result };
                if least == most {
                    result.bits = match op {
                        AluOp::Lsh => a.bits.shl(least),
                        AluOp::Rsh => a.bits.shr(least),
                        _ => a.bits.sar(least),
                    };
                }
                result.wide = match op {
                    AluOp::Lsh => a.wide.shl(least, most),
                    AluOp::Rsh => a.wide.shr(least, most),
                    _ => a.wide.sar(least, most),
                };
                if op == AluOp::Lsh && least == 32 && most == 32 {
                    // The lower half goes up, and takes its sign along.
                    let signed = |value: i32| i64::from(value) << 32;
                    let unsigned = |value: u32| u64::from(value) << 32;
                    result.wide = result.wide.intersect(&Bounds64 {
                        umin: unsigned(a.low.umin),
                        umax: unsigned(a.low.umax),
                        smin: signed(a.low.smin),
                        smax: signed(a.low.smax),
                    });
                }
            }
        }
        result.settled()
    }

    fn alu32(&self, op: AluOp, other: &Self) -> Self {
        if let (Some(a), Some(b)) = (self.low_value(), other.low_value()) {
            return Self::known(u64::from(concrete32(op, a, b)));
        }
        let (a, b) = (self.low, other.low);
        let (a_bits, b_bits) = (self.bits.truncate(32), other.bits.truncate(32));
        let (bits, low) = match op {
            AluOp::Add => (a_bits.add(b_bits), a.add(&b)),
            AluOp::Sub => (a_bits.sub(b_bits), a.sub(&b)),
            AluOp::Mul => (a_bits.mul(b_bits), a.mul(&b)),
            AluOp::And => (a_bits.and(b_bits), a.and(&b)),
            AluOp::Or => (a_bits.or(b_bits), a.or(&b)),
            AluOp::Xor => (a_bits.xor(b_bits), Bounds32::UNKNOWN),
            AluOp::Div => (Tnum::UNKNOWN, a.div(&b)),
            AluOp::Mod => (Tnum::UNKNOWN, a.rem(&b)),
            AluOp::Sdiv | AluOp::Smod => {
                let (a, b) = (self.sign_extend_low(), other.sign_extend_low());
                let result = signed_division(op, &a, &b, i64::from(i32::MIN));
                let low = if result.is_unknown() {
                    Bounds32::UNKNOWN
                } else {
                    // Of numbers of 32 bits the quotient has 32 as well, but for the one that wraps, which is excluded.
                    Bounds32::signed(result.wide.smin as i32, result.wide.smax as i32)
                };
                (Tnum::UNKNOWN, low)
            }
            AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => {
                let Some((least, most)) = shift(b.umin.into(), b.umax.into(), 32) else {
                    return Self::of_bits(32);
                };
                let low = match op {
                    AluOp::Lsh => a.shl(least, most),
                    AluOp::Rsh => a.shr(least, most),
                    _ => a.sar(least, most),
                };
                let bits = match op {
                    _ if least != most => Tnum::UNKNOWN,
                    AluOp::Lsh => a_bits.shl(least),
                    AluOp::Rsh => a_bits.shr(least),
                    _ => a_bits.sign_extend(32).sar(least),
                };
                (bits, low)
            }
        };
        Self { bits: bits.truncate(32), wide: Bounds64::UNKNOWN, low }.settled()
    }

    fn low_value(&self) -> Option<u32> {
        let low = self.bits.truncate(32);
        low.is_known().then_some(low.value as u32)
    }

    fn sign_extend_low(&self) -> Self {
        self.sign_extend(32)
    }

    /// `-self`
    pub(super) fn neg(&self, width: Width) -> Self {
        Self::known(0).alu(AluOp::Sub, self, width)
    }

    pub(super) fn swap_bytes(&self, kind: ByteSwap, size: Size) -> Self {
        let swaps = match kind {
            ByteSwap::Swap => true,
            ByteSwap::ToBe => cfg!(target_endian = "little"),
            ByteSwap::ToLe => cfg!(target_endian = "big"),
        };
        if !swaps {
            return self.truncate(size.bits());
        }
        Self::from_bits(self.bits.swap_bytes().shr(64 - size.bits()))
    }

    /// What two numbers may be where `a op b` holds; none where it can't.
    pub(super) fn where_holds(op: JmpOp, a: &Self, b: &Self, width: Width) -> Option<(Self, Self)> {
        let (mut a, mut b) = (*a, *b);
        match width {
            Width::W64 => {
                match op {
                    JmpOp::Eq => {
                        let both = a.intersect(&b)?;
                        return Some((both, both));
                    }
                    JmpOp::Ne => {
                        exclude(&mut a, &b)?;
                        exclude(&mut b, &a)?;
                    }
                    JmpOp::Set => both_have_a_bit(&mut a.bits, &mut b.bits, 64)?,
                    JmpOp::Gt => greater!(a.wide.umin, a.wide.umax, b.wide.umin, b.wide.umax, 1),
                    JmpOp::Ge => greater!(a.wide.umin, a.wide.umax, b.wide.umin, b.wide.umax, 0),
                    JmpOp::Lt => greater!(b.wide.umin, b.wide.umax, a.wide.umin, a.wide.umax, 1),
                    JmpOp::Le => greater!(b.wide.umin, b.wide.umax, a.wide.umin, a.wide.umax, 0),
                    JmpOp::Sgt => greater!(a.wide.smin, a.wide.smax, b.wide.smin, b.wide.smax, 1),
                    JmpOp::Sge => greater!(a.wide.smin, a.wide.smax, b.wide.smin, b.wide.smax, 0),
                    JmpOp::Slt => greater!(b.wide.smin, b.wide.smax, a.wide.smin, a.wide.smax, 1),
                    JmpOp::Sle => greater!(b.wide.smin, b.wide.smax, a.wide.smin, a.wide.smax, 0),
                }
                Some((a.settle()?, b.settle()?))
            }
            Width::W32 => {
                match op {
                    JmpOp::Eq => {
                        let low = a.low.intersect(&b.low);
                        let bits = a.bits.truncate(32).intersect(b.bits.truncate(32))?;
                        (a.low, b.low) = (low, low);
                        (a.bits, b.bits) = (a.bits.with_low(bits), b.bits.with_low(bits));
                    }
                    JmpOp::Ne => {
                        exclude_low(&mut a, &b)?;
                        exclude_low(&mut b, &a)?;
                    }
                    JmpOp::Set => both_have_a_bit(&mut a.bits, &mut b.bits, 32)?,
                    JmpOp::Gt => greater!(a.low.umin, a.low.umax, b.low.umin, b.low.umax, 1),
                    JmpOp::Ge => greater!(a.low.umin, a.low.umax, b.low.umin, b.low.umax, 0),
                    JmpOp::Lt => greater!(b.low.umin, b.low.umax, a.low.umin, a.low.umax, 1),
                    JmpOp::Le => greater!(b.low.umin, b.low.umax, a.low.umin, a.low.umax, 0),
                    JmpOp::Sgt => greater!(a.low.smin, a.low.smax, b.low.smin, b.low.smax, 1),
                    JmpOp::Sge => greater!(a.low.smin, a.low.smax, b.low.smin, b.low.smax, 0),
                    JmpOp::Slt => greater!(b.low.smin, b.low.smax, a.low.smin, a.low.smax, 1),
                    JmpOp::Sle => greater!(b.low.smin, b.low.smax, a.low.smin, a.low.smax, 0),
                }
                Some((a.settle()?, b.settle()?))
            }
        }
    }

    /// What two numbers may be where `a op b` does not hold; none where it must.
    pub(super) fn where_fails(op: JmpOp, a: &Self, b: &Self, width: Width) -> Option<(Self, Self)> {
        let opposite = match op {
            JmpOp::Eq => JmpOp::Ne,
            JmpOp::Ne => JmpOp::Eq,
            JmpOp::Gt => JmpOp::Le,
            JmpOp::Ge => JmpOp::Lt,
            JmpOp::Lt => JmpOp::Ge,
            JmpOp::Le => JmpOp::Gt,
            JmpOp::Sgt => JmpOp::Sle,
            JmpOp::Sge => JmpOp::Slt,
            JmpOp::Slt => JmpOp::Sge,
            JmpOp::Sle => JmpOp::Sgt,
            JmpOp::Set => {
                let (mut a, mut b) = (*a, *b);
                let bits = if width == Width::W64 { 64 } else { 32 };
                have_no_bit_in_common(&mut a.bits, &mut b.bits, bits)?;
                return Some((a.settle()?, b.settle()?));
            }
        };
        Self::where_holds(opposite, a, b, width)
    }
}

/// Takes the only number of `other` out of `range`, if it is at an end of it.
fn exclude(range: &mut Range, other: &Range) -> Option<()> {
    let Some(value) = other.value() else { return Some(()) };
    if range.value() == Some(value) {
        return None;
    }
    let wide = &mut range.wide;
    if wide.umin == value {
        wide.umin = wide.umin.checked_add(1)?;
    }
    if wide.umax == value {
        wide.umax = wide.umax.checked_sub(1)?;
    }
    if wide.smin == value as i64 {
        wide.smin = wide.smin.checked_add(1)?;
    }
    if wide.smax == value as i64 {
        wide.smax = wide.smax.checked_sub(1)?;
    }
    Some(())
}

/// Likewise of the lower halves.
fn exclude_low(range: &mut Range, other: &Range) -> Option<()> {
    let Some(value) = other.low_value() else { return Some(()) };
    if range.low_value() == Some(value) {
        return None;
    }
    let low = &mut range.low;
    if low.umin == value {
        low.umin = low.umin.checked_add(1)?;
    }
    if low.umax == value {
        low.umax = low.umax.checked_sub(1)?;
    }
    if low.smin == value as i32 {
        low.smin = low.smin.checked_add(1)?;
    }
    if low.smax == value as i32 {
        low.smax = low.smax.checked_sub(1)?;
    }
    Some(())
}

/// Of the lower `width` bits.
fn both_have_a_bit(a: &mut Tnum, b: &mut Tnum, width: u32) -> Option<()> {
    let common = a.truncate(width).max() & b.truncate(width).max();
    if common == 0 {
        return None;
    }
    if common.is_power_of_two() {
        // It is this one.
        for bits in [a, b] {
            *bits = Tnum { value: bits.value | common, mask: bits.mask & !common };
        }
    }
    Some(())
}

/// Of the lower `width` bits.
fn have_no_bit_in_common(a: &mut Tnum, b: &mut Tnum, width: u32) -> Option<()> {
    let (in_a, in_b) = (a.truncate(width).value, b.truncate(width).value);
    if in_a & in_b != 0 {
        return None;
    }
    *a = Tnum { value: a.value, mask: a.mask & !in_b };
    *b = Tnum { value: b.value, mask: b.mask & !in_a };
    Some(())
}

/// By how much a shift may be that is by `least` to `most`; none where it is taken modulo the width.
fn shift(least: u64, most: u64, width: u64) -> Option<(u32, u32)> {
    (most < width).then_some((least as u32, most as u32))
}

/// Signed division and its rest, by a number that is known and neither 0 nor -1; `least` is the least number of the width.
fn signed_division(op: AluOp, a: &Range, b: &Range, least: i64) -> Range {
    let Some(divisor) = b.value().map(|value| value as i64).filter(|value| !matches!(value, 0 | -1)) else {
        return Range::UNKNOWN;
    };
    debug_assert!(divisor >= least);
    let (min, max) = (a.wide.smin, a.wide.smax);
    if op == AluOp::Sdiv {
        let (first, last) = (min / divisor, max / divisor);
        return Range { wide: Bounds64::signed(first.min(last), first.max(last)), ..Range::UNKNOWN };
    }
    // The rest has the sign of the number, and is nearer to 0 than the divisor, and not farther than the number.
    let most = (divisor.unsigned_abs() - 1).min(i64::MAX as u64) as i64;
    let (low, high) = (if min < 0 { min.max(-most) } else { 0 }, if max > 0 { max.min(most) } else { 0 });
    Range { wide: Bounds64::signed(low, high), ..Range::UNKNOWN }
}

/// What the interpreter gives.
fn concrete64(op: AluOp, a: u64, b: u64) -> u64 {
    use crate::bpf::vm::alu;
    match op {
        AluOp::Add => alu::add64(a, b),
        AluOp::Sub => alu::sub64(a, b),
        AluOp::Mul => alu::mul64(a, b),
        AluOp::Div => alu::div64(a, b),
        AluOp::Sdiv => alu::sdiv64(a, b),
        AluOp::Mod => alu::mod64(a, b),
        AluOp::Smod => alu::smod64(a, b),
        AluOp::Or => alu::or64(a, b),
        AluOp::And => alu::and64(a, b),
        AluOp::Xor => alu::xor64(a, b),
        AluOp::Lsh => alu::lsh64(a, b),
        AluOp::Rsh => alu::rsh64(a, b),
        AluOp::Arsh => alu::arsh64(a, b),
    }
}

/// What the interpreter gives.
fn concrete32(op: AluOp, a: u32, b: u32) -> u32 {
    use crate::bpf::vm::alu;
    let (a, b) = (u64::from(a), u64::from(b));
    let value = match op {
        AluOp::Add => alu::add32(a, b),
        AluOp::Sub => alu::sub32(a, b),
        AluOp::Mul => alu::mul32(a, b),
        AluOp::Div => alu::div32(a, b),
        AluOp::Sdiv => alu::sdiv32(a, b),
        AluOp::Mod => alu::mod32(a, b),
        AluOp::Smod => alu::smod32(a, b),
        AluOp::Or => alu::or32(a, b),
        AluOp::And => alu::and32(a, b),
        AluOp::Xor => alu::xor32(a, b),
        AluOp::Lsh => alu::lsh32(a, b),
        AluOp::Rsh => alu::rsh32(a, b),
        AluOp::Arsh => alu::arsh32(a, b),
    };
    value as u32
}
