//! Numbers that are not random, but look so.

use perfring::bpf::insn::{JmpOp, Size, Width};

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Less than `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 32) as usize % end
    }

    pub fn range(&mut self, range: std::ops::Range<usize>) -> usize {
        range.start + self.below(range.len())
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }

    /// A number, often one at an edge.
    pub fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => self.pick(&[0, 1, 2, 7, 8, 31, 32, 33, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff]),
            1 => {
                self.pick(&[i64::MIN, i64::MAX, -1, -2, i32::MIN.into(), i32::MAX.into(), 0xffff_ffff, 1 << 32]) as u64
            }
            2 => self.next() & 0xff,
            3 => self.next() & 0xffff_ffff,
            4 => (self.next() as i32) as u64,
            _ => self.next(),
        }
    }

    pub fn imm(&mut self) -> i32 {
        self.number() as i32
    }

    pub fn width(&mut self) -> Width {
        self.pick(&[Width::W32, Width::W64])
    }

    pub fn size(&mut self) -> Size {
        self.pick(&[Size::B, Size::H, Size::W, Size::DW])
    }

    pub fn jmp_op(&mut self) -> JmpOp {
        use JmpOp::*;
        self.pick(&[Eq, Ne, Set, Gt, Ge, Lt, Le, Sgt, Sge, Slt, Sle])
    }
}
