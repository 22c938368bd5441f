//! Statements on addresses.

use super::world::{MAPS, VALUES};
use super::{Generator, Profile};

const SIZES: [(u64, &str); 4] = [(1, "u8"), (2, "u16"), (4, "u32"), (8, "u64")];

impl Generator<'_, '_> {
    /// Puts a number from 0 to `most`, a multiple of `align`, into a register, or goes to where [`place_skip`](Self::place_skip)
    /// is.
    pub(super) fn bounded(&mut self, to: &str, most: u64, align: u64) {
        let half = to.replace('r', "w");
        let skip = format!("s{}", self.labels + 1);
        let src = self.scratch();
        // Now and then one too many.
        let most = if self.mistake() { most + align } else { most };
        let rounded = most / align * align;
        let power = (most + 1).checked_ilog2().map_or(0, |bits| (1_u64 << bits) - 1);
        self.emit(format!("{to} = {src}"));
        // Of rests the kernel knows nothing.
        match self.choices.below(10) {
            form if form == 0 || (form == 1 && self.profile.is_kernel()) => {
                self.emit(format!("{to} &= {}", power & !(align - 1)))
            }
            1 => {
                self.emit(format!("{to} %= {}", rounded / align + 1));
                self.emit(format!("{to} *= {align}"));
            }
            2 => {
                self.emit(format!("if {to} > {most} goto {skip}"));
                self.emit(format!("{to} &= {}", -(align as i64)));
            }
            3 => {
                self.emit(format!("if {to} s< 0 goto {skip}"));
                self.emit(format!("if {to} s> {most} goto {skip}"));
                self.emit(format!("{to} &= {}", -(align as i64)));
            }
            4 => {
                self.emit(format!("{half} = {half}"));
                self.emit(format!("if {half} >= {} goto {skip}", most + 1));
                self.emit(format!("{to} &= {}", -(align as i64)));
            }
            5 => {
                // The copy is compared.
                self.emit(format!("r4 = {to}"));
                self.emit(format!("if r4 >= {} goto {skip}", most + 1));
                let number = self.choices.pick(&["r4", to]).to_owned();
                self.emit(format!("{to} = {number}"));
                self.emit(format!("{to} &= {}", -(align as i64)));
            }
            6 => {
                // What is spilled is compared.
                self.emit(format!("*(u64 *)(r10 -72) = {to}"));
                self.emit(format!("if {to} >= {} goto {skip}", most + 1));
                self.emit(format!("{to} = *(u64 *)(r10 -72)"));
                self.emit(format!("{to} &= {}", -(align as i64)));
            }
            7 => {
                let bits = (power + 1).ilog2();
                if bits == 0 {
                    self.emit(format!("{to} = 0"));
                } else {
                    let wide = self.choices.below(2) == 0;
                    let (reg, width) = if wide { (to.to_owned(), 64) } else { (half, 32) };
                    self.emit(format!("{reg} >>= {}", width - bits));
                    if !wide {
                        self.emit(format!("{reg} &= -1"));
                    }
                    self.emit(format!("{to} &= {}", -(align as i64)));
                }
            }
            8 => {
                self.emit(format!("{to} = (s8){to}"));
                self.emit(format!("if {to} s<= -1 goto {skip}"));
                self.emit(format!("if {half} > {most} goto {skip}"));
                self.emit(format!("{to} &= {}", -(align as i64)));
            }
            _ => {
                self.emit(format!("{to} &= {power}"));
                self.emit(format!("r4 = {power}"));
                self.emit(format!("r4 -= {to}"));
                self.emit(format!("{to} = r4"));
                self.emit(format!("{to} &= {}", -(align as i64)));
            }
        }
    }

    /// Where [`bounded`](Self::bounded) goes to.
    pub(super) fn place_skip(&mut self) {
        self.labels += 1;
        let label = format!("s{}", self.labels);
        self.place(&label);
        self.emit("r0 = 0");
    }

    /// Loads, stores and what else is done with `len` bytes behind an address in `base`, that may be read and written.
    fn touch(&mut self, base: &str, len: u64, atomics: bool, what: &'static str) {
        self.feature(what);
        let (bytes, name) = self.choices.pick(&SIZES);
        let (bytes, name) = if bytes > len { (1, "u8") } else { (bytes, name) };
        let reg = self.scratch();
        let last = (len - bytes) / bytes * bytes;
        let fixed = bytes * self.choices.below((last / bytes + 1) as usize) as u64;
        let fixed = if self.mistake() { self.choices.pick(&[len, last + bytes, last + 1]) } else { fixed };
        match self.choices.below(7) {
            0 => self.emit(format!("{reg} = *({name} *)({base} +{fixed})")),
            1 if bytes < 8 => self.emit(format!("{reg} = *({} *)({base} +{fixed})", name.replace('u', "s"))),
            2 => self.emit(format!("*({name} *)({base} +{fixed}) = {reg}")),
            3 => {
                let number = self.number();
                self.emit(format!("*({name} *)({base} +{fixed}) = {number}"));
            }
            4 if atomics && bytes >= 4 => {
                self.feature("atomic");
                let half = if bytes == 4 { reg.replace('r', "w") } else { reg.clone() };
                let form = self.choices.below(4);
                self.emit(match form {
                    0 => format!("lock *({name} *)({base} +{fixed}) += {half}"),
                    1 => {
                        let kind = if bytes == 4 { "" } else { "64" };
                        format!("{half} = atomic{kind}_fetch_or(({name} *)({base} +{fixed}), {half})")
                    }
                    2 if bytes == 4 => format!("{half} = xchg32_32({base} +{fixed}, {half})"),
                    2 => format!("{half} = xchg_64({base} +{fixed}, {half})"),
                    _ => format!("lock *({name} *)({base} +{fixed}) ^= {half}"),
                });
            }
            _ => {
                self.emit(format!("r5 = {base}"));
                self.bounded("r3", last, bytes);
                if self.mistake() {
                    self.emit(format!("r3 += {bytes}"));
                }
                self.emit("r5 += r3");
                if self.choices.below(2) == 0 {
                    self.emit(format!("{reg} = *({name} *)(r5 +0)"));
                } else {
                    self.emit(format!("*({name} *)(r5 +0) = {reg}"));
                }
                self.place_skip();
            }
        }
    }

    /// A key on the stack, and its address in `r2`.
    fn key(&mut self, map: usize) {
        let size = MAPS[map].0;
        let reg = self.scratch();
        if self.mistake() {
            self.emit("r2 = r10");
            self.emit("r2 += -400");
            return;
        }
        if size == 4 {
            self.emit(format!("r1 = {reg}"));
            self.emit("r1 &= 7");
            self.emit("*(u32 *)(r10 -88) = r1");
        } else {
            self.emit(format!("*(u64 *)(r10 -88) = {reg}"));
        }
        self.emit("r2 = r10");
        self.emit("r2 += -88");
    }

    /// A look-up, and what is done with the value.
    pub(super) fn value(&mut self) {
        let map = self.choices.pick(VALUES);
        let (_, len, _) = MAPS[map];
        self.key(map);
        self.emit(format!("r1 = map[idx:{map}] ll"));
        match self.choices.below(8) {
            0 => {
                self.feature("delete");
                self.emit("call bpf_map_delete_elem#3");
                return;
            }
            1 => {
                self.feature("update");
                self.emit("r3 = r10");
                let from = if self.mistake() { 40 } else { 64 };
                self.emit(format!("r3 += -{from}"));
                let flags = self.choices.pick(&["0", "1", "2", "7"]);
                self.emit(format!("r4 = {flags}"));
                self.emit("call bpf_map_update_elem#2");
                return;
            }
            _ => self.emit("call bpf_map_lookup_elem#1"),
        }
        let out = self.label();
        match self.choices.below(8) {
            _ if self.mistake() => {}
            0 => {
                let there = self.label();
                self.emit(format!("if r0 != 0 goto {there}"));
                self.emit(format!("goto {out}"));
                self.place(&there);
            }
            1 => {
                self.emit("r4 = r0");
                self.emit(format!("if r4 == 0 goto {out}"));
            }
            2 => {
                self.emit("*(u64 *)(r10 -96) = r0");
                self.emit(format!("if r0 == 0 goto {out}"));
                self.emit("r0 = *(u64 *)(r10 -96)");
                self.feature("spilled value");
            }
            // The kernel takes no other comparison than one with 0 itself.
            3 if !self.profile.is_kernel() => {
                self.emit("r4 = 0");
                self.emit(format!("if r4 == r0 goto {out}"));
            }
            _ => self.emit(format!("if r0 == 0 goto {out}")),
        }
        match self.choices.below(6) {
            0 => {
                // Through a number of rounds.
                let top = self.label();
                self.emit("r1 = 0");
                self.place(&top);
                self.emit("r2 = r0");
                self.emit("r2 += r1");
                let reg = self.scratch();
                self.emit(format!("*(u8 *)(r2 +0) = {reg}"));
                self.emit("r1 += 1");
                let len = if self.mistake() { len + 1 } else { len };
                self.emit(format!("if r1 < {len} goto {top}"));
                self.feature("loop over a value");
            }
            1 if self.has_comm() => {
                self.emit("r1 = r0");
                self.emit(format!("r2 = {}", len / 2));
                self.emit("call bpf_get_current_comm#16");
                self.feature("value written by a helper");
            }
            2 => {
                self.emit("*(u64 *)(r10 -80) = r0");
                self.kept = Some(map);
            }
            _ => {
                self.emit("r5 = r0");
                self.emit("r0 = r5");
                self.touch("r0", len, true, "value");
            }
        }
        if self.kept == Some(map) && self.depth > 0 {
            self.kept = None;
        }
        // Where it is missing there is nothing kept.
        if self.kept.is_some() {
            let end = self.label();
            self.emit(format!("goto {end}"));
            self.place(&out);
            self.emit("*(u64 *)(r10 -80) = 0");
            self.place(&end);
            self.emit("r0 = 0");
            self.kept = Some(map);
        } else {
            self.place(&out);
            self.emit("r0 = 0");
        }
    }

    /// Takes up a value that was kept.
    pub(super) fn keep(&mut self) {
        let Some(map) = self.kept else { return self.value() };
        self.feature("value kept");
        let out = self.label();
        self.emit("r0 = *(u64 *)(r10 -80)");
        self.emit(format!("if r0 == 0 goto {out}"));
        self.touch("r0", MAPS[map].1, true, "value");
        self.place(&out);
        self.emit("r0 = 0");
    }

    /// The address of a value in the program.
    pub(super) fn direct_value(&mut self) {
        match self.choices.below(3) {
            0 => {
                self.emit("r0 = map[idx:7][0]+8 ll");
                let reg = self.scratch();
                let at = self.choices.pick(&[0, 8, 16, 48]);
                self.emit(format!("{reg} = *(u64 *)(r0 +{at})"));
                if self.mistake() {
                    self.emit("*(u8 *)(r0 +0) = 1");
                }
                self.feature("constant");
            }
            _ => {
                self.emit("r0 = map[idx:0][0]+16 ll");
                self.touch("r0", 48, true, "direct value");
            }
        }
    }

    /// Compares `n` bytes behind what `start` leads to with `end`; goes to `out` where they are not there. Both registers stay, and
    /// `r4` is used.
    fn compare(&mut self, start: &str, end: &str, n: u64, out: &str) {
        self.emit(format!("r4 = {start}"));
        self.emit(format!("r4 += {n}"));
        // Of the first byte alone the kernel knows nothing.
        if self.mistake() && !self.profile.is_kernel() {
            self.emit(format!("r4 += -{n}"));
        }
        let inside = self.label();
        // Of a strict comparison one more is known.
        match self.choices.below(8) {
            0 => self.emit(format!("if r4 > {end} goto {out}")),
            1 => self.emit(format!("if {end} < r4 goto {out}")),
            2 => self.emit(format!("if r4 >= {end} goto {out}")),
            3 => self.emit(format!("if {end} <= r4 goto {out}")),
            form => {
                self.emit(match form {
                    4 => format!("if r4 <= {end} goto {inside}"),
                    5 => format!("if {end} >= r4 goto {inside}"),
                    6 => format!("if r4 < {end} goto {inside}"),
                    _ => format!("if {end} > r4 goto {inside}"),
                });
                self.emit(format!("goto {out}"));
                self.place(&inside);
                self.emit("r0 = 0");
            }
        }
    }

    /// An access of the packet.
    pub(super) fn packet(&mut self) {
        match self.profile {
            Profile::Own | Profile::Xdp => {}
            Profile::Socket => return self.legacy_load(),
            Profile::Tracepoint => return self.value(),
        }
        self.feature("packet");
        let out = self.label();
        let n = 1 + self.choices.below(40) as u64;
        let xdp = self.profile == Profile::Xdp;
        self.emit(if xdp { "r2 = *(u32 *)(r6 +0)" } else { "r2 = *(u64 *)(r6 +16)" });
        self.emit(if xdp { "r3 = *(u32 *)(r6 +4)" } else { "r3 = *(u64 *)(r6 +24)" });
        match self.choices.below(4) {
            0 => {
                // A part that is not known.
                let src = self.scratch();
                self.emit(format!("r5 = {src}"));
                let mask = self.choices.pick(&[15, 255, 0xfff, 0xffff]);
                let mask = if self.mistake() { 0x1ffff } else { mask };
                self.emit(format!("r5 &= {mask}"));
                self.emit("r2 += r5");
                self.feature("variable packet offset");
            }
            1 => {
                self.emit("*(u64 *)(r10 -104) = r2");
                self.compare("r2", "r3", n, &out);
                self.emit("r2 = *(u64 *)(r10 -104)");
                self.touch_once("r2", n);
                self.place(&out);
                self.emit("r0 = 0");
                return;
            }
            _ => {}
        }
        self.compare("r2", "r3", n, &out);
        self.touch_once("r2", n);
        if self.choices.below(3) == 0 {
            self.emit("r2 = r4");
            self.emit(format!("r2 += -{n}"));
            self.touch_once("r2", n);
        }
        self.place(&out);
        self.emit("r0 = 0");
    }

    /// One access at a place that is known.
    fn touch_once(&mut self, base: &str, len: u64) {
        let (bytes, name) = self.choices.pick(&SIZES);
        let (bytes, name) = if bytes > len { (1, "u8") } else { (bytes, name) };
        let at = (len - bytes) / bytes * bytes;
        let at = if self.mistake() { at + bytes } else { at };
        let at = if self.choices.below(2) == 0 { at } else { 0 };
        let reg = self.scratch();
        match self.choices.below(3) {
            0 => self.emit(format!("{reg} = *({name} *)({base} +{at})")),
            1 => self.emit(format!("*({name} *)({base} +{at}) = {reg}")),
            _ => self.emit(format!("*({name} *)({base} +{at}) = 7")),
        }
    }

    /// A writable buffer: reserved, filled and committed.
    pub(super) fn buffer(&mut self) {
        if self.profile.is_kernel() {
            return self.packet();
        }
        self.feature("buffer");
        let (id, at) = self.choices.pick(&[(32, 32), (48, 48)]);
        let size = 8 * (1 + self.choices.below(6));
        let out = self.label();
        self.emit("r1 = r6");
        self.emit(format!("r2 = {id}"));
        self.emit("r3 = map[idx:5] ll");
        self.emit(format!("r4 = {size}"));
        self.emit("call bpf_buffer_reserve");
        let commits = !self.mistake();
        match self.choices.below(6) {
            0 => self.emit(format!("if r0 != 0 goto {out}")),
            1 => self.emit(format!("if r0 s< 0 goto {out}")),
            2 => {
                self.emit("w1 = w0");
                self.emit(format!("if w1 != 0 goto {out}"));
            }
            3 => {
                self.emit("*(u64 *)(r10 -112) = r0");
                self.emit("r1 = *(u64 *)(r10 -112)");
                self.emit(format!("if r1 != 0 goto {out}"));
            }
            4 => {
                self.emit("r0 <<= 32");
                self.emit("r0 s>>= 32");
                self.emit(format!("if r0 s< 0 goto {out}"));
            }
            // Not looked at: the commit takes that too.
            _ => {}
        }
        let n = 1 + self.choices.below(size) as u64;
        let short = self.label();
        self.emit(format!("r2 = *(u64 *)(r6 +{at})"));
        self.emit(format!("r3 = *(u64 *)(r6 +{})", at + 8));
        self.compare("r2", "r3", n, &short);
        self.touch_once("r2", n);
        if self.choices.below(3) == 0 {
            let src = self.scratch();
            self.emit(format!("r5 = {src}"));
            self.emit("r5 &= 24");
            self.emit("r2 += r5");
            self.compare("r2", "r3", n, &short);
            self.touch_once("r2", n);
        }
        self.place(&short);
        self.emit("r0 = 0");
        if commits {
            self.emit("r1 = r6");
            self.emit(format!("r2 = {id}"));
            self.emit("r3 = map[idx:5] ll");
            self.emit("call bpf_buffer_commit");
            if self.mistake() {
                self.emit("r0 = *(u8 *)(r2 +0)");
            }
        }
        self.place(&out);
        self.emit("r0 = 0");
    }

    /// A record of a ring buffer.
    pub(super) fn record(&mut self) {
        let size = 8 * (1 + self.choices.below(8)) as u64;
        if self.choices.below(4) == 0 {
            self.feature("ringbuf_output");
            self.emit("r1 = map[idx:4] ll");
            self.emit("r2 = r10");
            self.emit("r2 += -64");
            let size = if self.mistake() { 72 } else { size };
            self.emit(format!("r3 = {size}"));
            self.emit("r4 = 0");
            self.emit("call bpf_ringbuf_output#130");
            return;
        }
        self.feature("record");
        let out = self.label();
        self.emit("r1 = map[idx:4] ll");
        self.emit(format!("r2 = {size}"));
        self.emit("r3 = 0");
        self.emit("call bpf_ringbuf_reserve#131");
        self.emit(format!("if r0 == 0 goto {out}"));
        self.emit("r1 = r0");
        self.touch("r1", size, false, "record");
        // The address is in the same place whichever way was taken there.
        let form = self.choices.below(10);
        self.emit("r0 = 0");
        match form {
            0 => self.emit("r1 += 8"),
            1 => {
                self.emit("*(u64 *)(r10 -120) = r1");
                self.emit("r1 = *(u64 *)(r10 -120)");
            }
            _ => {}
        }
        if form == 0 {
            self.emit("r1 += -8");
        }
        self.emit("r2 = 0");
        let end = self.choices.pick(&["call bpf_ringbuf_submit#132", "call bpf_ringbuf_discard#133"]);
        if !self.mistake() {
            self.emit(end);
        }
        if self.mistake() {
            self.emit("r0 = *(u64 *)(r1 +0)");
        }
        self.place(&out);
        self.emit("r0 = 0");
    }

    /// Other helpers.
    pub(super) fn helper(&mut self) {
        let form = self.choices.below(8);
        // What the kernel has for other types only, or not at all.
        let form = match form {
            3 if matches!(self.profile, Profile::Xdp | Profile::Socket) => 7,
            2 if !self.has_comm() => 7,
            5 if self.profile.is_kernel() => 7,
            form => form,
        };
        match form {
            0 => {
                self.feature("perf_event_output");
                self.emit("r1 = r6");
                self.emit("r2 = map[idx:5] ll");
                self.emit("r3 = 0xffffffff ll");
                self.emit("r4 = r10");
                self.emit("r4 += -64");
                let size = if self.mistake() { 80 } else { 8 * (1 + self.choices.below(8)) };
                self.emit(format!("r5 = {size}"));
                self.emit("call bpf_perf_event_output#25");
            }
            1 => {
                self.feature("memory of a size that is not known");
                self.bounded("r3", 64, 1);
                self.emit("r5 = r3");
                self.emit("r1 = r6");
                self.emit("r2 = map[idx:5] ll");
                self.emit("r3 = 0");
                self.emit("r4 = r10");
                self.emit("r4 += -64");
                self.emit("call bpf_perf_event_output#25");
                self.place_skip();
            }
            2 => {
                self.feature("memory written by a helper");
                let at = 8 * (1 + self.choices.below(8));
                let at = if self.mistake() { 8 * at } else { at };
                self.emit("r1 = r10");
                self.emit(format!("r1 += -{at}"));
                let size = 1 + self.choices.below(at);
                self.emit(format!("r2 = {size}"));
                self.emit("call bpf_get_current_comm#16");
                if at > 64 {
                    self.emit(format!("r7 = *(u64 *)(r10 -{at})"));
                }
            }
            3 => {
                self.feature("probe_read");
                self.emit("r1 = r10");
                self.emit("r1 += -64");
                self.bounded("r2", 64, 1);
                let src = self.scratch();
                self.emit(format!("r3 = {src}"));
                let id = self.choices.pick(&[
                    "bpf_probe_read_user#112",
                    "bpf_probe_read_kernel#113",
                    "bpf_probe_read_user_str#114",
                ]);
                self.emit(format!("call {id}"));
                self.place_skip();
            }
            4 => {
                self.feature("strncmp");
                self.emit("r1 = r10");
                self.emit("r1 += -64");
                let size = 1 + self.choices.below(64);
                self.emit(format!("r2 = {size}"));
                let map = if self.mistake() { 0 } else { 7 };
                self.emit(format!("r3 = map[idx:{map}][0]+0 ll"));
                self.emit("call bpf_strncmp#182");
            }
            5 => {
                self.feature("finalize_context");
                self.emit("r1 = r6");
                self.emit("r2 = map[idx:0] ll");
                self.emit("call bpf_finalize_context");
            }
            6 => {
                self.feature("ringbuf_query");
                self.emit("r1 = map[idx:4] ll");
                self.emit("r2 = 0");
                self.emit("call bpf_ringbuf_query#134");
            }
            _ => {
                self.feature("smp_processor_id");
                self.emit("call bpf_get_smp_processor_id#8");
            }
        }
        if form > 3 {
            let reg = self.scratch();
            self.emit(format!("{reg} = r0"));
        }
    }

    /// Loads and stores of the context.
    pub(super) fn context(&mut self) {
        self.feature("context");
        let reg = self.scratch();
        let (bytes, name) = self.choices.pick(&SIZES);
        match self.profile {
            Profile::Own => {}
            Profile::Xdp => {
                let at = self.choices.pick(&[12, 16]);
                let at = if self.mistake() { at + 9 } else { at };
                return self.emit(format!("{reg} = *(u32 *)(r6 +{at})"));
            }
            Profile::Socket => {
                // The words in the middle may be written.
                let at = 48 + 4 * self.choices.below(5);
                let at = if self.mistake() { self.choices.pick(&[at + 1, 68, 76, 192]) } else { at };
                let form = self.choices.below(3);
                return self.emit(match form {
                    0 => format!("*(u32 *)(r6 +{at}) = {reg}"),
                    1 => format!("{reg} = *({name} *)(r6 +{})", at / 8 * 8),
                    _ => format!("{reg} = *(u32 *)(r6 +{at})"),
                });
            }
            Profile::Tracepoint => {
                let at = 8 + bytes * self.choices.below(16 / bytes as usize) as u64;
                let at = if self.mistake() { self.choices.pick(&[0, 7, at + 1, 8190]) } else { at };
                let store = self.mistake();
                return self.emit(match store {
                    true => format!("*({name} *)(r6 +{at}) = {reg}"),
                    false => format!("{reg} = *({name} *)(r6 +{at})"),
                });
            }
        }
        match self.choices.below(3) {
            0 => {
                let at = self.choices.pick(&[64, 72]);
                let at = if self.mistake() { 60 } else { at };
                self.emit(format!("*(u64 *)(r6 +{at}) = {reg}"));
            }
            _ => {
                let at = bytes * self.choices.below(16 / bytes as usize) as u64;
                let at = if self.mistake() { at + 13 } else { at };
                self.emit(format!("{reg} = *({name} *)(r6 +{at})"));
            }
        }
    }

    /// Whether there is `bpf_get_current_comm`: the kernel has it for programs that trace.
    fn has_comm(&self) -> bool {
        matches!(self.profile, Profile::Own | Profile::Tracepoint)
    }

    /// A load from the packet that ends the function where there is nothing.
    fn legacy_load(&mut self) {
        self.feature("legacy load");
        let name = self.choices.pick(&["u8", "u16", "u32"]);
        let reg = self.scratch();
        let at = self.choices.pick(&["0", "14", "-4096", &reg]).to_owned();
        self.emit(format!("r0 = *({name} *)skb[{at}]"));
        if self.mistake() {
            self.emit(format!("{reg} = r1"));
        }
        self.emit(format!("{reg} = r0"));
    }
}
