//! Which part of an attribute the kernel does not accept.

use std::fmt;
use std::mem::offset_of;

use perf_event_open_sys::bindings::{self, perf_event_attr};

use crate::kernel::builder::aux_action_bit;
use crate::kernel::{BranchSampleType, ReadFormat, SampleType};

/// What the kernel did not accept, found by asking it again with less.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Diagnosis {
    /// A rule of perf_event_open(2) is broken.
    Rule(&'static str),
    /// Without any one of these it would be accepted: flags and fields by their names in
    /// `perf_event_attr`, bits of masks as in `sample_type RAW`.
    AnyOf(Vec<String>),
    /// Without all of these together it would be accepted.
    AllOf(Vec<String>),
    /// The event is accepted alone, but not in this group.
    Group,
    /// Asked again, the kernel accepts it.
    Accepted,
    /// Even without any options it is not accepted: `type`, `config` or the target is at fault.
    Source,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => f.write_str(rule),
            Self::AnyOf(one) if one.len() == 1 => write!(f, "it would be accepted without {}", one[0]),
            Self::AnyOf(any) => write!(f, "it would be accepted without any one of {}", any.join(", ")),
            Self::AllOf(all) => write!(f, "it would be accepted without {} together", all.join(", ")),
            Self::Group => f.write_str(
                "it would be accepted alone, but not in this group, whose events share the target, and only the leader may be pinned or exclusive",
            ),
            Self::Accepted => f.write_str("asked again, the kernel accepts it"),
            Self::Source => f.write_str("its type, config or target itself is refused, with no option set"),
        }
    }
}

/// What can be taken out of an attribute.
#[derive(Clone, Copy)]
enum Part {
    Field(&'static str, fn(&perf_event_attr) -> u64, fn(&mut perf_event_attr)),
    Bit(Mask, u64),
}

/// A word of bits that are parts each by itself.
#[derive(Clone, Copy)]
enum Mask {
    SampleType,
    ReadFormat,
    BranchSampleType,
    SampleRegsUser,
    SampleRegsIntr,
    AuxAction,
}

impl Mask {
    const ALL: [Self; 6] = [
        Self::SampleType,
        Self::ReadFormat,
        Self::BranchSampleType,
        Self::SampleRegsUser,
        Self::SampleRegsIntr,
        Self::AuxAction,
    ];

    fn get(self, attr: &perf_event_attr) -> u64 {
        match self {
            Self::SampleType => attr.sample_type,
            Self::ReadFormat => attr.read_format,
            Self::BranchSampleType => attr.branch_sample_type,
            Self::SampleRegsUser => attr.sample_regs_user,
            Self::SampleRegsIntr => attr.sample_regs_intr,
            Self::AuxAction => attr.aux_action.into(),
        }
    }

    fn clear(self, attr: &mut perf_event_attr, bit: u64) {
        match self {
            Self::SampleType => attr.sample_type &= !bit,
            Self::ReadFormat => attr.read_format &= !bit,
            Self::BranchSampleType => attr.branch_sample_type &= !bit,
            Self::SampleRegsUser => attr.sample_regs_user &= !bit,
            Self::SampleRegsIntr => attr.sample_regs_intr &= !bit,
            Self::AuxAction => attr.aux_action &= !(bit as u32),
        }
    }

    fn name(self, bit: u64) -> String {
        let (field, name) = match self {
            Self::SampleType => ("sample_type", first_name(&SampleType::from_bits_retain(bit))),
            Self::ReadFormat => ("read_format", first_name(&ReadFormat::from_bits_retain(bit))),
            Self::BranchSampleType => ("branch_sample_type", first_name(&BranchSampleType::from_bits_retain(bit))),
            Self::SampleRegsUser => ("sample_regs_user", None),
            Self::SampleRegsIntr => ("sample_regs_intr", None),
            Self::AuxAction => {
                for (place, name) in AUX_ACTIONS.into_iter().enumerate() {
                    if bit == u64::from(aux_action_bit(place as u32)) {
                        return name.to_owned();
                    }
                }
                ("aux_action", None)
            }
        };
        match name {
            Some(name) => format!("{field} {name}"),
            None => format!("{field} bit {}", bit.trailing_zeros()),
        }
    }
}

const AUX_ACTIONS: [&str; 3] = ["aux_start_paused", "aux_pause", "aux_resume"];

fn first_name<F: bitflags::Flags>(flags: &F) -> Option<&'static str> {
    flags.iter_names().next().map(|(name, _)| name)
}

impl Part {
    fn clear(self, attr: &mut perf_event_attr) {
        match self {
            Self::Field(.., clear) => clear(attr),
            Self::Bit(mask, bit) => mask.clear(attr, bit),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Field(name, ..) => name.to_owned(),
            Self::Bit(mask, bit) => mask.name(bit),
        }
    }
}

macro_rules! bits {
    ($($get:ident $set:ident),+ $(,)?) => {
        [$(Part::Field(stringify!($get), |attr| attr.$get().into(), |attr| attr.$set(0))),+]
    };
}

macro_rules! fields {
    ($($name:ident),+ $(,)?) => {
        [$(Part::Field(stringify!($name), |attr| attr.$name as u64, |attr| attr.$name = 0)),+]
    };
}

/// The parts that are set. `disabled` is not: the experiments set it.
fn parts(attr: &perf_event_attr) -> Vec<Part> {
    let bits = bits![
        inherit set_inherit, pinned set_pinned, exclusive set_exclusive, exclude_user set_exclude_user,
        exclude_kernel set_exclude_kernel, exclude_hv set_exclude_hv, exclude_idle set_exclude_idle,
        mmap set_mmap, comm set_comm, freq set_freq, inherit_stat set_inherit_stat,
        enable_on_exec set_enable_on_exec, task set_task, watermark set_watermark,
        precise_ip set_precise_ip, mmap_data set_mmap_data, sample_id_all set_sample_id_all,
        exclude_host set_exclude_host, exclude_guest set_exclude_guest,
        exclude_callchain_kernel set_exclude_callchain_kernel,
        exclude_callchain_user set_exclude_callchain_user, mmap2 set_mmap2, comm_exec set_comm_exec,
        use_clockid set_use_clockid, context_switch set_context_switch,
        write_backward set_write_backward, namespaces set_namespaces, ksymbol set_ksymbol,
        bpf_event set_bpf_event, aux_output set_aux_output, cgroup set_cgroup,
        text_poke set_text_poke, build_id set_build_id, inherit_thread set_inherit_thread,
        remove_on_exec set_remove_on_exec, sigtrap set_sigtrap,
        defer_callchain set_defer_callchain, defer_output set_defer_output,
        __reserved_1 set___reserved_1,
    ];
    let fields = fields![
        sample_period,
        sample_stack_user,
        aux_watermark,
        sample_max_stack,
        __reserved_2,
        aux_sample_size,
        sig_data,
        config3,
        config4,
    ];
    let set = bits.into_iter().chain(fields).filter(|part| matches!(part, Part::Field(_, get, _) if get(attr) != 0));
    let masks = Mask::ALL.into_iter().flat_map(|mask| {
        let word = mask.get(attr);
        (0..64).map(|bit| 1 << bit).filter(move |bit| word & bit != 0).map(move |bit| Part::Bit(mask, bit))
    });
    set.chain(masks).collect()
}

/// Finds out what is wrong; `accepts` asks the kernel. The experiments never count or sample: they are `disabled`, and
/// what switches them on at an exec is left out where it can be.
pub(super) fn diagnose(attr: &perf_event_attr, mut accepts: impl FnMut(&perf_event_attr) -> bool) -> Diagnosis {
    if let Some(rule) = broken_rule(attr) {
        return Diagnosis::Rule(rule);
    }
    let mut attr = *attr;
    attr.set_disabled(1);
    let parts = parts(&attr);
    let mut without = |cleared: &mut dyn Iterator<Item = Part>| {
        let mut attr = attr;
        cleared.for_each(|part| part.clear(&mut attr));
        accepts(&attr)
    };
    if without(&mut std::iter::empty()) {
        return Diagnosis::Accepted;
    }
    let any: Vec<_> =
        parts.iter().filter(|part| without(&mut std::iter::once(**part))).map(|part| part.name()).collect();
    if !any.is_empty() {
        return Diagnosis::AnyOf(any);
    }
    if !without(&mut parts.iter().copied()) {
        return Diagnosis::Source;
    }
    // Put back one after the other whatever does not matter.
    let mut needless = vec![true; parts.len()];
    for at in 0..parts.len() {
        needless[at] = false;
        let mut cleared = parts.iter().zip(&needless).filter(|(_, out)| **out).map(|(part, _)| *part);
        if !without(&mut cleared) {
            needless[at] = true;
        }
    }
    Diagnosis::AllOf(parts.iter().zip(needless).filter(|(_, out)| *out).map(|(part, _)| part.name()).collect())
}

/// The names of the fields that are set, wholly or partly, beyond the first `known` bytes.
pub(super) fn fields_beyond(attr: &perf_event_attr, known: u32) -> Vec<&'static str> {
    macro_rules! ends {
        ($($name:ident $get:expr),+ $(,)?) => {
            [$((
                stringify!($name),
                offset_of!(perf_event_attr, $name) + size_of_val(&attr.$name),
                u64::from($get) != 0,
            )),+]
        };
    }
    // Two that are in unions: their ends are where the next field starts.
    let unions = [
        ("config2", offset_of!(perf_event_attr, branch_sample_type), attr.config2 != 0),
        ("aux_action", offset_of!(perf_event_attr, sig_data), attr.aux_action != 0),
    ];
    let fields = ends![
        branch_sample_type attr.branch_sample_type,
        sample_regs_user attr.sample_regs_user,
        sample_stack_user attr.sample_stack_user,
        clockid attr.clockid != 0,
        sample_regs_intr attr.sample_regs_intr,
        aux_watermark attr.aux_watermark,
        sample_max_stack attr.sample_max_stack,
        aux_sample_size attr.aux_sample_size,
        sig_data attr.sig_data,
        config3 attr.config3,
        config4 attr.config4,
    ];
    unions
        .into_iter()
        .chain(fields)
        .filter(|(_, end, set)| *set && *end > known as usize)
        .map(|(name, ..)| name)
        .collect()
}

/// What the kernel refuses whatever the event is.
fn broken_rule(attr: &perf_event_attr) -> Option<&'static str> {
    let sample = SampleType::from_bits_retain(attr.sample_type);
    let branch = BranchSampleType::from_bits_retain(attr.branch_sample_type);
    let levels = BranchSampleType::USER | BranchSampleType::KERNEL | BranchSampleType::HV;
    let rules = [
        (attr.freq() == 0 && attr.sample_period >> 63 != 0, "sample_period must be below 2^63"),
        (
            sample.contains(SampleType::STACK_USER)
                && (!attr.sample_stack_user.is_multiple_of(8) || attr.sample_stack_user >= u32::from(u16::MAX)),
            "sample_stack_user must be a multiple of 8 and less than 65535",
        ),
        (
            sample.contains(SampleType::WEIGHT | SampleType::WEIGHT_STRUCT),
            "sample_type WEIGHT and WEIGHT_STRUCT exclude each other",
        ),
        (
            sample.contains(SampleType::BRANCH_STACK) && branch.difference(levels).is_empty(),
            "sample_type BRANCH_STACK needs a branch_sample_type that says which branches, such as ANY",
        ),
        (attr.inherit_thread() == 1 && attr.inherit() == 0, "inherit_thread needs inherit"),
        (
            attr.remove_on_exec() == 1 && attr.enable_on_exec() == 1,
            "remove_on_exec and enable_on_exec exclude each other",
        ),
        (attr.sigtrap() == 1 && attr.remove_on_exec() == 0, "sigtrap needs remove_on_exec"),
        (attr.type_ == bindings::PERF_TYPE_BREAKPOINT && attr.bp_type == 0, "a breakpoint needs a bp_type: R, W, X"),
        (
            attr.type_ == bindings::PERF_TYPE_BREAKPOINT && !matches!(attr.bp_len, 1..=8),
            "bp_len must be from 1 to 8: most CPUs take 1, 2, 4 and 8",
        ),
        (
            attr.type_ == bindings::PERF_TYPE_BREAKPOINT
                && cfg!(any(target_arch = "x86", target_arch = "x86_64"))
                && !attr.bp_len.is_power_of_two(),
            "bp_len must be 1, 2, 4 or 8 on this CPU",
        ),
        (
            attr.type_ == bindings::PERF_TYPE_BREAKPOINT
                && cfg!(any(target_arch = "x86", target_arch = "x86_64"))
                && attr.bp_len.is_power_of_two()
                && !attr.bp_addr.is_multiple_of(attr.bp_len),
            "bp_addr must be a multiple of bp_len",
        ),
        (
            attr.type_ == bindings::PERF_TYPE_BREAKPOINT
                && cfg!(any(target_arch = "x86", target_arch = "x86_64"))
                && attr.bp_type == bindings::HW_BREAKPOINT_R,
            "bp_type R: this CPU cannot tell loads from stores, ask for RW",
        ),
        (
            attr.type_ == bindings::PERF_TYPE_BREAKPOINT
                && attr.bp_type & bindings::HW_BREAKPOINT_X != 0
                && attr.bp_len != size_of::<libc::c_long>() as u64,
            "bp_len of a breakpoint on execution must be the size of a long",
        ),
    ];
    rules.into_iter().find(|(broken, _)| *broken).map(|(_, rule)| rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Access, EventBuilder, Software};

    fn builder() -> EventBuilder {
        EventBuilder::software(Software::Dummy)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_unknown_bit_is_found() {
        let attr = *builder().sample_type(SampleType::from_bits_retain(1 << 40 | 3)).comm(true).attr();
        let found = diagnose(&attr, |attr| attr.sample_type >> 40 == 0);
        assert_eq!(found, Diagnosis::AnyOf(names(&["sample_type bit 40"])));
        let attr = *builder().read_format(ReadFormat::LOST | ReadFormat::ID).attr();
        let found = diagnose(&attr, |attr| attr.disabled() == 1 && attr.read_format & 16 == 0);
        assert_eq!(found, Diagnosis::AnyOf(names(&["read_format LOST"])));
        assert_eq!(found.to_string(), "it would be accepted without read_format LOST");
    }

    #[test]
    fn either_of_a_pair_and_both_of_two() {
        let attr = *builder().pinned(true).inherit(true).comm(true).sample_type(SampleType::IP).attr();
        let pair = diagnose(&attr, |attr| attr.pinned() == 0 || attr.inherit() == 0);
        assert_eq!(pair, Diagnosis::AnyOf(names(&["inherit", "pinned"])));
        let both = diagnose(&attr, |attr| attr.pinned() == 0 && attr.sample_type == 0);
        assert_eq!(both, Diagnosis::AllOf(names(&["pinned", "sample_type IP"])));
        assert_eq!(diagnose(&attr, |_| false), Diagnosis::Source);
    }

    #[test]
    fn every_bit_of_the_attribute_is_a_part() {
        let mut attr = *builder().attr();
        for set in [0, 1] {
            attr.set___reserved_1(set);
            assert_eq!(parts(&attr).len() as u64, set);
        }
        let attr = *builder().sample_freq(5).wakeup_watermark(1).aux_pause(true).precise_ip(2).attr();
        let found: Vec<_> = parts(&attr).into_iter().map(Part::name).collect();
        assert_eq!(found, ["freq", "watermark", "precise_ip", "sample_period", "aux_pause"]);
    }

    #[test]
    fn fields_that_an_old_kernel_does_not_know() {
        let attr = *builder().config3(1).config4(2).sig_data(3).attr();
        assert_eq!(fields_beyond(&attr, 136), ["config4"]);
        assert_eq!(fields_beyond(&attr, 120), ["sig_data", "config3", "config4"]);
        assert_eq!(fields_beyond(&attr, 132), ["config3", "config4"]);
        assert_eq!(fields_beyond(&attr, 144), [""; 0]);
        assert_eq!(fields_beyond(builder().config2(1).attr(), 64), ["config2"]);
    }

    #[test]
    fn rules() {
        let rule = |builder: EventBuilder| match diagnose(builder.attr(), |_| panic!("a rule needs no experiment")) {
            Diagnosis::Rule(rule) => rule,
            other => panic!("{other}"),
        };
        assert!(rule(builder().sample_period(1 << 63)).contains("sample_period"));
        assert!(rule(builder().sample_type(SampleType::STACK_USER).sample_stack_user(12)).contains("multiple of 8"));
        assert!(rule(builder().sample_type(SampleType::WEIGHT | SampleType::WEIGHT_STRUCT)).contains("WEIGHT_STRUCT"));
        assert!(rule(builder().sample_type(SampleType::BRANCH_STACK)).contains("branch_sample_type"));
        assert!(rule(builder().inherit_thread(true)).contains("inherit"));
        assert!(rule(builder().remove_on_exec(true).enable_on_exec(true)).contains("exclude each other"));
        assert!(rule(builder().sigtrap(true)).contains("remove_on_exec"));
        assert!(rule(EventBuilder::breakpoint(8, 8, Access::empty())).contains("bp_type"));
        assert!(rule(EventBuilder::breakpoint(8, 9, Access::W)).contains("bp_len"));
    }
}
