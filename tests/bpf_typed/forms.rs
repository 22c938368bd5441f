//! Statements on addresses that functions are given, that ways bring together, and that lie in slots.

use super::Generator;
use super::world::{MAPS, VALUES};

const EVERY: [(u64, &str); 4] = [(1, "u8"), (2, "u16"), (4, "u32"), (8, "u64")];

impl Generator<'_, '_> {
    pub(super) fn form(&mut self) {
        match self.choices.below(14) {
            0..=1 => self.given_value(),
            2 => self.given_slot(),
            3 => self.returned_value(),
            4 => self.given_packet(),
            5..=6 => self.ordered(),
            7 => self.partly_overwritten(),
            8 => self.either(),
            9 => self.steps(),
            10 => self.given_record(),
            11 => self.returned_record(),
            12 => self.packet_over_a_call(),
            _ => self.value_of_a_callback(),
        }
    }

    /// A look-up; goes to `out` where nothing is found, unless `test` is not set.
    fn look_up(&mut self, map: usize, out: Option<&str>) {
        let reg = self.scratch();
        self.emit("r1 = 0");
        self.emit("*(u64 *)(r10 -88) = r1");
        self.emit(format!("*(u8 *)(r10 -88) = {reg}"));
        self.emit("r2 = r10");
        self.emit("r2 += -88");
        self.emit(format!("r1 = map[idx:{map}] ll"));
        self.emit("call bpf_map_lookup_elem#1");
        if let Some(out) = out.filter(|_| !self.mistake()) {
            self.emit(format!("if r0 == 0 goto {out}"));
        }
    }

    /// A function of a few lines, in which nothing is kept; its text has `@` for its name.
    fn small_function(&mut self, text: &str) -> String {
        self.feature("function");
        let name = self.label();
        let text = text.replace('@', &name);
        self.functions.push(format!("{name}: r0 = 0\n{text}\nr0 = 0\nexit\n"));
        name
    }

    /// The end of a statement that goes to `out`.
    fn out(&mut self, out: &str) {
        self.place(out);
        self.emit("r0 = 0");
    }

    /// A function writes what it is given the address of, which it tests, or its caller does.
    fn given_value(&mut self) {
        self.feature("value in a function");
        let map = self.choices.pick(VALUES);
        let (bytes, name) = self.choices.pick(&EVERY);
        let out = self.label();
        let tests = self.choices.below(3) == 0;
        self.look_up(map, (!tests).then_some(&*out));
        self.emit("r1 = r0");
        let reg = self.scratch();
        self.emit(format!("r2 = {reg}"));
        let last = MAPS[map].1 / bytes - u64::from(!self.mistake());
        let test = if tests && !self.mistake() { "if r1 == 0 goto @x\n" } else { "" };
        let access = match self.choices.below(4) {
            0 => format!("*({name} *)(r1 +{}) = r2", bytes * last),
            1 => {
                let shift = bytes.ilog2();
                format!("if r2 > {last} goto @x\nr2 <<= {shift}\nr1 += r2\nr0 = *({name} *)(r1 +0)")
            }
            2 => {
                // Where the lower half is small, the rest may be anything.
                let whole = if self.mistake() { "r2 = r2" } else { "w2 = w2" };
                format!("if w2 > {last} goto @x\n{whole}\nr2 *= {bytes}\nr1 += r2\n*({name} *)(r1 +0) = 5")
            }
            _ => {
                let inner = self.small_function(&format!("{test}*({name} *)(r1 +{}) = 1\n@x: r0 = r2", bytes * last));
                format!("r6 = r1\ncall {inner}\nif r6 == 0 goto @x\n*({name} *)(r6 +0) = r0")
            }
        };
        let function = self.small_function(&format!("{test}{access}\n@x: r0 = 1"));
        self.emit(format!("call {function}"));
        self.out(&out);
    }

    /// A function is given the address of a slot with the address of a value, and tests what lies there.
    fn given_slot(&mut self) {
        self.feature("spilled value in a function");
        let map = self.choices.pick(VALUES);
        self.look_up(map, None);
        self.emit("*(u64 *)(r10 -128) = r0");
        self.emit("r1 = r10");
        self.emit("r1 += -128");
        let last = MAPS[map].1 - u64::from(!self.mistake());
        let again = self.choices.below(2) == 0;
        let load = if again { "r2 = *(u64 *)(r1 +0)\n" } else { "" };
        let test = if self.mistake() { "r0 = 3" } else { "if r2 == 0 goto @x" };
        let body = format!("r2 = *(u64 *)(r1 +0)\n{test}\n{load}*(u8 *)(r2 +{last}) = 9\n@x: r0 = 0");
        let function = self.small_function(&body);
        self.emit(format!("call {function}"));
        let out = self.label();
        self.emit("r1 = *(u64 *)(r10 -128)");
        self.emit(format!("if r1 == 0 goto {out}"));
        let reg = self.scratch();
        self.emit(format!("{reg} = *(u8 *)(r1 +{last})"));
        self.out(&out);
    }

    /// A function looks a value up and returns it.
    fn returned_value(&mut self) {
        self.feature("value returned");
        let map = self.choices.pick(VALUES);
        let out = self.label();
        let name = self.label();
        let size = if MAPS[map].0 == 4 { "u32" } else { "u64" };
        let text = format!(
            "{name}: *({size} *)(r10 -8) = 1\nr2 = r10\nr2 += -8\nr1 = map[idx:{map}] ll\ncall bpf_map_lookup_elem#1\nexit\n"
        );
        self.functions.push(text);
        self.emit(format!("call {name}"));
        if !self.mistake() {
            self.emit(format!("if r0 == 0 goto {out}"));
        }
        let reg = self.scratch();
        let at = self.choices.pick(&[0, 8, 16]);
        self.emit(format!("*(u64 *)(r0 +{at}) = {reg}"));
        self.out(&out);
    }

    /// Puts the packet and its end into these registers.
    fn load_packet(&mut self, start: &str, end: &str) {
        let (size, at) = if self.profile.is_kernel() { ("u32", [0, 4]) } else { ("u64", [16, 24]) };
        self.emit(format!("{start} = *({size} *)(r6 +{})", at[0]));
        self.emit(format!("{end} = *({size} *)(r6 +{})", at[1]));
    }

    /// A function that looks where the packet ends, or is told of one that is long enough.
    fn given_packet(&mut self) {
        self.feature("packet in a function");
        let n = 1 + self.choices.below(30);
        let out = self.label();
        self.load_packet("r1", "r2");
        let at = if self.mistake() { n } else { n - 1 };
        let access = self.choices.pick(&["r0 = *(u8 *)(r1 +", "*(u8 *)(r1 +"]);
        let access = if access.starts_with('*') { format!("{access}{at}) = 3") } else { format!("{access}{at})") };
        let form = self.choices.below(3);
        let body = match form {
            0 => format!("r3 = r1\nr3 += {n}\nif r3 > r2 goto @x\n{access}\n@x: r0 = 0"),
            1 => access,
            // Of what a function has found its caller knows.
            _ => format!("{access}\nr2 = 0"),
        };
        if form != 0 {
            self.emit("r3 = r1");
            self.emit(format!("r3 += {n}"));
            if !self.mistake() {
                self.emit(format!("if r3 > r2 goto {out}"));
            }
        }
        let function = self.small_function(&body);
        self.emit(format!("call {function}"));
        self.out(&out);
    }

    /// Atomic operations of all kinds, on slots and values, aligned or not.
    fn ordered(&mut self) {
        let out = self.label();
        let len = if self.choices.below(2) == 0 {
            let map = self.choices.pick(VALUES);
            self.look_up(map, Some(&out));
            self.emit("r1 = r0");
            MAPS[map].1
        } else {
            self.emit("r1 = r10");
            self.emit("r1 += -64");
            64
        };
        let (bytes, name) = self.choices.pick(&EVERY);
        let at = bytes * self.choices.below((len / bytes) as usize) as u64;
        let at = if self.mistake() { self.choices.pick(&[at + 1, at + bytes / 2, len]) } else { at };
        let reg = self.scratch();
        let form = self.choices.below(6);
        match form {
            0 => {
                self.feature("load-acquire");
                self.emit(format!("{reg} = load_acquire(({name} *)(r1 +{at}))"));
            }
            1 => {
                self.feature("store-release");
                self.emit(format!("store_release(({name} *)(r1 +{at}), {reg})"));
            }
            2..=3 => {
                self.feature("compare and exchange");
                let at = at / 8 * 8 + at % 2;
                self.emit(format!("r0 = {reg}"));
                self.emit(match form {
                    2 => format!("r0 = atomic64_cmpxchg((u64 *)(r1 +{at}), r0, {reg})"),
                    _ => format!("r0 = atomic_cmpxchg((u32 *)(r1 +{at}), r0, {})", reg.replace('r', "w")),
                });
                self.emit(format!("{reg} = r0"));
            }
            _ => {
                self.feature("fetch");
                let at = at / 8 * 8;
                let op = self.choices.pick(&["add", "and", "or", "xor"]);
                self.emit(format!("{reg} = atomic64_fetch_{op}((u64 *)(r1 +{at}), {reg})"));
            }
        }
        self.out(&out);
    }

    /// A slot is filled, written in part, and taken up.
    fn partly_overwritten(&mut self) {
        self.feature("slot written in part");
        let reg = self.scratch();
        let most = self.choices.pick(&[7, 31, 63]);
        self.emit(format!("r3 = {reg}"));
        self.emit(format!("r3 &= {most}"));
        self.emit("*(u64 *)(r10 -128) = r3");
        let at = self.choices.below(8);
        match self.choices.below(4) {
            // As it was.
            0 => self.emit("r3 = *(u64 *)(r10 -128)"),
            // The lower half, of which as much is known.
            1 => self.emit("r3 = *(u32 *)(r10 -128)"),
            form => {
                let value = self.choices.pick(&["0", "1", "r3"]);
                let value = if form == 2 { value.to_owned() } else { self.scratch() };
                self.emit(format!("*(u8 *)(r10 {}) = {value}", at as i32 - 128));
                let size = self.choices.pick(&["u64", "u32", "u8"]);
                self.emit(format!("r3 = *({size} *)(r10 -128)"));
                if !self.mistake() {
                    self.emit(format!("r3 &= {most}"));
                }
            }
        }
        self.emit("r2 = r10");
        self.emit("r2 += -64");
        self.emit("r2 += r3");
        self.emit(format!("{reg} = *(u8 *)(r2 +0)"));
    }

    /// One access of a slot or of a value, as it was found or not.
    fn either(&mut self) {
        self.feature("slot or value");
        let map = self.choices.pick(VALUES);
        let (there, out) = (self.label(), self.label());
        self.look_up(map, None);
        self.emit("r2 = r10");
        self.emit("r2 += -64");
        self.emit(format!("if r0 == 0 goto {there}"));
        self.emit("r2 = r0");
        if self.mistake() {
            self.emit("r2 += 24");
        }
        self.place(&there);
        let (bytes, name) = self.choices.pick(&EVERY);
        let at = bytes * self.choices.below((24 / bytes) as usize) as u64;
        let reg = self.scratch();
        match self.choices.below(3) {
            0 => self.emit(format!("{reg} = *({name} *)(r2 +{at})")),
            1 => self.emit(format!("*({name} *)(r2 +{at}) = {reg}")),
            _ => {
                self.emit(format!("r3 = {reg}"));
                self.emit(format!("if r3 >= 24 goto {out}"));
                self.emit("r2 += r3");
                self.emit(format!("*(u8 *)(r2 +0) = {reg}"));
            }
        }
        self.out(&out);
    }

    /// An address that goes forth and back, each step bounded in another way.
    fn steps(&mut self) {
        self.feature("address in steps");
        let map = self.choices.pick(VALUES);
        let len = MAPS[map].1;
        let out = self.label();
        self.look_up(map, Some(&out));
        let (a, b) = (self.scratch(), self.scratch());
        self.emit(format!("r1 = {a}"));
        self.emit(format!("r2 = {b}"));
        // The kernel takes no number that may be below zero, whatever is added.
        let form = self.choices.below(5);
        match if self.profile.is_kernel() && matches!(form, 1 | 4) { 0 } else { form } {
            0 => {
                self.emit("r1 &= 7");
                self.emit("r2 &= 15");
                self.emit("r0 += r1");
                self.emit("r0 += r2");
                let at = if self.mistake() { len - 22 } else { len - 23 };
                self.emit(format!("*(u8 *)(r0 +{at}) = 1"));
            }
            1 => {
                // Back from the end.
                self.emit(format!("r0 += {}", len - 1));
                self.emit("r1 &= 15");
                self.emit("r0 -= r1");
                let at = if self.mistake() { len as i64 - 23 } else { -((len as i64 - 16).min(8)) };
                self.emit(format!("r1 = *(u8 *)(r0 {at:+})"));
            }
            2 => {
                // The lesser of two.
                let less = self.label();
                self.emit("r1 &= 15");
                self.emit(format!("if r2 < r1 goto {less}"));
                self.emit("r2 = r1");
                self.place(&less);
                self.emit("r0 += r2");
                let at = if self.mistake() { len - 8 } else { len - 16 };
                self.emit(format!("*(u8 *)(r0 +{at}) = r2"));
            }
            3 => {
                // No bit but these.
                let mask = if self.mistake() { 0x7fff_ffe0_u32 } else { 0x7fff_fff0 };
                self.emit("r1 &= 0x7fffffff");
                self.emit(format!("if r1 & {mask} goto {out}"));
                self.emit("r0 += r1");
                self.emit(format!("*(u8 *)(r0 +{}) = r2", len - 16));
            }
            _ => {
                // Signed, from below zero.
                self.emit("r0 += 16");
                self.emit(format!("if r1 s< -16 goto {out}"));
                let most = if self.mistake() { 8 } else { 7 };
                self.emit(format!("if r1 s> {most} goto {out}"));
                self.emit("r0 += r1");
                self.emit(format!("*(u8 *)(r0 +{}) = r2", len as i64 - 24));
            }
        }
        self.out(&out);
    }

    /// A record that a function gives away.
    fn given_record(&mut self) {
        self.feature("record in a function");
        let out = self.label();
        self.emit("r1 = map[idx:4] ll");
        self.emit("r2 = 24");
        self.emit("r3 = 0");
        self.emit("call bpf_ringbuf_reserve#131");
        self.emit(format!("if r0 == 0 goto {out}"));
        self.emit("*(u64 *)(r10 -128) = r0");
        self.emit("r1 = r0");
        let at = if self.mistake() { 17 } else { 16 };
        let end = self.choices.pick(&["bpf_ringbuf_submit#132", "bpf_ringbuf_discard#133"]);
        let function = self.small_function(&format!("*(u64 *)(r1 +{at}) = 1\nr2 = 0\ncall {end}"));
        self.emit(format!("call {function}"));
        if self.mistake() {
            self.emit("r1 = *(u64 *)(r10 -128)");
            self.emit("r0 = *(u64 *)(r1 +0)");
        }
        self.emit("*(u64 *)(r10 -128) = 0");
        self.out(&out);
    }

    /// A record that a function asks for.
    fn returned_record(&mut self) {
        self.feature("record returned");
        let (out, name) = (self.label(), self.label());
        self.functions
            .push(format!("{name}: r1 = map[idx:4] ll\nr2 = 16\nr3 = 0\ncall bpf_ringbuf_reserve#131\nexit\n"));
        self.emit(format!("call {name}"));
        self.emit(format!("if r0 == 0 goto {out}"));
        let reg = self.scratch();
        let at = if self.mistake() { 16 } else { 8 };
        self.emit(format!("*(u64 *)(r0 +{at}) = {reg}"));
        self.emit("r1 = r0");
        self.emit("r2 = 1");
        self.emit("call bpf_ringbuf_submit#132");
        self.out(&out);
    }

    /// What is known of a packet stays known where a helper leaves the context alone.
    fn packet_over_a_call(&mut self) {
        self.feature("packet over a call");
        let out = self.label();
        self.load_packet("r8", "r9");
        self.emit("r2 = r8");
        let n = 1 + self.choices.below(20);
        self.emit(format!("r2 += {n}"));
        self.emit(format!("if r2 > r9 goto {out}"));
        match self.choices.below(6) {
            0 if !self.profile.is_kernel() => {
                self.emit("r1 = r6");
                self.emit("r2 = map[idx:0] ll");
                self.emit("call bpf_finalize_context");
            }
            1..=2 => {
                self.emit("*(u64 *)(r10 -128) = r8");
                self.emit("call bpf_get_smp_processor_id#8");
                self.emit("r8 = *(u64 *)(r10 -128)");
            }
            _ => self.emit("call bpf_get_smp_processor_id#8"),
        }
        let at = if self.mistake() { n } else { n - 1 };
        self.emit(format!("*(u8 *)(r8 +{at}) = r7"));
        self.place(&out);
        self.emit("r8 = r7");
        self.emit("r9 = 5");
    }

    /// A callback that is given a slot with the address of a value.
    fn value_of_a_callback(&mut self) {
        if self.profile.is_kernel() {
            return self.given_value();
        }
        self.feature("value in a callback");
        let map = self.choices.pick(VALUES);
        let (out, name) = (self.label(), self.label());
        self.look_up(map, Some(&out));
        self.emit("*(u64 *)(r10 -128) = r0");
        let rounds = self.scratch();
        self.emit(format!("r1 = {rounds}"));
        self.emit("r1 &= 63");
        self.emit(format!("r2 = subprog[{name}] ll"));
        self.emit("r3 = r10");
        self.emit("r3 += -128");
        self.emit("r4 = 0");
        self.emit("call bpf_loop#181");
        let reg = self.scratch();
        let last = MAPS[map].1 - u64::from(!self.mistake());
        self.emit("r1 = *(u64 *)(r10 -128)");
        self.emit(format!("{reg} = *(u8 *)(r1 +{last})"));
        self.out(&out);
        let body = match self.choices.below(3) {
            0 => format!("r3 = *(u64 *)(r2 +0)\n*(u8 *)(r3 +{last}) = r1"),
            1 => format!("if r1 > {last} goto {name}x\nr3 = *(u64 *)(r2 +0)\nr3 += r1\n*(u8 *)(r3 +0) = r1"),
            _ => "r3 = *(u64 *)(r2 +0)\nr1 &= 15\nr3 += r1\nr4 = *(u8 *)(r3 +0)".to_owned(),
        };
        self.functions.push(format!("{name}: {body}\n{name}x: r0 = 0\nexit\n"));
    }
}
