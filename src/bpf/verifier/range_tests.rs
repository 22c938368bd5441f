//! That ranges include what the interpreter gives, of every operation and comparison.

use super::bounds::{Bounds32, Bounds64};
use super::range::Range;
use super::tnum::Tnum;
use crate::bpf::insn::{AluOp, ByteSwap, JmpOp, Size, Width};
use crate::bpf::vm::{alu, cmp};

const ALU: [AluOp; 13] = [
    AluOp::Add,
    AluOp::Sub,
    AluOp::Mul,
    AluOp::Div,
    AluOp::Sdiv,
    AluOp::Mod,
    AluOp::Smod,
    AluOp::Or,
    AluOp::And,
    AluOp::Xor,
    AluOp::Lsh,
    AluOp::Rsh,
    AluOp::Arsh,
];
const JMP: [JmpOp; 11] = [
    JmpOp::Eq,
    JmpOp::Ne,
    JmpOp::Set,
    JmpOp::Gt,
    JmpOp::Ge,
    JmpOp::Lt,
    JmpOp::Le,
    JmpOp::Sgt,
    JmpOp::Sge,
    JmpOp::Slt,
    JmpOp::Sle,
];

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 33) % end
    }

    /// A number near one of the places where something turns.
    fn number(&mut self) -> u64 {
        const CORNERS: [u64; 10] =
            [0, 1 << 7, 1 << 15, 1 << 31, 1 << 32, 1 << 63, u64::MAX, 0xffff_ffff, 1 << 16, 0x8000_0000_8000_0000];
        let corner = CORNERS[self.below(10) as usize];
        match self.below(5) {
            0 => self.next(),
            1 => self.next() >> self.below(64),
            2 => (self.next() >> self.below(64)).wrapping_neg(),
            _ => corner.wrapping_add(self.below(9)).wrapping_sub(4),
        }
    }

    /// Numbers, and a range that includes them and that the verifier may well come to.
    fn range(&mut self) -> (Vec<u64>, Range) {
        let first = self.number();
        let near = self.below(2) == 0;
        let count = 1 + self.below(4);
        let numbers: Vec<u64> = (0..count)
            .map(|at| match at {
                0 => first,
                _ if near => first.wrapping_add(self.below(300)).wrapping_sub(150),
                _ => self.number(),
            })
            .collect();
        let mut bits = Tnum::known(first);
        for number in &numbers {
            bits.mask |= number ^ first;
        }
        bits.value &= !bits.mask;
        let min = |numbers: &mut dyn Iterator<Item = i128>| numbers.min().unwrap_or(0);
        let max = |numbers: &mut dyn Iterator<Item = i128>| numbers.max().unwrap_or(0);
        let mut range = Range {
            bits,
            wide: Bounds64 {
                umin: min(&mut numbers.iter().map(|n| i128::from(*n))) as u64,
                umax: max(&mut numbers.iter().map(|n| i128::from(*n))) as u64,
                smin: min(&mut numbers.iter().map(|n| i128::from(*n as i64))) as i64,
                smax: max(&mut numbers.iter().map(|n| i128::from(*n as i64))) as i64,
            },
            low: Bounds32 {
                umin: min(&mut numbers.iter().map(|n| i128::from(*n as u32))) as u32,
                umax: max(&mut numbers.iter().map(|n| i128::from(*n as u32))) as u32,
                smin: min(&mut numbers.iter().map(|n| i128::from(*n as i32))) as i32,
                smax: max(&mut numbers.iter().map(|n| i128::from(*n as i32))) as i32,
            },
        };
        // Some of it may be unknown.
        match self.below(8) {
            0 => range.bits = Tnum::UNKNOWN,
            1 => range.wide = Bounds64::UNKNOWN,
            2 => range.low = Bounds32::UNKNOWN,
            3 => (range.wide, range.low) = (Bounds64::UNKNOWN, Bounds32::UNKNOWN),
            4 => (range.bits, range.low) = (Tnum::UNKNOWN, Bounds32::UNKNOWN),
            5 => (range.bits, range.wide) = (Tnum::UNKNOWN, Bounds64::UNKNOWN),
            _ => {}
        }
        let range = range.intersect(&Range::UNKNOWN).expect("it has numbers");
        for number in &numbers {
            assert!(range.contains(*number), "{number:#x} in {range:x?}");
        }
        (numbers, range)
    }
}

fn alu(op: AluOp, a: u64, b: u64, width: Width) -> u64 {
    macro_rules! both {
        ($wide:ident, $low:ident) => {
            match width {
                Width::W64 => alu::$wide(a, b),
                Width::W32 => alu::$low(a, b),
            }
        };
    }
    match op {
        AluOp::Add => both!(add64, add32),
        AluOp::Sub => both!(sub64, sub32),
        AluOp::Mul => both!(mul64, mul32),
        AluOp::Div => both!(div64, div32),
        AluOp::Sdiv => both!(sdiv64, sdiv32),
        AluOp::Mod => both!(mod64, mod32),
        AluOp::Smod => both!(smod64, smod32),
        AluOp::Or => both!(or64, or32),
        AluOp::And => both!(and64, and32),
        AluOp::Xor => both!(xor64, xor32),
        AluOp::Lsh => both!(lsh64, lsh32),
        AluOp::Rsh => both!(rsh64, rsh32),
        AluOp::Arsh => both!(arsh64, arsh32),
    }
}

fn jump(op: JmpOp, a: u64, b: u64, width: Width) -> bool {
    macro_rules! both {
        ($wide:ident, $low:ident) => {
            match width {
                Width::W64 => cmp::$wide(a, b),
                Width::W32 => cmp::$low(a, b),
            }
        };
    }
    match op {
        JmpOp::Eq => both!(eq64, eq32),
        JmpOp::Ne => both!(ne64, ne32),
        JmpOp::Set => both!(set64, set32),
        JmpOp::Gt => both!(gt64, gt32),
        JmpOp::Ge => both!(ge64, ge32),
        JmpOp::Lt => both!(lt64, lt32),
        JmpOp::Le => both!(le64, le32),
        JmpOp::Sgt => both!(sgt64, sgt32),
        JmpOp::Sge => both!(sge64, sge32),
        JmpOp::Slt => both!(slt64, slt32),
        JmpOp::Sle => both!(sle64, sle32),
    }
}

/// How many cases there are of each test.
fn cases() -> u64 {
    std::env::var("PERFRING_RANGE_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(200_000)
}

#[test]
fn arithmetic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..cases() {
        let ((some, a), (others, b)) = (random.range(), random.range());
        let op = ALU[random.below(13) as usize];
        let (b_numbers, b) = match random.below(3) {
            // What shifts and masks have.
            0 => {
                let number = random.below(70);
                (vec![number], Range::known(number))
            }
            _ => (others, b),
        };
        for width in [Width::W64, Width::W32] {
            let result = a.alu(op, &b, width);
            for x in &some {
                for y in &b_numbers {
                    let value = alu(op, *x, *y, width);
                    assert!(
                        result.contains(value),
                        "{x:#x} {op:?} {y:#x} of {width:?} is {value:#x}, which is not in {result:x?}\n{a:x?}\n{b:x?}"
                    );
                }
            }
        }
    }
}

#[test]
fn comparisons() {
    let mut random = Random(0xd1b5_4a32_d192_ed03);
    for _ in 0..cases() {
        let ((some, a), (others, b)) = (random.range(), random.range());
        let op = JMP[random.below(11) as usize];
        for width in [Width::W64, Width::W32] {
            let holds = Range::where_holds(op, &a, &b, width);
            let fails = Range::where_fails(op, &a, &b, width);
            for x in &some {
                for y in &others {
                    let way = if jump(op, *x, *y, width) { &holds } else { &fails };
                    let (new_a, new_b) = way.as_ref().unwrap_or_else(|| {
                        panic!("{x:#x} {op:?} {y:#x} of {width:?} was taken to be impossible\n{a:x?}\n{b:x?}")
                    });
                    assert!(
                        new_a.contains(*x) && new_b.contains(*y),
                        "{x:#x} {op:?} {y:#x} of {width:?}\n{a:x?}\n{b:x?} became\n{new_a:x?}\n{new_b:x?}"
                    );
                    assert!(a.includes(new_a) && b.includes(new_b), "a comparison makes nothing wider");
                }
            }
        }
    }
}

#[test]
fn extensions() {
    let mut random = Random(0x8cb9_2ba7_2f3d_8dd7);
    for _ in 0..cases() {
        let (numbers, range) = random.range();
        for x in numbers {
            for bits in [8, 16, 32, 64] {
                let up = 64 - bits;
                assert!(range.truncate(bits).contains(x << up >> up), "{x:#x} {bits} {range:x?}");
                let signed = ((x << up) as i64 >> up) as u64;
                assert!(range.sign_extend(bits).contains(signed), "{x:#x} {bits} {range:x?}");
            }
            assert!(range.neg(Width::W64).contains(x.wrapping_neg()));
            assert!(range.neg(Width::W32).contains(u64::from((x as u32).wrapping_neg())));
            for (size, swapped) in [
                (Size::H, u64::from((x as u16).swap_bytes())),
                (Size::W, u64::from((x as u32).swap_bytes())),
                (Size::DW, x.swap_bytes()),
            ] {
                assert!(range.swap_bytes(ByteSwap::Swap, size).contains(swapped), "{x:#x} {size:?} {range:x?}");
            }
            let by = random.below(64) as u32;
            assert!(range.shift_right(by).contains(x >> by));
        }
    }
}

#[test]
fn inclusion() {
    let mut random = Random(0xaf25_1af3_b0f0_25b5);
    for _ in 0..cases() {
        let ((some, a), (others, b)) = (random.range(), random.range());
        if a.includes(&b) {
            others.iter().for_each(|number| assert!(a.contains(*number)));
        }
        let both = a.intersect(&b);
        for number in some.iter().chain(&others).filter(|number| a.contains(**number) && b.contains(**number)) {
            assert!(both.is_some_and(|both| both.contains(*number)), "{number:#x} of {a:x?} and {b:x?}");
        }
    }
}

/// Of 4 bits everything can be tried: sums, differences and products of all sets of known bits.
#[test]
fn bits() {
    let sets: Vec<Tnum> = (0..16)
        .flat_map(|mask| (0..16).filter(move |value| value & mask == 0).map(move |value| Tnum { value, mask }))
        .collect();
    let members = |set: Tnum| (0..16).filter(move |number| set.contains(*number));
    for a in &sets {
        for b in &sets {
            for x in members(*a) {
                for y in members(*b) {
                    assert!(a.add(*b).contains(x + y));
                    assert!(a.sub(*b).contains(x.wrapping_sub(y)));
                    assert!(a.mul(*b).contains(x * y), "{x} * {y} of {a:?} {b:?}");
                    assert!(a.and(*b).contains(x & y) && a.or(*b).contains(x | y) && a.xor(*b).contains(x ^ y));
                    assert!(Tnum::range(x.min(y), x.max(y)).contains(x));
                }
            }
        }
    }
}

/// What the verifier has to find out for loops and bounds to work, beyond being right.
#[test]
fn exactness() {
    let byte = Range::of_bits(8);
    assert_eq!((byte.wide.umax, byte.wide.smin, byte.low.umax), (255, 0, 255));
    let sum = byte.alu(AluOp::Add, &Range::known(10), Width::W64);
    assert_eq!((sum.wide.umin, sum.wide.umax), (10, 265));
    let (small, _) = Range::where_holds(JmpOp::Lt, &Range::UNKNOWN, &Range::known(64), Width::W64).expect("possible");
    assert_eq!((small.wide.smin, small.wide.umax, small.low.umax), (0, 63, 63));
    let (low, _) = Range::where_holds(JmpOp::Le, &Range::of_bits(32), &Range::known(7), Width::W32).expect("possible");
    assert_eq!(low.wide.umax, 7);
    let (signed, _) =
        Range::where_holds(JmpOp::Sgt, &Range::UNKNOWN, &Range::known(u64::MAX), Width::W64).expect("possible");
    let (signed, _) = Range::where_holds(JmpOp::Slt, &signed, &Range::known(9), Width::W64).expect("possible");
    assert_eq!((signed.wide.umin, signed.wide.umax), (0, 8));
    assert_eq!(Range::where_holds(JmpOp::Eq, &byte, &Range::known(256), Width::W64), None);
    let masked = Range::UNKNOWN.alu(AluOp::And, &Range::known(0x38), Width::W64);
    assert_eq!((masked.wide.umax, masked.bits.mask), (0x38, 0x38));
    assert!(masked.bits.is_aligned(8));
    let rest = Range::UNKNOWN.alu(AluOp::Mod, &Range::known(10), Width::W64);
    assert_eq!(rest.wide.umax, 9);
    let extended = Range::of_bits(32).alu(AluOp::Lsh, &Range::known(32), Width::W64);
    let extended = extended.alu(AluOp::Arsh, &Range::known(32), Width::W64);
    assert_eq!((extended.wide.smin, extended.wide.smax), (i64::from(i32::MIN), i64::from(i32::MAX)));
}
