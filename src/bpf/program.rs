//! Programs: instructions that were checked, bound to a type, to maps and to helpers, and made ready to run.

use super::helper::{Helper, HelperId, Helpers};
use super::insn::{Code as Checked, CodeError, CodeOptions, Imm64, Insn, Op};
use super::map::{Map, MapType};
use super::program_type::ProgramType;
use super::proof::{Facts, Proof};
use super::vm::{self, Inst};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// Licences that go with the GPL, as the kernel has them.
const GPL_COMPATIBLE: &[&str] =
    &["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];

/// Why a program was not loaded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{program}{at}: {kind}", at = self.place())]
#[non_exhaustive]
pub struct LoadError {
    /// The program.
    pub program: String,
    /// The slot of the instruction, if it is about one.
    pub insn: Option<usize>,
    /// The line of C that it came from, where that is known.
    pub line: Option<String>,
    /// What is wrong.
    #[source]
    pub kind: Box<LoadErrorKind>,
}

impl LoadError {
    fn place(&self) -> String {
        match (self.insn, &self.line) {
            // Which instruction it is the kind says itself.
            (_, None) if matches!(*self.kind, LoadErrorKind::Code(_)) => String::new(),
            (_, Some(line)) if matches!(*self.kind, LoadErrorKind::Code(_)) => format!(" ({line})"),
            (None, _) => String::new(),
            (Some(insn), None) => format!(": instruction {insn}"),
            (Some(insn), Some(line)) => format!(": instruction {insn} ({line})"),
        }
    }
}

/// What is wrong with a program.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// An instruction, or where a jump leads.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// There is no such helper.
    #[error("helper {id} is unknown")]
    UnknownHelper {
        /// Its number.
        id: HelperId,
    },
    /// Programs of this type have no such helper.
    #[error("programs of type {type_} may not call {name}#{id}")]
    HelperOfType {
        /// Its number.
        id: HelperId,
        /// Its name.
        name: String,
        /// The program's type.
        type_: String,
    },
    /// The helper is for other licences.
    #[error("{name}#{id} is for programs with a licence that goes with the GPL, and this one's is {license:?}")]
    License {
        /// Its number.
        id: HelperId,
        /// Its name.
        name: String,
        /// The program's licence.
        license: String,
    },
    /// A call of a function of the kernel.
    #[error("call of the platform's function with the BTF id {id}: there are none")]
    Kfunc {
        /// Its BTF id.
        id: i32,
    },
    /// The address of a variable of the kernel.
    #[error("address of the platform's variable with the BTF id {id}: there are none")]
    Variable {
        /// Its BTF id.
        id: i32,
    },
    /// A map that was not given.
    #[error("map {index} of {maps}")]
    NoMap {
        /// Its index in the program's list.
        index: i64,
        /// How many there are.
        maps: usize,
    },
    /// [`ProgramBuilder::map_at`] of a slot in which no 64-bit immediate starts.
    #[error("no 64-bit immediate, which the map {map} was given for")]
    MapPlace {
        /// The map's name.
        map: String,
    },
    /// A map by a file descriptor.
    #[error("the map with the file descriptor {fd}, which means nothing here")]
    MapFd {
        /// File descriptor.
        fd: i32,
    },
    /// The address of a value in a map that has no such addresses, or behind its first value.
    #[error("address of byte {offset} of the first value of {map}, which has {size}")]
    MapValue {
        /// The map's name.
        map: String,
        /// Bytes.
        offset: u32,
        /// Bytes in its first value; 0 where it has none that stays.
        size: usize,
    },
    /// [`ProgramBuilder::unresolved`] of a slot in which no instruction starts.
    #[error("no instruction, of which was said: {reason}")]
    UnresolvedPlace {
        /// What was said.
        reason: String,
    },
    /// More maps than a program may have.
    #[error("{maps} maps, of which there may be {most}")]
    Maps {
        /// How many.
        maps: usize,
        /// The most.
        most: usize,
    },
    /// A tail call to a type that does not take it.
    #[error("tail calls through {map}: programs of type {owner} are not called from those of type {type_}")]
    Cast {
        /// The program array.
        map: String,
        /// The type of its programs.
        owner: String,
        /// The type of this program.
        type_: String,
    },
    /// A legacy access to packets.
    #[error("legacy access to packets, which programs of type {type_} may not use")]
    Packet {
        /// The program's type.
        type_: String,
    },
}

/// The C line that an instruction came from.
type Line = Arc<dyn Fn(usize) -> Option<String> + Send + Sync>;

/// Makes a [`Program`].
pub struct ProgramBuilder<'a> {
    name: String,
    type_: &'a ProgramType,
    helpers: Helpers,
    maps: Vec<Map>,
    at: Vec<(usize, Map)>,
    unresolved: BTreeMap<usize, String>,
    license: String,
    callx: bool,
    line: Option<Line>,
}

impl fmt::Debug for ProgramBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramBuilder").field("name", &self.name).field("type", &self.type_).finish_non_exhaustive()
    }
}

/// The opcode of 64-bit immediates.
const LDDW: u8 = 0x18;
/// `r10`, as instructions have it.
const FRAME: u8 = 10;
/// The most maps of a program.
const MAX_MAPS: usize = 1 << 16;

impl<'a> ProgramBuilder<'a> {
    /// The maps, by the indices that the instructions have.
    #[must_use]
    pub fn maps(mut self, maps: impl IntoIterator<Item = Map>) -> Self {
        self.maps = maps.into_iter().collect();
        self
    }

    /// The map that the 64-bit immediate in slot `insn` means, whatever number stands there. It comes behind those of
    /// [`maps`](Self::maps).
    #[must_use]
    pub fn map_at(mut self, insn: usize, map: &Map) -> Self {
        self.at.push((insn, map.clone()));
        self
    }

    /// The instruction in slot `insn` needs what is not there, for this reason: the verifier refuses the program if it can be
    /// reached, and the interpreter stops it there.
    #[must_use]
    pub fn unresolved(mut self, insn: usize, reason: impl Into<String>) -> Self {
        self.unresolved.insert(insn, reason.into());
        self
    }

    /// The helpers that there are. Without this those of [`Helpers::standard`].
    #[must_use]
    pub fn helpers(mut self, helpers: &Helpers) -> Self {
        self.helpers = helpers.clone();
        self
    }

    /// The licence.
    #[must_use]
    pub fn license(mut self, license: &str) -> Self {
        self.license = license.to_owned();
        self
    }

    /// Whether calls of what a register holds are allowed: of a function, by its address, or of a helper, by its number.
    #[must_use]
    pub fn callx(mut self, callx: bool) -> Self {
        self.callx = callx;
        self
    }

    /// What names the C line of an instruction, for messages.
    #[must_use]
    pub fn lines(mut self, line: impl Fn(usize) -> Option<String> + Send + Sync + 'static) -> Self {
        self.line = Some(Arc::new(line));
        self
    }

    fn error(&self, insn: Option<usize>, kind: LoadErrorKind) -> LoadError {
        let line = insn.and_then(|insn| self.line.as_ref().and_then(|line| line(insn)));
        LoadError { program: self.name.clone(), insn, line, kind: Box::new(kind) }
    }

    /// Checks the instructions, and binds them.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn load(mut self, mut insns: Vec<Insn>) -> Result<Program, LoadError> {
        for (at, map) in std::mem::take(&mut self.at) {
            let Some(insn) = insns.get_mut(at).filter(|insn| insn.opcode == LDDW) else {
                return Err(self.error(Some(at), LoadErrorKind::MapPlace { map: map.def().name.clone() }));
            };
            insn.imm = self.maps.len() as i32;
            insn.src = if insn.src == 2 || insn.src == 6 { 6 } else { 5 };
            self.maps.push(map);
        }
        if self.maps.len() > MAX_MAPS {
            return Err(self.error(None, LoadErrorKind::Maps { maps: self.maps.len(), most: MAX_MAPS }));
        }
        let checked = Checked::new(insns, CodeOptions { callx: self.callx })
            .map_err(|error| self.error(error.insn(), LoadErrorKind::Code(error)))?;
        for map in &self.maps {
            if let Some(owner) = map.owner()
                && !owner.is_valid_tail_call(self.type_)
            {
                let kind = LoadErrorKind::Cast {
                    map: map.def().name.clone(),
                    owner: owner.name().to_owned(),
                    type_: self.type_.name().to_owned(),
                };
                return Err(self.error(None, kind));
            }
        }
        let mut helpers: Vec<Arc<Helper>> = Vec::new();
        let mut insts = vec![Inst::new(vm::Code::Unreachable); checked.len()];
        for (at, op) in checked.iter() {
            insts[at] = match self.unresolved.contains_key(&at) {
                true => Inst::new(vm::Code::Unresolved),
                false => self.inst(op, &mut helpers).map_err(|kind| self.error(Some(at), kind))?,
            };
        }
        if let Some((at, reason)) = self.unresolved.iter().find(|(at, _)| checked.op(**at).is_none()) {
            return Err(self.error(Some(*at), LoadErrorKind::UnresolvedPlace { reason: reason.clone() }));
        }
        Ok(Program(Arc::new(Text {
            name: std::mem::take(&mut self.name),
            type_: self.type_.clone(),
            called: helpers.into(),
            gpl: self.is_gpl(),
            helpers: self.helpers,
            clears_frames: clears_frames(&checked, &insts),
            proof: None,
            fewest_cpus: (0..self.maps.len())
                .filter(|at| self.maps[*at].def().type_.is_percpu())
                .min_by_key(|at| self.maps[*at].cpus()),
            maps: self.maps.iter().map(Map::for_program).collect(),
            checked: checked.into(),
            insts: insts.into(),
            unresolved: self.unresolved.into(),
            line: self.line,
        })))
    }

    fn is_gpl(&self) -> bool {
        GPL_COMPATIBLE.contains(&self.license.as_str())
    }

    fn helper(&self, id: HelperId) -> Result<&Arc<Helper>, LoadErrorKind> {
        let helper = self.helpers.get(id).ok_or(LoadErrorKind::UnknownHelper { id })?;
        let name = || helper.prototype.name.clone().into_owned();
        if !self.type_.has_helper(id) {
            return Err(LoadErrorKind::HelperOfType { id, name: name(), type_: self.type_.name().to_owned() });
        }
        if helper.prototype.gpl_only && !self.is_gpl() {
            return Err(LoadErrorKind::License { id, name: name(), license: self.license.clone() });
        }
        Ok(helper)
    }

    fn map(&self, index: i32) -> Result<&Map, LoadErrorKind> {
        let no_map = LoadErrorKind::NoMap { index: i64::from(index), maps: self.maps.len() };
        usize::try_from(index).ok().and_then(|index| self.maps.get(index)).ok_or(no_map)
    }

    fn imm64(&self, imm: Imm64) -> Result<u64, LoadErrorKind> {
        match imm {
            Imm64::Value(value) => Ok(value),
            Imm64::MapIndex(index) => self.map(index).map(|_| vm::map_handle(index as u32)),
            Imm64::MapIndexValue { index, offset } => {
                let map = self.map(index)?;
                let value = (map.def().type_ == MapType::Array).then(|| map.values()).flatten();
                let size = value.map_or(0, |_| map.def().value_size as usize);
                match value {
                    Some(value) if (offset as usize) < size => Ok(value.address(0, 0) + u64::from(offset)),
                    _ => Err(LoadErrorKind::MapValue { map: map.def().name.clone(), offset, size }),
                }
            }
            Imm64::MapFd(fd) | Imm64::MapFdValue { fd, .. } => Err(LoadErrorKind::MapFd { fd }),
            Imm64::Variable { id, .. } => Err(LoadErrorKind::Variable { id }),
            // Relative to the instruction behind: made absolute by whoever knows where it stands.
            Imm64::Function(offset) => Ok(i64::from(offset) as u64),
        }
    }

    fn inst(&self, op: &Op, helpers: &mut Vec<Arc<Helper>>) -> Result<Inst, LoadErrorKind> {
        use super::insn::Callee;
        let mut call = |helper: &Arc<Helper>| {
            let index = helpers.iter().position(|known| known.id == helper.id).unwrap_or_else(|| {
                helpers.push(helper.clone());
                helpers.len() - 1
            });
            let code = if helper.is_tail_call() { vm::Code::TailCall } else { vm::Code::CallHelper };
            Inst { imm: index as u64, ..Inst::new(code) }
        };
        match op {
            Op::Call(Callee::Helper(id)) => self.helper(HelperId(*id)).map(&mut call),
            Op::Call(Callee::Kfunc { id, .. }) => Err(LoadErrorKind::Kfunc { id: *id }),
            Op::LoadPacket { .. } if !self.type_.has_legacy_packet() => {
                Err(LoadErrorKind::Packet { type_: self.type_.name().to_owned() })
            }
            Op::LoadImm64 { dst, imm } => {
                let code =
                    if matches!(imm, Imm64::Function(_)) { vm::Code::FunctionAddress } else { vm::Code::LoadImm64 };
                Ok(Inst { imm: self.imm64(*imm)?, dst: dst.number(), ..Inst::new(code) })
            }
            op => Ok(vm::inst(op)),
        }
    }
}

/// A program that can be run. Cheap to clone.
#[derive(Clone)]
pub struct Program(pub(crate) Arc<Text>);

/// What a program is made of.
#[derive(Clone)]
pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) type_: ProgramType,
    /// One for each slot.
    pub(crate) insts: Arc<[Inst]>,
    /// The helpers that are called, by the immediates of the calls.
    pub(crate) called: Box<[Arc<Helper>]>,
    /// All that there are, for calls of what a register holds.
    pub(crate) helpers: Helpers,
    /// Whether the licence goes with the GPL.
    gpl: bool,
    pub(crate) maps: Box<[Map]>,
    pub(crate) checked: Arc<Checked>,
    /// Whether a frame is made zero, as it may hold what another program left.
    pub(crate) clears_frames: bool,
    /// The map for the fewest CPUs of those that have a value for each, by its index.
    fewest_cpus: Option<usize>,
    /// By slot: what instructions need that is not there.
    unresolved: Arc<BTreeMap<usize, String>>,
    line: Option<Line>,
    /// What the verifier proved of it, if it did.
    pub(crate) proof: Option<Proof>,
}

/// Whether anything can come by what is in the program's frames before it is stored: by an instruction that names the frame, or in
/// a program that a function of this one tail-calls, which has its callers' frames above its own.
fn clears_frames(checked: &Checked, insts: &[Inst]) -> bool {
    let main = checked.functions().get(1).copied().unwrap_or(insts.len());
    let names_frame = checked.insns().iter().any(|insn| insn.dst == FRAME || insn.src == FRAME);
    names_frame || insts[main..].iter().any(|inst| inst.code == vm::Code::TailCall)
}

impl Text {
    /// The helper of this number, for a call of what a register holds; none where the program may not call it, or only where it
    /// is named.
    pub(crate) fn helper(&self, id: HelperId) -> Option<&Helper> {
        let helper = self.helpers.get(id)?;
        let allowed = self.type_.has_helper(id) && (self.gpl || !helper.prototype.gpl_only) && !helper.is_tail_call();
        allowed.then_some(&**helper)
    }

    /// A per-CPU map that has values for fewer than so many CPUs.
    pub(crate) fn lacks_cpus(&self, cpus: usize) -> Option<&Map> {
        self.fewest_cpus.map(|at| &self.maps[at]).filter(|map| map.cpus() < cpus)
    }

    /// What the instruction in a slot needs that is not there.
    pub(crate) fn unresolved(&self, insn: usize) -> Option<&str> {
        self.unresolved.get(&insn).map(String::as_str)
    }

    pub(crate) fn line(&self, insn: usize) -> Option<String> {
        self.line.as_ref().and_then(|line| line(insn))
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("name", &self.0.name)
            .field("type", &self.0.type_)
            .field("insns", &self.0.insts.len())
            .finish_non_exhaustive()
    }
}

impl Program {
    /// A program of this type.
    pub fn builder<'a>(name: &str, type_: &'a ProgramType) -> ProgramBuilder<'a> {
        ProgramBuilder {
            name: name.to_owned(),
            type_,
            helpers: Helpers::standard().clone(),
            maps: Vec::new(),
            at: Vec::new(),
            unresolved: BTreeMap::new(),
            license: String::new(),
            callx: false,
            line: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its type.
    pub fn type_(&self) -> &ProgramType {
        &self.0.type_
    }

    /// Its instructions.
    pub fn code(&self) -> &Checked {
        &self.0.checked
    }

    /// Its maps.
    pub fn maps(&self) -> &[Map] {
        &self.0.maps
    }

    /// Whether the verifier proved that it does only what it may: it runs without tests then.
    pub fn is_verified(&self) -> bool {
        self.0.proof.is_some()
    }

    /// Whether it may look at the first `bytes` of its context, itself or by a tail call: so it is unless the opposite was proved.
    #[cfg_attr(not(all(feature = "dtrace", feature = "kernel")), allow(dead_code))]
    pub(crate) fn may_read_context_below(&self, bytes: u64) -> bool {
        let proved = self.0.proof.as_ref().is_some_and(|proof| proof.context_from.is_none_or(|from| from >= bytes));
        !proved || self.maps().iter().any(|map| map.owner().is_some())
    }

    /// The same program, verified.
    ///
    /// # Safety
    /// The facts are what the verifier found of this very program when it accepted it: then all holds that [`vm`] asks of a
    /// verified program.
    #[expect(unsafe_code, reason = "what the facts say is trusted when the program runs")]
    pub(crate) unsafe fn with_proof(&self, facts: &Facts) -> Self {
        let proof = Some(Proof::new(&self.0, facts));
        Self(Arc::new(Text { proof, ..Text::clone(&self.0) }))
    }
}
