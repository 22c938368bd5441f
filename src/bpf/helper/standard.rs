//! The helpers of this crate: what they do, and their prototypes.

use super::call::{errno, status};
use super::printk;
use super::table::{Body, Helper};
use super::{Arg, Call, HelperId, MapTypes, Prototype, Returns};
use crate::bpf::environment::ProbeRead;
use crate::bpf::map::{MapType, OpenRecord, UpdateFlags};
use crate::bpf::memory;
use crate::bpf::vm::{Execution, INDEX_MASK};
use libc::{E2BIG, EFAULT, EINVAL, ENOENT, ENOSPC};

/// `BPF_F_CTXLEN_MASK`
const CTXLEN_MASK: u64 = 0xf_ffff << 32;
/// The most bytes that are read at once by their address.
const CHUNK: usize = 256;

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = Helper> {
    use Arg::{
        AllocSize, Any, ConstStr, Constant, Context, Function, Key, Memory, Record, Scalar, Size, SizeOrZero,
        StackOrNull, UninitMemory, Value,
    };
    type Builtin = fn(&mut Call<'_, '_>) -> u64;
    let helper = |id, body, prototype| Helper::new(id, prototype, body);
    let builtin = move |id, body: Builtin, name: &'static str, args: &[Arg]| {
        helper(id, Body::Builtin(body), Prototype::new(name, args))
    };
    let data = Arg::Map(MapTypes::DATA);
    let events = Arg::Map(MapTypes::PERF_EVENT_ARRAY);
    let ringbuf = Arg::Map(MapTypes::RINGBUF);
    let with = |of: Helper, change: fn(Prototype) -> Prototype| helper(of.id, of.body, change(of.prototype));
    let gpl = |helper| with(helper, Prototype::gpl_only);
    let probe = [UninitMemory, SizeOrZero, Any];
    let ctx_update = |helper| with(helper, Prototype::ctx_update);
    [
        with(builtin(HelperId::MAP_LOOKUP_ELEM, map_lookup_elem, "bpf_map_lookup_elem", &[data, Key]), |prototype| {
            prototype.returns(Returns::ValueOrNull)
        }),
        builtin(HelperId::MAP_UPDATE_ELEM, map_update_elem, "bpf_map_update_elem", &[data, Key, Value, Scalar]),
        builtin(HelperId::MAP_DELETE_ELEM, map_delete_elem, "bpf_map_delete_elem", &[data, Key]),
        gpl(builtin(HelperId::PROBE_READ, probe_read_kernel, "bpf_probe_read", &probe)),
        builtin(HelperId::KTIME_GET_NS, ktime_get_ns, "bpf_ktime_get_ns", &[]),
        // How many more there are the text says, and so not the prototype, as in the kernel.
        gpl(builtin(HelperId::TRACE_PRINTK, trace_printk, "bpf_trace_printk", &[Memory, Size])),
        builtin(HelperId::GET_PRANDOM_U32, get_prandom_u32, "bpf_get_prandom_u32", &[]),
        builtin(HelperId::GET_SMP_PROCESSOR_ID, get_smp_processor_id, "bpf_get_smp_processor_id", &[]),
        helper(
            HelperId::TAIL_CALL,
            Body::TailCall,
            Prototype::new("bpf_tail_call", &[Context, Arg::Map(MapTypes::PROG_ARRAY), Scalar]),
        ),
        builtin(HelperId::GET_CURRENT_PID_TGID, get_current_pid_tgid, "bpf_get_current_pid_tgid", &[]),
        builtin(HelperId::GET_CURRENT_UID_GID, get_current_uid_gid, "bpf_get_current_uid_gid", &[]),
        builtin(HelperId::GET_CURRENT_COMM, get_current_comm, "bpf_get_current_comm", &[UninitMemory, Size]),
        gpl(builtin(
            HelperId::PERF_EVENT_OUTPUT,
            perf_event_output,
            "bpf_perf_event_output",
            &[Context, events, Scalar, Memory, SizeOrZero],
        )),
        builtin(HelperId::SKB_LOAD_BYTES, skb_load_bytes, "bpf_skb_load_bytes", &[Context, Scalar, UninitMemory, Size]),
        gpl(builtin(HelperId::PROBE_READ_STR, probe_read_kernel_str, "bpf_probe_read_str", &probe)),
        gpl(builtin(HelperId::PROBE_READ_USER, probe_read_user, "bpf_probe_read_user", &probe)),
        gpl(builtin(HelperId::PROBE_READ_KERNEL, probe_read_kernel, "bpf_probe_read_kernel", &probe)),
        gpl(builtin(HelperId::PROBE_READ_USER_STR, probe_read_user_str, "bpf_probe_read_user_str", &probe)),
        gpl(builtin(HelperId::PROBE_READ_KERNEL_STR, probe_read_kernel_str, "bpf_probe_read_kernel_str", &probe)),
        gpl(builtin(HelperId::GET_STACK, get_stack, "bpf_get_stack", &[Context, UninitMemory, SizeOrZero, Scalar])),
        builtin(HelperId::KTIME_GET_BOOT_NS, ktime_get_boot_ns, "bpf_ktime_get_boot_ns", &[]),
        builtin(HelperId::RINGBUF_OUTPUT, ringbuf_output, "bpf_ringbuf_output", &[ringbuf, Memory, SizeOrZero, Scalar]),
        with(
            builtin(HelperId::RINGBUF_RESERVE, ringbuf_reserve, "bpf_ringbuf_reserve", &[ringbuf, AllocSize, Scalar]),
            |prototype| prototype.returns(Returns::RecordOrNull),
        ),
        builtin(HelperId::RINGBUF_SUBMIT, ringbuf_submit, "bpf_ringbuf_submit", &[Record, Scalar]),
        builtin(HelperId::RINGBUF_DISCARD, ringbuf_discard, "bpf_ringbuf_discard", &[Record, Scalar]),
        builtin(HelperId::RINGBUF_QUERY, ringbuf_query, "bpf_ringbuf_query", &[ringbuf, Scalar]),
        helper(HelperId::LOOP, Body::Loop, Prototype::new("bpf_loop", &[Scalar, Function, StackOrNull, Scalar])),
        builtin(HelperId::STRNCMP, strncmp, "bpf_strncmp", &[Memory, Size, ConstStr]),
        ctx_update(builtin(
            HelperId::FINALIZE_CONTEXT,
            finalize_context,
            "bpf_finalize_context",
            &[Context, Arg::Map(MapTypes::all())],
        )),
        ctx_update(builtin(
            HelperId::BUFFER_RESERVE,
            buffer_reserve,
            "bpf_buffer_reserve",
            &[Context, Constant, events, Scalar],
        )),
        ctx_update(builtin(HelperId::BUFFER_COMMIT, buffer_commit, "bpf_buffer_commit", &[Context, Constant, events])),
    ]
    .into_iter()
}

fn map_lookup_elem(call: &mut Call<'_, '_>) -> u64 {
    call.lookup(0, 1).unwrap_or(0)
}

fn map_update_elem(call: &mut Call<'_, '_>) -> u64 {
    let (Some(map), Some(value)) = (call.map(0), call.readable(2)) else { return errno(EINVAL) };
    let Ok(flags) = UpdateFlags::try_from(call.arg(3)) else { return errno(EINVAL) };
    let (cpu, guard) = (call.cpu() as usize, call.execution.guard());
    let result = call.with_key(1, |key| map.update_from(key, cpu, value, flags, guard));
    status(result.unwrap_or(Ok(())).map_err(|error| error.errno()))
}

fn map_delete_elem(call: &mut Call<'_, '_>) -> u64 {
    let Some(map) = call.map(0) else { return errno(EINVAL) };
    let guard = call.execution.guard();
    let result = call.with_key(1, |key| map.delete_from(key, guard));
    status(result.unwrap_or(Ok(())).map_err(|error| error.errno()))
}

fn ktime_get_ns(call: &mut Call<'_, '_>) -> u64 {
    call.execution.environment.ktime_get_ns()
}

fn ktime_get_boot_ns(call: &mut Call<'_, '_>) -> u64 {
    call.execution.environment.ktime_get_boot_ns()
}

/// xorshift64*: not for secrets, as the kernel's is not.
fn get_prandom_u32(call: &mut Call<'_, '_>) -> u64 {
    let state = &call.execution.cpu.random;
    let mut value = state.get();
    value ^= value >> 12;
    value ^= value << 25;
    value ^= value >> 27;
    state.set(value);
    value.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
}

fn get_smp_processor_id(call: &mut Call<'_, '_>) -> u64 {
    u64::from(call.cpu())
}

fn get_current_pid_tgid(call: &mut Call<'_, '_>) -> u64 {
    call.execution.environment.pid_tgid()
}

fn get_current_uid_gid(call: &mut Call<'_, '_>) -> u64 {
    call.execution.environment.uid_gid()
}

fn get_current_comm(call: &mut Call<'_, '_>) -> u64 {
    let mut comm = call.execution.environment.comm();
    let size = call.size(0).unwrap_or(0);
    if size == 0 {
        return errno(EINVAL);
    }
    // Cut off, it still ends with a 0.
    if let Some(last) = comm.get_mut(size - 1) {
        *last = 0;
    }
    call.write(0, &comm);
    0
}

fn trace_printk(call: &mut Call<'_, '_>) -> u64 {
    let Some(format) = call.readable(0) else { return errno(EINVAL) };
    let args = [call.arg(2), call.arg(3), call.arg(4)];
    match printk::format(format, args, call.execution.environment) {
        Ok(line) => {
            if let Some(trace) = &call.execution.shared.trace {
                trace(line.as_str());
            }
            line.len() as u64
        }
        Err(error) => errno(error),
    }
}

/// Copies memory by its address into what the first argument leads to; what could not be read is 0.
fn probe_read(call: &mut Call<'_, '_>, user: bool) -> u64 {
    let (size, address) = (call.size(0).unwrap_or(0), call.arg(2));
    let mut bytes = [0; CHUNK];
    let mut at = 0;
    while at < size {
        let part = &mut bytes[..CHUNK.min(size - at)];
        let read = ProbeRead { address: address.wrapping_add(at as u64), size: part.len(), user };
        if call.execution.environment.probe_read(read, part) < part.len() {
            call.write(0, &[]);
            return errno(EFAULT);
        }
        call.store(0, at, part);
        at += part.len();
    }
    0
}

fn probe_read_user(call: &mut Call<'_, '_>) -> u64 {
    probe_read(call, true)
}

fn probe_read_kernel(call: &mut Call<'_, '_>) -> u64 {
    probe_read(call, false)
}

/// Copies text by its address up to its 0; gives the bytes that were stored, the 0 included.
fn probe_read_str(call: &mut Call<'_, '_>, user: bool) -> u64 {
    let (size, address) = (call.size(0).unwrap_or(0), call.arg(2));
    let mut bytes = [0; CHUNK];
    let mut at = 0;
    while at < size {
        let part = &mut bytes[..CHUNK.min(size - at)];
        let read = ProbeRead { address: address.wrapping_add(at as u64), size: part.len(), user };
        let count = call.execution.environment.probe_read(read, part).min(part.len());
        let end = part[..count].iter().position(|byte| *byte == 0);
        if end.is_none() && count < part.len() {
            call.write(0, &[]);
            return errno(EFAULT);
        }
        let stored = end.unwrap_or(count);
        call.store(0, at, &part[..stored]);
        at += stored;
        if end.is_some() {
            break;
        }
    }
    if size == 0 {
        return 0;
    }
    // The last byte is for the 0.
    let at = at.min(size - 1);
    call.store(0, at, &[0]);
    at as u64 + 1
}

fn probe_read_user_str(call: &mut Call<'_, '_>) -> u64 {
    probe_read_str(call, true)
}

fn probe_read_kernel_str(call: &mut Call<'_, '_>) -> u64 {
    probe_read_str(call, false)
}

/// `BPF_F_SKIP_FIELD_MASK`: the innermost functions that are left out.
const SKIP_MASK: u64 = 0xff;
/// `BPF_F_USER_STACK`
const USER_STACK: u64 = 1 << 8;

/// Stores the addresses of functions, as many as there is room for; gives the bytes stored. What is left is 0.
fn get_stack(call: &mut Call<'_, '_>) -> u64 {
    let (size, flags) = (call.size(1).unwrap_or(0), call.arg(3));
    if flags & !(SKIP_MASK | USER_STACK) != 0 || !size.is_multiple_of(8) {
        call.write(1, &[]);
        return errno(EINVAL);
    }
    let Some(chain) = call.execution.environment.callchain(flags & USER_STACK != 0) else {
        call.write(1, &[]);
        return errno(EFAULT);
    };
    let chain = chain.get((flags & SKIP_MASK) as usize..).unwrap_or_default();
    let stored = chain.len().min(size / 8);
    for (at, address) in chain[..stored].iter().enumerate() {
        call.store(1, 8 * at, &address.to_ne_bytes());
    }
    for at in stored..size / 8 {
        call.store(1, 8 * at, &[0; 8]);
    }
    8 * stored as u64
}

fn skb_load_bytes(call: &mut Call<'_, '_>) -> u64 {
    let (offset, size) = (call.arg(1) as u32 as usize, call.size(2).unwrap_or(0));
    match call.execution.packet().part(offset, size) {
        Some(part) => {
            call.copy(2, part);
            0
        }
        None => {
            call.write(2, &[]);
            errno(EFAULT)
        }
    }
}

fn perf_event_output(call: &mut Call<'_, '_>) -> u64 {
    let (Some(map), Some(data)) = (call.map(1), call.readable(3)) else { return errno(EINVAL) };
    let flags = call.arg(2);
    let packet = call.execution.packet();
    // Types with a packet may have it appended; for the others these bits are not defined.
    let type_ = call.execution.context.type_;
    let has_packet = type_.context().has_packet() || type_.has_legacy_packet();
    let mask = if has_packet { INDEX_MASK | CTXLEN_MASK } else { INDEX_MASK };
    if flags & !mask != 0 {
        return errno(EINVAL);
    }
    let Some(appended) = packet.part(0, ((flags & CTXLEN_MASK) >> 32) as usize) else { return errno(EFAULT) };
    let output = |execution: &Execution<'_>| {
        let event = execution.event(map, flags & INDEX_MASK)?;
        let (number, environment) = (execution.cpu.number, execution.environment);
        event.output(&[data, appended], number, environment).map_err(|_| ENOSPC)
    };
    status(output(call.execution))
}

fn ringbuf_output(call: &mut Call<'_, '_>) -> u64 {
    let (Some(map), Some(data)) = (call.map(0), call.readable(1)) else { return errno(EINVAL) };
    let Some(ring) = map.ringbuf() else { return errno(EINVAL) };
    status(ring.output(data, call.arg(3)))
}

fn ringbuf_reserve(call: &mut Call<'_, '_>) -> u64 {
    let Some(ring) = call.map(0).and_then(|map| map.ringbuf()) else { return 0 };
    let (size, flags) = (call.arg(1), call.arg(2));
    if flags != 0 {
        return 0;
    }
    if call.execution.records.is_full() {
        return 0;
    }
    let Some(record) = ring.reserve(size) else { return 0 };
    let address = record.payload().0;
    call.execution.records.push(record);
    address
}

/// Takes the open record out of the execution's.
fn take_record<'r>(call: &mut Call<'_, 'r>) -> Option<OpenRecord<'r>> {
    let address = call.arg(0);
    let at = call.execution.records.iter().position(|record| record.payload().0 == address)?;
    Some(call.execution.records.swap_remove(at))
}

fn ringbuf_submit(call: &mut Call<'_, '_>) -> u64 {
    let flags = call.arg(1);
    if let Some(record) = take_record(call) {
        record.submit(flags);
    }
    0
}

fn ringbuf_discard(call: &mut Call<'_, '_>) -> u64 {
    drop(take_record(call));
    0
}

fn ringbuf_query(call: &mut Call<'_, '_>) -> u64 {
    let flags = call.arg(1);
    call.map(0).and_then(|map| map.ringbuf()).map_or(0, |ring| ring.query(flags))
}

/// As the kernel's: 0, or whether the first byte that differs is more (1) or less (-1).
fn strncmp(call: &mut Call<'_, '_>) -> u64 {
    let Some(first) = call.readable(0) else { return errno(EINVAL) };
    let Some(second) = call.const_str(2) else { return errno(EINVAL) };
    for at in 0..first.len() {
        let byte = |text: &memory::Readable| {
            let mut byte = [0];
            if let Some(part) = text.part(at, 1) {
                part.copy_out(&mut byte);
            }
            byte[0]
        };
        let (a, b) = (byte(&first), byte(&second));
        if a != b {
            return if a > b { 1 } else { errno(1) };
        }
        if a == 0 {
            break;
        }
    }
    0
}

/// `struct dtrace_ecb { u32 id; u32 probe_id; }`
const ECB_SIZE: usize = 8;

fn finalize_context(call: &mut Call<'_, '_>) -> u64 {
    let number = call.cpu();
    let finalize = |call: &mut Call<'_, '_>| {
        let map = call.map(1).ok_or(EINVAL)?;
        let execution = &mut *call.execution;
        let ecb = execution.context.type_.ecb().ok_or(EINVAL)?;
        let def = map.def();
        if def.type_ != MapType::Array || def.value_size as usize != ECB_SIZE {
            return Err(EINVAL);
        }
        if number >= def.max_entries {
            return Err(E2BIG);
        }
        let key = number.to_ne_bytes();
        let address = map.lookup_address(&key, number as usize, || execution.guard()).ok_or(ENOENT)?;
        execution.finalize(ecb, address).ok_or(EINVAL)
    };
    let result = finalize(call);
    // Whatever it finds, what was open is closed.
    call.execution.discarded += call.execution.buffers.len() as u64;
    call.execution.buffers.clear();
    status(result)
}

fn buffer_reserve(call: &mut Call<'_, '_>) -> u64 {
    let [id, map, size] = [1, 2, 3].map(|at| call.arg(at));
    status(call.execution.reserve_buffer(id, map, size))
}

fn buffer_commit(call: &mut Call<'_, '_>) -> u64 {
    let id = call.arg(1);
    status(call.execution.commit_buffer(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn prototypes_make_sense_and_numbers_differ() {
        let mut ids = BTreeSet::new();
        for helper in all() {
            helper.prototype.check().unwrap();
            assert!(helper.prototype.name.starts_with("bpf_"));
            assert!(ids.insert(helper.id), "{}", helper.id);
        }
        assert_eq!(ids.len(), 31);
    }
}
