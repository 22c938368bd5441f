//! Where the arguments of statically defined probes are, and what they are there.

use super::program_type::REGS;

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Constant(i64),
    /// A register of the context, and the bits below the value.
    Register {
        at: usize,
        shift: u32,
    },
    /// Memory at what the registers and the number add up to.
    Memory {
        base: Option<usize>,
        /// Another register, which is shifted left so far.
        index: Option<(usize, u32)>,
        offset: i64,
    },
    /// Where nothing here reaches: data by its address, a vector register.
    Elsewhere,
}

/// An argument of a statically defined probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operand {
    /// Bytes.
    size: usize,
    signed: bool,
    place: Place,
}

/// The arguments that a note names, `most` of them at the most. What is not understood is an argument without a value.
pub(super) fn operands(text: &str, most: usize) -> Vec<Operand> {
    let mut found: Vec<(Option<&str>, String)> = Vec::new();
    for word in text.split_ascii_whitespace() {
        // An operand may have spaces in it, a size has none.
        let sized =
            word.split_once('@').filter(|(size, _)| size.chars().all(|c| c == '-' || c.is_ascii_alphanumeric()));
        match (sized, found.last_mut()) {
            (Some((size, rest)), _) => found.push((Some(size), rest.to_owned())),
            (None, Some((Some(_), last))) if !is_closed(last) => last.push_str(word),
            (None, _) => found.push((None, word.to_owned())),
        }
    }
    found.into_iter().take(most).map(|(size, place)| operand(size, &place)).collect()
}

fn is_closed(text: &str) -> bool {
    let count = |one: char| text.chars().filter(|c| *c == one).count();
    count('(') == count(')') && count('[') == count(']')
}

fn operand(size: Option<&str>, text: &str) -> Operand {
    let number = size.map_or(Some(8), |size| size.parse::<i8>().ok());
    let elsewhere = Operand { size: 8, signed: false, place: Place::Elsewhere };
    let Some(number) = number.filter(|number| matches!(number.unsigned_abs(), 1 | 2 | 4 | 8)) else { return elsewhere };
    let (size, signed) = (usize::from(number.unsigned_abs()), number < 0);
    Operand { size, signed, place: machine::place(text).unwrap_or(Place::Elsewhere) }
}

/// A number as assemblers write it.
fn number(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let digits = if negative { digits } else { digits.strip_prefix('+').unwrap_or(digits) };
    let value = match digits.strip_prefix("0x") {
        Some(hex) if !hex.starts_with(['+', '-']) => u64::from_str_radix(hex, 16).ok()?,
        _ if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    Some(if negative { (value as i64).wrapping_neg() } else { value as i64 })
}

impl Operand {
    /// The type of the argument.
    pub(super) fn type_text(&self) -> String {
        format!("{}{}", if self.signed { 's' } else { 'u' }, self.size * 8)
    }

    /// The value; `read` copies from the thread's memory. None where it cannot be known.
    pub(super) fn value(&self, regs: &[u64; REGS], read: impl FnOnce(u64, &mut [u8]) -> bool) -> Option<u64> {
        let bits = match self.place {
            Place::Constant(number) => number as u64,
            Place::Register { at, shift } => regs[at] >> shift,
            Place::Memory { base, index, offset } => {
                let base = base.map_or(0, |at| regs[at]);
                let index = index.map_or(0, |(at, shift)| regs[at] << shift);
                let mut bytes = [0; 8];
                let at = if cfg!(target_endian = "little") { 0 } else { 8 - self.size };
                let address = base.wrapping_add(index).wrapping_add(offset as u64);
                if !read(address, &mut bytes[at..at + self.size]) {
                    return None;
                }
                u64::from_ne_bytes(bytes)
            }
            Place::Elsewhere => return None,
        };
        let unused = 64 - 8 * self.size as u32;
        Some(match self.signed {
            true => ((bits << unused) as i64 >> unused) as u64,
            false => bits << unused >> unused,
        })
    }
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use super::{Place, number};

    /// In the order of `struct pt_regs`: the names of 64, 32, 16 and 8 bits.
    const REGISTERS: [(usize, [&str; 4]); 17] = [
        (0, ["r15", "r15d", "r15w", "r15b"]),
        (1, ["r14", "r14d", "r14w", "r14b"]),
        (2, ["r13", "r13d", "r13w", "r13b"]),
        (3, ["r12", "r12d", "r12w", "r12b"]),
        (4, ["rbp", "ebp", "bp", "bpl"]),
        (5, ["rbx", "ebx", "bx", "bl"]),
        (6, ["r11", "r11d", "r11w", "r11b"]),
        (7, ["r10", "r10d", "r10w", "r10b"]),
        (8, ["r9", "r9d", "r9w", "r9b"]),
        (9, ["r8", "r8d", "r8w", "r8b"]),
        (10, ["rax", "eax", "ax", "al"]),
        (11, ["rcx", "ecx", "cx", "cl"]),
        (12, ["rdx", "edx", "dx", "dl"]),
        (13, ["rsi", "esi", "si", "sil"]),
        (14, ["rdi", "edi", "di", "dil"]),
        (16, ["rip", "eip", "ip", ""]),
        (19, ["rsp", "esp", "sp", "spl"]),
    ];

    fn register(name: &str) -> Option<(usize, u32)> {
        let name = name.strip_prefix('%')?;
        let second = ["ah", "bh", "ch", "dh"].iter().position(|high| *high == name).map(|at| ([10, 5, 11, 12][at], 8));
        let found = REGISTERS.iter().find(|(_, names)| !name.is_empty() && names.contains(&name));
        found.map(|(at, _)| (*at, 0)).or(second)
    }

    /// `$5`, `%edi`, `-8(%rbp)`, `16(%rax,%rbx,4)`
    pub(super) fn place(text: &str) -> Option<Place> {
        if let Some(constant) = text.strip_prefix('$') {
            return number(constant).map(Place::Constant);
        }
        if text.starts_with('%') {
            return register(text).map(|(at, shift)| Place::Register { at, shift });
        }
        let (offset, rest) = text.split_once('(')?;
        // A symbol is data, whose address would have to be known.
        let offset = if offset.is_empty() { 0 } else { number(offset)? };
        let mut parts = rest.strip_suffix(')')?.split(',').map(str::trim);
        let whole = |name: &str| register(name).filter(|_| name != "%rip").map(|(at, _)| at);
        let base = match parts.next()? {
            "" => None,
            name => Some(whole(name)?),
        };
        let index = match (parts.next(), parts.next()) {
            (None, _) => None,
            (Some(name), scale) => {
                let scale: u32 = scale.map_or(Some(1), |scale| scale.parse().ok())?;
                Some((whole(name)?, matches!(scale, 1 | 2 | 4 | 8).then(|| scale.trailing_zeros())?))
            }
        };
        parts.next().is_none().then_some(Place::Memory { base, index, offset })
    }
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use super::{Place, number};

    fn register(name: &str) -> Option<usize> {
        match name {
            "sp" | "wsp" => return Some(31),
            _ => {}
        }
        let number = name.strip_prefix(['x', 'w'])?.parse::<usize>().ok()?;
        (number < 31).then_some(number)
    }

    /// `5`, `x0`, `w0`, `[sp]`, `[x29,-16]`
    pub(super) fn place(text: &str) -> Option<Place> {
        if let Some(inner) = text.strip_prefix('[') {
            let mut parts = inner.strip_suffix(']')?.split(',').map(str::trim);
            let base = Some(register(parts.next()?)?);
            let offset = parts.next().map_or(Some(0), |offset| number(offset.trim_start_matches('#')))?;
            return parts.next().is_none().then_some(Place::Memory { base, index: None, offset });
        }
        let constant = || number(text.trim_start_matches('#')).map(Place::Constant);
        register(text).map(|at| Place::Register { at, shift: 0 }).or_else(constant)
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_where_notes_say() {
        let mut regs = [0; REGS];
        (regs[14], regs[10], regs[4], regs[5]) = (0xffff_ffff_8000_0001, 0x1234_5678, 0x7000, 3);
        let value = |text: &str| {
            let [operand] = operands(text, 12)[..] else { panic!("{text}") };
            operand.value(&regs, |address, to| {
                to.iter_mut().zip(0..).for_each(|(byte, at)| *byte = (address as u8).wrapping_add(at));
                (0x6000..0x8000).contains(&address)
            })
        };
        assert_eq!(value("8@%rdi"), Some(0xffff_ffff_8000_0001));
        assert_eq!(value("4@%edi"), Some(0x8000_0001));
        assert_eq!(value("-4@%edi"), Some(0xffff_ffff_8000_0001));
        assert_eq!(value("-1@%dil"), Some(1));
        assert_eq!((value("1@%ah"), value("1@%al"), value("2@%ax")), (Some(0x56), Some(0x78), Some(0x5678)));
        assert_eq!(
            (value("-4@$-5"), value("4@$-5"), value("8@$0x10")),
            (Some(-5_i64 as u64), Some(0xffff_fffb), Some(16))
        );
        assert_eq!(value("8@$18446744073709551615"), Some(u64::MAX));
        assert_eq!(value("2@16(%rbp)"), Some(0x1110));
        assert_eq!(value("-1@-8(%rbp)"), Some(-8_i64 as u64));
        assert_eq!(value("4@(%rbp,%rbx,8)"), Some(0x1b1a_1918));
        assert_eq!(value("4@4(%rbp,%rbx)"), Some(0x0a09_0807));
        assert_eq!(value("1@28672(,%rbx,2)"), Some(6));
        assert_eq!(value("%rax"), Some(0x1234_5678));
        for unknown in [
            "8@0x10000(%rbp)",
            "4@counter(%rip)",
            "4@8(%rip)",
            "8f@%xmm0",
            "16@%rax",
            "0@%rax",
            "4@%zax",
            "4@",
            "4@$x",
            "4@(%rbp,%rbx,3)",
            "4@(%rbp",
            "4@(%rbp,%rbx,1,1)",
            "128@%rax",
            "-128@%rax",
            "4@--5(%rbp)",
            "4@$+-5",
        ] {
            assert_eq!(value(unknown), None, "{unknown}");
        }
        let many = operands("-4@%edi 8@-16(%rbp, %rbx, 2) 1@$1", 12);
        let types: Vec<_> = many.iter().map(Operand::type_text).collect();
        assert_eq!(types, ["s32", "u64", "u8"]);
        assert_eq!(many[1].place, Place::Memory { base: Some(4), index: Some((5, 1)), offset: -16 });
        assert_eq!((operands("", 12).len(), operands("1@$1 2@$2 4@$4", 2).len()), (0, 2));
    }
}
