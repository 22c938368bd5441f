//! The log: each instruction of a path, and the registers that it changed, in the style of the kernel's.

use super::LogLevel;
use super::error::Refusal;
use super::range::Range;
use super::state::{Byte, Frame, Pointer, Slot, State, Target, Value};
use crate::bpf::insn::Op;
use std::fmt::{self, Write as _};

/// The most bytes of a log; what comes later is left out.
const MAX_LOG: usize = 16 << 20;

pub(super) struct Log {
    level: LogLevel,
    text: String,
    full: bool,
    line: Option<String>,
}

impl Log {
    pub(super) fn new(level: LogLevel) -> Self {
        Self { level, text: String::new(), full: false, line: None }
    }

    pub(super) fn level(&self) -> LogLevel {
        self.level
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    fn write(&mut self, args: fmt::Arguments<'_>) {
        if self.full {
            return;
        }
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(args);
        if self.text.len() > MAX_LOG {
            self.text.push_str("\n...\n");
            self.full = true;
        }
    }

    /// Another path starts, at a slot to which the text before `len` led.
    pub(super) fn back_to(&mut self, len: usize, pc: usize) {
        match self.level {
            LogLevel::None => {}
            LogLevel::Path => {
                self.text.truncate(len);
                self.full = false;
                if !self.text.is_empty() && !self.text.ends_with('\n') {
                    // The path was left in the middle of an instruction, a jump.
                    self.text.push('\n');
                }
                self.line = None;
            }
            LogLevel::All => self.write(format_args!("\nfrom before to {pc}:\n")),
        }
    }

    pub(super) fn before(&mut self, pc: usize, op: &Op, line: &Option<String>) {
        if let Some(line) = line
            && self.line.as_ref() != Some(line)
        {
            self.write(format_args!("; {line}\n"));
            self.line = Some(line.clone());
        }
        self.write(format_args!("{pc}: {op}"));
    }

    pub(super) fn after(&mut self, before: &State, after: &State, ended: bool) {
        if self.full {
            return;
        }
        if ended {
            self.write(format_args!("\n"));
            return;
        }
        let same_frame = before.frames.len() == after.frames.len();
        let changes = Changes { before: same_frame.then(|| before.frame()), after: after.frame() };
        self.write(format_args!("{changes}\n"));
        if after.frames.len() > before.frames.len() {
            self.write(format_args!("frame {}, called from {}:\n", after.frames.len() - 1, before.pc));
        } else if after.frames.len() < before.frames.len() {
            self.write(format_args!("back to frame {} at {}:\n", after.frames.len() - 1, after.pc));
        }
    }

    pub(super) fn covered(&mut self, pc: usize) {
        if self.level == LogLevel::All {
            self.write(format_args!("{pc}: as before: safe\n"));
        }
    }

    pub(super) fn refused(&mut self, insn: usize, line: Option<&str>, kind: &Refusal) {
        if self.level == LogLevel::None {
            return;
        }
        self.full = false;
        let line = line.map_or(String::new(), |line| format!(" ({line})"));
        self.write(format_args!("\ninstruction {insn}{line}: {kind}\n"));
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// The registers and slots that an instruction has changed.
struct Changes<'s> {
    before: Option<&'s Frame>,
    after: &'s Frame,
}

impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = " ;";
        let values = self.after.regs.iter().enumerate();
        for (reg, value) in values {
            let same = self.before.is_some_and(|before| Shown(&before.regs[reg]) == Shown(value));
            if same || *value == Value::None {
                continue;
            }
            write!(f, "{separator} R{reg}={}", Shown(value))?;
            separator = "";
        }
        for (index, slot) in self.after.slots.iter().enumerate() {
            let before = self.before.map(|before| before.slots.get(index).unwrap_or(&Slot::EMPTY));
            let untouched = slot.bytes == [Byte::None; 8] && before.is_none();
            if untouched
                || before.is_some_and(|before| before.bytes == slot.bytes && Shown(&before.spill) == Shown(&slot.spill))
            {
                continue;
            }
            write!(f, "{separator} fp-{}=", 8 * (index + 1))?;
            separator = "";
            if slot.bytes == [Byte::Spill; 8] {
                write!(f, "{}", Shown(&slot.spill))?;
                continue;
            }
            // The last byte first, as numbers are written.
            for byte in slot.bytes.iter().rev() {
                f.write_char(match byte {
                    Byte::None => '?',
                    Byte::Any => 'm',
                    Byte::Zero => '0',
                    Byte::Spill => 'r',
                })?;
            }
        }
        Ok(())
    }
}

/// A value as the log has it.
struct Shown<'v>(&'v Value);

impl PartialEq for Shown<'_> {
    /// Whether they look the same.
    fn eq(&self, other: &Self) -> bool {
        match (self.0, other.0) {
            (Value::None, Value::None) => true,
            (Value::Scalar(a), Value::Scalar(b)) => a.range == b.range && a.id == b.id,
            (Value::Pointer(a), Value::Pointer(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::None => f.write_char('?'),
            Value::Scalar(scalar) => match scalar.range.value() {
                Some(value) => write!(f, "{}", value as i64),
                None => {
                    f.write_str("scalar(")?;
                    let mut parts = Parts { f, any: false };
                    if scalar.id != 0 {
                        parts.part(format_args!("id={}", scalar.id))?;
                    }
                    range(&mut parts, &scalar.range)?;
                    f.write_char(')')
                }
            },
            Value::Pointer(pointer) => shown_pointer(f, pointer),
        }
    }
}

struct Parts<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    any: bool,
}

impl Parts<'_, '_> {
    fn part(&mut self, args: fmt::Arguments<'_>) -> fmt::Result {
        if std::mem::replace(&mut self.any, true) {
            self.f.write_char(',')?;
        }
        self.f.write_fmt(args)
    }
}

fn range(parts: &mut Parts<'_, '_>, range: &Range) -> fmt::Result {
    let unknown = Range::UNKNOWN;
    let (wide, low) = (range.wide, range.low);
    if wide.smin != unknown.wide.smin {
        parts.part(format_args!("smin={}", wide.smin))?;
    }
    if wide.smax != unknown.wide.smax {
        parts.part(format_args!("smax={}", wide.smax))?;
    }
    if wide.umin != 0 {
        parts.part(format_args!("umin={}", wide.umin))?;
    }
    if wide.umax != u64::MAX {
        parts.part(format_args!("umax={}", wide.umax))?;
    }
    if low.smin != i32::MIN && i64::from(low.smin) != wide.smin {
        parts.part(format_args!("smin32={}", low.smin))?;
    }
    if low.smax != i32::MAX && i64::from(low.smax) != wide.smax {
        parts.part(format_args!("smax32={}", low.smax))?;
    }
    if low.umin != 0 && u64::from(low.umin) != wide.umin {
        parts.part(format_args!("umin32={}", low.umin))?;
    }
    if low.umax != u32::MAX && u64::from(low.umax) != wide.umax {
        parts.part(format_args!("umax32={}", low.umax))?;
    }
    if range.bits.mask != u64::MAX {
        parts.part(format_args!("var_off=({:#x}; {:#x})", range.bits.value, range.bits.mask))?;
    }
    Ok(())
}

fn shown_pointer(f: &mut fmt::Formatter<'_>, pointer: &Pointer) -> fmt::Result {
    let name = match pointer.target {
        Target::Context => "ctx".to_owned(),
        Target::Map(_) => "map_ptr".to_owned(),
        Target::Value { null: false, .. } => "map_value".to_owned(),
        Target::Value { null: true, .. } => "map_value_or_null".to_owned(),
        Target::Stack { .. } => "fp".to_owned(),
        Target::Packet => "pkt".to_owned(),
        Target::PacketEnd => "pkt_end".to_owned(),
        Target::Buffer(id) => format!("buf{id}"),
        Target::BufferEnd(id) => format!("buf{id}_end"),
        Target::Record { null: false, .. } => "ringbuf_mem".to_owned(),
        Target::Record { null: true, .. } => "ringbuf_mem_or_null".to_owned(),
        Target::Function(_) => "func".to_owned(),
    };
    if let Target::Stack { frame } = pointer.target {
        match pointer.fixed() {
            Some(offset) => {
                return write!(f, "fp{}{offset}", if frame == 0 { String::new() } else { format!("[{frame}]") });
            }
            None => write!(f, "fp[{frame}](")?,
        }
    } else {
        write!(f, "{name}(")?;
    }
    let mut parts = Parts { f, any: false };
    match pointer.target {
        Target::Map(map) | Target::Value { map, .. } => parts.part(format_args!("map={map}"))?,
        Target::Record { size, .. } => parts.part(format_args!("mem_size={size}"))?,
        Target::Function(slot) => parts.part(format_args!("at={slot}"))?,
        _ => {}
    }
    if pointer.id != 0 {
        parts.part(format_args!("id={}", pointer.id))?;
    }
    if pointer.offset != 0 {
        parts.part(format_args!("off={}", pointer.offset))?;
    }
    if pointer.proved != 0 {
        parts.part(format_args!("r={}", pointer.proved))?;
    }
    if pointer.variable != Range::known(0) {
        range(&mut parts, &pointer.variable)?;
    }
    f.write_char(')')
}
