//! Writable buffers: records that a program has open.

use super::execution::{Buffer, Execution, MAX_BUFFERS};
use super::map_index;
use crate::bpf::event::Event;
use crate::bpf::map::Map;
use libc::{E2BIG, EBUSY, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP};

/// `BPF_F_INDEX_MASK`, and `BPF_F_CURRENT_CPU`.
pub(crate) const INDEX_MASK: u64 = 0xffff_ffff;

impl<'r> Execution<'r> {
    /// The event in the slot that `index` names, for this CPU; or the errno value that says why there is none.
    #[inline(always)]
    pub(crate) fn event(&self, map: &Map, index: u64) -> Result<&'r Event, i32> {
        let array = map.events().ok_or(EINVAL)?;
        let number = self.cpu.number;
        let index = if index == INDEX_MASK { number } else { index as u32 };
        let slot = array.get(index).ok_or(E2BIG)?.ok_or(ENOENT)?;
        if slot.machine != self.shared.id || u32::from(slot.cpu) != number {
            return Err(EOPNOTSUPP);
        }
        let event = self.cpu.events.get(slot.place as usize).and_then(Option::as_ref).ok_or(ENOENT)?;
        if event.is_bpf_output() { Ok(event) } else { Err(EINVAL) }
    }

    pub(crate) fn buffer(&self, id: u32) -> Option<&Buffer<'r>> {
        self.buffers.iter().find(|buffer| buffer.id == id)
    }

    /// The id of a writable buffer, if the context has one with it.
    #[inline(always)]
    fn buffer_id(&self, id: u64) -> Result<u32, i32> {
        let id = u32::try_from(id).map_err(|_| EINVAL)?;
        // Nearly all contexts have one.
        let known = self.context.buffers.first() == Some(&id) || self.context.buffers.contains(&id);
        if known { Ok(id) } else { Err(EINVAL) }
    }

    /// `bpf_buffer_reserve`: opens the buffer `id` of the context with `size` bytes, which is an `int`, in this CPU's ring of the map
    /// whose number is `map`.
    #[inline(never)]
    pub(crate) fn reserve_buffer(&mut self, id: u64, map: u64, size: u64) -> Result<(), i32> {
        let id = self.buffer_id(id)?;
        let map = self.text.maps.get(map_index(map)).ok_or(EINVAL)?;
        if self.buffer(id).is_some() {
            return Err(EBUSY);
        }
        let event = self.event(map, INDEX_MASK)?;
        if self.buffers.len() == MAX_BUFFERS {
            return Err(ENOSPC);
        }
        let size = usize::try_from(size as u32 as i32).map_err(|_| ENOSPC)?;
        let event = event.reserve(size, self.cpu.number, self.environment).map_err(|_| ENOSPC)?;
        self.buffers.push(Buffer { id, event });
        Ok(())
    }

    /// `bpf_buffer_commit`: the record in the buffer `id` is written, if it is open.
    #[inline(never)]
    pub(crate) fn commit_buffer(&mut self, id: u64) -> Result<(), i32> {
        let id = self.buffer_id(id)?;
        if let Some(at) = self.buffers.iter().position(|buffer| buffer.id == id) {
            self.buffers.swap_remove(at).event.commit();
        }
        Ok(())
    }
}
