//! Statements on numbers, and those that have others in them.

use super::Generator;

const ALU: [&str; 13] = ["+", "-", "*", "/", "s/", "%", "s%", "|", "&", "^", "<<", ">>", "s>>"];
const JMP: [&str; 11] = ["==", "!=", "&", ">", ">=", "<", "<=", "s>", "s>=", "s<", "s<="];

impl Generator<'_, '_> {
    pub(super) fn statement(&mut self) {
        let nested = self.depth < 3;
        match self.choices.below(36) {
            30.. => self.form(),
            0..=3 => self.arithmetic(),
            4..=5 => self.stack(),
            6..=9 => self.value(),
            10 => self.direct_value(),
            11..=13 => self.packet(),
            14..=16 => self.buffer(),
            17..=18 => self.record(),
            19..=20 => self.helper(),
            21 => self.context(),
            22 => self.keep(),
            23..=24 if nested => self.branch(),
            25..=26 if nested => self.counted_loop(),
            27 if nested && self.level < 3 => self.call(),
            28 if nested && self.level < 3 => self.callback(),
            29 => self.tail_call(),
            _ => self.arithmetic(),
        }
    }

    pub(super) fn arithmetic(&mut self) {
        let dst = self.scratch();
        let half = dst.replace('r', "w");
        let wide = self.choices.below(2) == 0;
        let reg = if wide { &dst } else { &half };
        match self.choices.below(12) {
            0 => {
                let from = self.choices.pick(&["s8", "s16", "s32"]);
                let src = self.scratch();
                let (reg, src) = match (wide, from) {
                    (false, "s8" | "s16") => (half, src.replace('r', "w")),
                    _ => (dst, src),
                };
                self.emit(format!("{reg} = ({from}){src}"));
                self.feature("sign-extending move");
            }
            1 => self.emit(format!("{reg} = -{reg}")),
            2 => {
                let swap =
                    self.choices.pick(&["be16", "be32", "be64", "le16", "le32", "bswap16", "bswap32", "bswap64"]);
                self.emit(format!("{dst} = {swap} {dst}"));
            }
            3..=4 => {
                let src = self.scratch();
                let src = if wide { src } else { src.replace('r', "w") };
                self.emit(format!("{reg} = {src}"));
            }
            5..=8 => {
                let op = self.choices.pick(&ALU);
                let src = self.scratch();
                let src = if wide { src } else { src.replace('r', "w") };
                self.emit(format!("{reg} {op}= {src}"));
            }
            _ => {
                let op = self.choices.pick(&ALU);
                let number = match op {
                    "<<" | ">>" | "s>>" => self.choices.below(if wide { 64 } else { 32 }) as i32,
                    _ => self.number(),
                };
                let number = if number == 0 { 1 } else { number };
                self.emit(format!("{reg} {op}= {number}"));
            }
        }
    }

    /// Loads and stores of the frame.
    fn stack(&mut self) {
        let (bytes, name) = self.choices.pick(&[(1, "u8"), (2, "u16"), (4, "u32"), (8, "u64")]);
        let place = |this: &mut Self| {
            let mut at = (bytes * (1 + this.choices.below(64 / bytes))) as i32;
            if this.mistake() {
                at = this.choices.pick(&[3, 68, 0, 513, 520, 512]);
            }
            at
        };
        let reg = self.scratch();
        let at = place(self);
        match self.choices.below(6) {
            0 => self.emit(format!("*({name} *)(r10 -{at}) = {reg}")),
            1 => {
                let number = self.number();
                self.emit(format!("*({name} *)(r10 -{at}) = {number}"));
            }
            2 => self.emit(format!("{reg} = *({name} *)(r10 -{at})")),
            3 if bytes < 8 => {
                self.emit(format!("{reg} = *({} *)(r10 -{at})", name.replace('u', "s")));
                self.feature("sign-extending load");
            }
            4 => {
                // Spilled, compared, and filled again.
                let number = self.number();
                let op = self.choices.pick(&JMP);
                let skip = self.label();
                self.emit(format!("*({name} *)(r10 -{at}) = {reg}"));
                let half = if self.choices.below(2) == 0 { reg.replace('r', "w") } else { reg.clone() };
                self.emit(format!("if {half} {op} {number} goto {skip}"));
                self.emit(format!("{reg} = *({name} *)(r10 -{at})"));
                self.place(&skip);
                self.feature("spill");
            }
            _ => {
                // Somewhere in the frame.
                let most = 64 - bytes as u64;
                self.bounded("r3", most, bytes as u64);
                self.emit("r2 = r10");
                self.emit("r2 += -64");
                self.emit("r2 += r3");
                if self.choices.below(2) == 0 {
                    self.emit(format!("{reg} = *({name} *)(r2 +0)"));
                } else {
                    self.emit(format!("*({name} *)(r2 +0) = {reg}"));
                }
                self.place_skip();
                self.feature("variable stack offset");
            }
        }
    }

    /// Two ways that come together.
    fn branch(&mut self) {
        self.depth += 1;
        let (a, b) = (self.scratch(), self.scratch());
        let op = self.choices.pick(&JMP);
        let (otherwise, end) = (self.label(), self.label());
        let wide = self.choices.below(2) == 0;
        let half = |reg: String| if wide { reg } else { reg.replace('r', "w") };
        // Of a comparison with itself the kernel knows nothing.
        let alone = a == b && self.profile.is_kernel();
        let second = if self.choices.below(2) == 0 && !alone { half(b) } else { self.number().to_string() };
        self.emit(format!("if {} {op} {second} goto {otherwise}", half(a)));
        let kept = self.kept;
        let count = self.choices.below(3);
        self.statements(count);
        self.emit(format!("goto {end}"));
        self.kept = kept;
        self.place(&otherwise);
        self.emit("r0 = 0");
        let count = self.choices.below(3);
        self.statements(count);
        self.kept = kept;
        self.place(&end);
        self.emit("r0 = 0");
        self.depth -= 1;
    }

    /// So many rounds, or as many as a number says that is bounded.
    fn counted_loop(&mut self) {
        self.depth += 1;
        let (top, out) = (self.label(), self.label());
        let at = 128 + 8 * self.depth;
        let times = 1 + self.choices.below(6);
        let kept = self.kept.take();
        match self.choices.below(5) {
            0 => {
                self.feature("may_goto");
                self.place(&top);
                self.emit(format!("may_goto {out}"));
                let count = self.choices.below(3);
                self.statements(count);
                let leave = self.scratch();
                self.emit(format!("if {leave} > 77 goto {out}"));
                self.emit(format!("goto {top}"));
            }
            1 => {
                // A bound that is not known, but that it has one.
                self.feature("loop with a bound that is not known");
                let reg = self.scratch();
                self.emit(format!("r1 = {reg}"));
                let bits = self.bits();
                self.emit(format!("r1 &= {bits}"));
                self.emit(format!("*(u64 *)(r10 -{}) = r1", at + 64));
                self.emit(format!("*(u64 *)(r10 -{at}) = 0"));
                self.place(&top);
                self.emit(format!("r1 = *(u64 *)(r10 -{at})"));
                self.emit(format!("r2 = *(u64 *)(r10 -{})", at + 64));
                let mistake = self.mistake();
                self.emit(format!("if r1 {} r2 goto {out}", if mistake { "==" } else { ">=" }));
                self.emit("r1 += 1");
                self.emit(format!("*(u64 *)(r10 -{at}) = r1"));
                let count = self.choices.below(2);
                self.statements(count);
                self.emit(format!("goto {top}"));
            }
            form => {
                self.feature("loop");
                let up = form < 4;
                let width = self.choices.pick(&["r", "w"]);
                self.emit(format!("*(u64 *)(r10 -{at}) = {}", if up { 0 } else { times as i32 }));
                self.place(&top);
                self.emit("r0 = 0");
                let count = self.choices.below(3);
                self.statements(count);
                self.emit(format!("r1 = *(u64 *)(r10 -{at})"));
                self.emit(format!("{width}1 += {}", if up { 1 } else { -1 }));
                self.emit(format!("*(u64 *)(r10 -{at}) = r1"));
                let forever = self.choices.one_in(200);
                match (up, forever) {
                    (_, true) => self.emit(format!("if {width}1 != 1000000 goto {top}")),
                    (true, false) => self.emit(format!("if {width}1 < {times} goto {top}")),
                    (false, false) => self.emit(format!("if {width}1 != 0 goto {top}")),
                }
            }
        }
        self.place(&out);
        self.emit("r0 = 0");
        self.kept = kept;
        self.depth -= 1;
    }

    fn bits(&mut self) -> u32 {
        self.choices.pick(&[1, 3, 7, 15])
    }

    /// The body of a function, in a text of its own.
    fn function(&mut self, name: &str, start: &str, end: &str) {
        let outer = std::mem::take(&mut self.text);
        let (kept, depth) = (self.kept.take(), self.depth);
        self.level += 1;
        self.depth += 1;
        self.place(name);
        self.emit(start);
        self.numbers();
        let count = self.choices.below(3);
        self.statements(count);
        self.emit(end);
        let text = std::mem::replace(&mut self.text, outer);
        self.functions.push(text);
        (self.kept, self.depth) = (kept, depth);
        self.level -= 1;
    }

    /// A call of a function that is given an address.
    fn call(&mut self) {
        self.feature("function");
        let name = self.label();
        let (bytes, size) = self.choices.pick(&[(8, "u64"), (4, "u32"), (1, "u8")]);
        self.emit("r1 = r6");
        self.emit("r2 = r10");
        self.emit("r2 += -64");
        let reg = self.scratch();
        self.emit(format!("r3 = {reg}"));
        self.emit(format!("call {name}"));
        let result = self.scratch();
        self.emit(format!("{result} = r0"));
        let at = bytes * self.choices.below(64 / bytes);
        let at = if self.mistake() { 64 } else { at };
        let store = self.choices.pick(&["r3", "1", "0"]);
        let start = format!("r6 = r1\n*({size} *)(r2 +{at}) = {store}\nr9 = *({size} *)(r2 +{at})");
        let end = if self.mistake() { "r0 = r10\nexit" } else { "r0 = r9\nexit" };
        self.function(&name, &start, end);
    }

    /// `bpf_loop`
    fn callback(&mut self) {
        self.feature("callback");
        let name = self.label();
        let counts =
            ["r1 = 3".to_owned(), "r1 = 0".to_owned(), format!("r1 = {}", self.scratch()), "r1 = 100".to_owned()];
        let count = &counts[self.choices.below(4)];
        if count.contains("= r") {
            self.emit(count);
            self.emit("r1 &= 31");
        } else {
            self.emit(count);
        }
        self.emit(format!("r2 = subprog[{name}] ll"));
        let context = self.choices.below(4) != 0;
        if context {
            self.emit("r3 = r10");
            self.emit("r3 += -64");
        } else {
            self.emit("r3 = 0");
        }
        self.emit("r4 = 0");
        self.emit("call bpf_loop#181");
        let result = self.scratch();
        self.emit(format!("{result} = r0"));
        // There is no context in a callback, but that which it is given.
        let body = match self.choices.below(3) {
            _ if !context => "r9 = r1".to_owned(),
            0 => "r9 = *(u64 *)(r2 +8)\nr9 += r1\n*(u64 *)(r2 +8) = r9".to_owned(),
            1 => "r1 &= 7\nr1 <<= 3\nr2 += r1\n*(u64 *)(r2 +0) = r1".to_owned(),
            _ => format!("r9 = *(u32 *)(r2 +0)\nif r1 > 5 goto {name}x\n*(u8 *)(r2 +3) = r9\n{name}x: r8 = 0"),
        };
        let end = match self.choices.below(3) {
            _ if self.mistake() => "r0 = 2",
            0 => "r0 = 0",
            1 => "r0 = r7\nr0 &= 1",
            _ => "r0 = 1",
        };
        let mut text = format!("{name}: {body}\n");
        text += self.any_number();
        text += "\nr7 = r0\n";
        text += end;
        text += "\nexit\n";
        self.functions.push(text);
    }

    fn tail_call(&mut self) {
        self.feature("tail call");
        let reg = self.scratch();
        self.emit("r1 = r6");
        self.emit("r2 = map[idx:6] ll");
        let index = self.choices.pick(&["0", "1", "7"]).to_owned();
        let index = if self.choices.below(2) == 0 { reg } else { index };
        self.emit(format!("r3 = {index}"));
        self.emit("call bpf_tail_call#12");
    }
}
