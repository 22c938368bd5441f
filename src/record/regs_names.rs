//! The names of the registers that samples hold, by their indices in `asm/perf_regs.h`.

/// The architecture of the machine that wrote a sample, which decides what the bits of `sample_regs_user` and
/// `sample_regs_intr` stand for. Of other architectures the masks are all that is known.
///
/// ```
/// use perfring::record::Arch;
/// assert_eq!(Arch::X86_64.register_name(8), Some("ip"));
/// assert_eq!(Arch::Arm64.register_index("sp"), Some(31));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arch {
    /// x86 of 64 bits, and of 32 bits: there the registers from `r8` on are missing.
    X86_64,
    /// Arm of 64 bits.
    Arm64,
}

const X86: [&str; 24] = [
    "ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip", "flags", "cs", "ss", "ds", "es", "fs", "gs", "r8", "r9",
    "r10", "r11", "r12", "r13", "r14", "r15",
];

const XMM: [&str; 16] = [
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
    "xmm14", "xmm15",
];

/// The index of the low half of `xmm0`; each takes two bits and two words.
const XMM0: u32 = 32;

const ARM64: [&str; 33] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
    "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "lr", "sp", "pc",
];

/// The index of the length of SVE vectors, in words of 8 bytes.
const VG: u32 = 46;

impl Arch {
    /// This machine's, if the names of its registers are known.
    pub const NATIVE: Option<Self> = if cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
        Some(Self::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Arm64)
    } else {
        None
    };

    /// The architecture by the name that `uname -m` gives it, as the header of a `perf.data` file holds it.
    pub fn from_machine(machine: &str) -> Option<Self> {
        match machine {
            "x86_64" | "i386" | "i486" | "i586" | "i686" => Some(Self::X86_64),
            "aarch64" | "aarch64_be" | "arm64" => Some(Self::Arm64),
            _ => None,
        }
    }

    /// The name of the register that bit `index` of a mask selects. Both halves of an `xmm` register have its name, the low
    /// one first.
    pub fn register_name(self, index: u32) -> Option<&'static str> {
        match (self, index) {
            (Self::X86_64, XMM0..) => XMM.get((index - XMM0) as usize / 2).copied(),
            (Self::X86_64, _) => X86.get(index as usize).copied(),
            (Self::Arm64, VG) => Some("vg"),
            (Self::Arm64, _) => ARM64.get(index as usize).copied(),
        }
    }

    /// The bit of a mask that selects the register of that name; of an `xmm` register that of the low half, behind which the
    /// other one is.
    pub fn register_index(self, name: &str) -> Option<u32> {
        // Masks have 64 bits.
        (0..u64::BITS).find(|&index| self.register_name(index) == Some(name))
    }

    /// The mask of all general registers, with the instruction pointer and, on x86, flags and segments: what the kernel gives
    /// everywhere. On x86 of 32 bits that is the low 16 bits of it.
    ///
    /// On x86-64 the kernel refuses `ds`, `es`, `fs` and `gs`, so they are not among them.
    pub const fn general_registers(self) -> u64 {
        match self {
            Self::X86_64 => 0xff_0fff,
            Self::Arm64 => 0x1_ffff_ffff,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_at_their_indices() {
        let x86 =
            [(0, "ax"), (7, "sp"), (9, "flags"), (15, "gs"), (16, "r8"), (23, "r15"), (32, "xmm0"), (62, "xmm15")];
        for (index, name) in x86 {
            assert_eq!(Arch::X86_64.register_name(index), Some(name));
            assert_eq!(Arch::X86_64.register_index(name), Some(index));
        }
        assert_eq!(Arch::X86_64.register_name(33), Some("xmm0"));
        assert_eq!(Arch::X86_64.register_name(63), Some("xmm15"));
        let arm64 = [(0, "x0"), (29, "x29"), (30, "lr"), (31, "sp"), (32, "pc"), (46, "vg")];
        for (index, name) in arm64 {
            assert_eq!(Arch::Arm64.register_name(index), Some(name));
            assert_eq!(Arch::Arm64.register_index(name), Some(index));
        }
    }

    #[test]
    fn other_indices_and_names_are_none() {
        for index in [24, 31, 64, u32::MAX] {
            assert_eq!(Arch::X86_64.register_name(index), None, "{index}");
        }
        for index in [33, 45, 47, 64, u32::MAX] {
            assert_eq!(Arch::Arm64.register_name(index), None, "{index}");
        }
        assert_eq!(Arch::X86_64.register_index("x0"), None);
        assert_eq!(Arch::Arm64.register_index(""), None);
    }

    #[test]
    fn all_general_registers_have_names() {
        for arch in [Arch::X86_64, Arch::Arm64] {
            let mask = arch.general_registers();
            for index in (0..64).filter(|index| mask >> index & 1 == 1) {
                let name = arch.register_name(index).unwrap();
                assert_eq!(arch.register_index(name), Some(index));
            }
        }
        assert_eq!(Arch::X86_64.general_registers().count_ones(), 20);
    }

    #[test]
    fn this_machine_is_known_by_its_name() {
        assert_eq!(Arch::from_machine(std::env::consts::ARCH), Arch::NATIVE.filter(|_| cfg!(not(target_arch = "x86"))));
        assert_eq!(Arch::from_machine("riscv64"), None);
    }
}
