//! What a recorder says of its own events: ids, CPUs and threads.

use super::{SynthesizeError, Synthesizer};
use crate::record::user::{Array, CpuMap, IdIndex, IdIndexEntry, ThreadMap, ThreadMapEntry};
use crate::record::{Body, Misc, User};

/// Entries of `ID_INDEX` in a record of at most 65535 bytes.
const IDS: usize = (u16::MAX as usize - 16) / 32;
/// Those of `THREAD_MAP`.
const THREADS: usize = (u16::MAX as usize - 16) / 24;

impl Synthesizer {
    /// `ID_INDEX` records: which id belongs to which ring, CPU and thread. One record holds 2047 entries.
    ///
    /// # Errors
    ///
    /// [`SynthesizeError::Out`]
    pub fn id_index<E>(
        &mut self,
        entries: &[IdIndexEntry],
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), SynthesizeError<E>> {
        entries.chunks(IDS).try_for_each(|entries| {
            let record = User::IdIndex(IdIndex { entries: Array::from(entries), guests: None });
            self.to.emit(Misc::empty(), &Body::User(record), out)
        })
    }

    /// `THREAD_MAP` records: the threads that are observed. One record holds 2729 threads; of several, `perf` reads the first.
    ///
    /// # Errors
    ///
    /// [`SynthesizeError::Out`]; [`SynthesizeError::Encode`] of a name with more than 16 bytes, or with a NUL.
    pub fn thread_map<E>(
        &mut self,
        threads: &[ThreadMapEntry<'_>],
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), SynthesizeError<E>> {
        threads.chunks(THREADS).try_for_each(|threads| {
            let record = User::ThreadMap(ThreadMap { entries: Array::from(threads) });
            self.to.emit(Misc::empty(), &Body::User(record), out)
        })
    }

    /// A `CPU_MAP` record: the CPUs that are observed, in the shortest of its forms; [`CpuMap::ANY`] stands for any, as for
    /// events that follow a thread. A range, which CPUs without gaps become, is read by perf 6.1 and newer ones.
    ///
    /// # Errors
    ///
    /// [`SynthesizeError::Out`]; [`SynthesizeError::Encode`] of more than 32761 CPUs, [`CpuMap::ANY`] among them.
    pub fn cpu_map<E>(
        &mut self,
        cpus: &[u16],
        out: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), SynthesizeError<E>> {
        let is_any = cpus.contains(&CpuMap::ANY);
        let mut named: Vec<_> = cpus.iter().copied().filter(|cpu| *cpu != CpuMap::ANY).collect();
        named.sort_unstable();
        named.dedup();
        let words = named.last().map_or(0, |last| usize::from(last / 64) + 1);
        let mut mask = Vec::new();
        let map = match (named.first(), named.last()) {
            (Some(&start_cpu), Some(&end_cpu)) if usize::from(end_cpu - start_cpu) == named.len() - 1 => {
                CpuMap::Range { any_cpu: is_any.into(), start_cpu, end_cpu }
            }
            // A mask has no place for any CPU. Behind its type stand 8 bytes before the first word, instead of 2.
            (Some(_), _) if !is_any && 6 + 8 * words < 2 * named.len() => {
                mask.resize(words, 0_u64);
                for cpu in named {
                    if let Some(word) = mask.get_mut(usize::from(cpu / 64)) {
                        *word |= 1 << (cpu % 64);
                    }
                }
                CpuMap::Mask64(Array::from(&mask[..]))
            }
            _ => {
                // Any CPU goes first.
                if is_any {
                    named.insert(0, CpuMap::ANY);
                }
                return self.to.emit(Misc::empty(), &cpus_body(&named), out);
            }
        };
        self.to.emit(Misc::empty(), &Body::User(User::CpuMap(map)), out)
    }
}

fn cpus_body(cpus: &[u16]) -> Body<'_> {
    Body::User(User::CpuMap(CpuMap::Cpus(Array::from(cpus))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Attr, AttrFlags, Decoder, SampleType};
    use std::convert::Infallible;

    fn attr() -> Attr {
        Attr { sample_type: SampleType::TID, flags: AttrFlags::SAMPLE_ID_ALL, ..Attr::default() }
    }

    fn collect(
        make: impl FnOnce(
            &mut Synthesizer,
            &mut dyn FnMut(&[u8]) -> Result<(), Infallible>,
        ) -> Result<(), SynthesizeError<Infallible>>,
    ) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        let mut out = |record: &[u8]| {
            records.push(record.to_vec());
            Ok(())
        };
        make(&mut Synthesizer::new(&attr()).unwrap(), &mut out).unwrap();
        records
    }

    #[test]
    fn cpus_come_in_the_shortest_form() {
        let decoder = Decoder::new(&attr()).unwrap();
        let form = |cpus: &[u16]| {
            let records = collect(|to, mut out| to.cpu_map(cpus, &mut out));
            let [record] = &records[..] else { panic!("{records:?}") };
            let Body::User(User::CpuMap(map)) = decoder.decode(record).unwrap().body else { panic!("no map") };
            let mut expected: Vec<_> =
                cpus.iter().filter(|cpu| **cpu != CpuMap::ANY).map(|cpu| u32::from(*cpu)).collect();
            expected.sort();
            expected.dedup();
            assert_eq!(map.cpus().collect::<Vec<_>>(), expected);
            assert_eq!(map.any_cpu(), cpus.contains(&CpuMap::ANY));
            match map {
                CpuMap::Range { .. } => "range",
                CpuMap::Cpus(_) => "cpus",
                CpuMap::Mask64(_) => "mask",
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(form(&[0, 1]), "range");
        assert_eq!(form(&[3, 2, 4, 3]), "range");
        assert_eq!(form(&[CpuMap::ANY, 5]), "range");
        assert_eq!(form(&[CpuMap::ANY]), "cpus");
        assert_eq!(form(&[]), "cpus");
        assert_eq!(form(&[CpuMap::ANY, 5, 7]), "cpus");
        assert_eq!(form(&[0, 2]), "cpus");
        assert_eq!(form(&[65534, 0]), "cpus");
        assert_eq!(form(&(0..64).step_by(2).collect::<Vec<_>>()), "mask");
        assert_eq!(form(&(1..65535).step_by(2).collect::<Vec<_>>()), "mask");
        // The bytes of perf: `CPU_MAP: 0-1`, and `-1`.
        let bytes = |cpus: &[u16]| collect(|to, mut out| to.cpu_map(cpus, &mut out)).concat();
        if cfg!(target_endian = "little") {
            assert_eq!(bytes(&[0, 1]), [74, 0, 0, 0, 0, 0, 16, 0, 2, 0, 0, 0, 0, 0, 1, 0]);
            assert_eq!(bytes(&[CpuMap::ANY]), [74, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0xff, 0xff, 0, 0]);
        }
    }

    #[test]
    fn what_does_not_fit_into_a_record_becomes_several() {
        let decoder = Decoder::new(&attr()).unwrap();
        let ids: Vec<_> = (0..5000).map(|id| IdIndexEntry { id, idx: 1, cpu: 2, tid: u64::MAX }).collect();
        let records = collect(|to, mut out| to.id_index(&ids, &mut out));
        let mut read = Vec::new();
        for record in &records {
            let Body::User(User::IdIndex(index)) = decoder.decode(record).unwrap().body else { panic!("no index") };
            read.extend(index.entries);
        }
        assert_eq!((records.len(), read), (3, ids));

        let comm = "sixteen bytes it".into();
        let threads: Vec<_> = (0..3000).map(|pid| ThreadMapEntry { pid, comm }).collect();
        let records = collect(|to, mut out| to.thread_map(&threads, &mut out));
        let mut read = Vec::new();
        for record in &records {
            let Body::User(User::ThreadMap(map)) = decoder.decode(record).unwrap().body else { panic!("no map") };
            read.extend(map.entries);
        }
        assert_eq!((records.len(), read), (2, threads));
    }

    #[test]
    fn a_name_that_does_not_fit_is_an_error() {
        let threads = [ThreadMapEntry { pid: 1, comm: "seventeen bytes!!".into() }];
        let made = Synthesizer::new(&attr()).unwrap().thread_map(&threads, &mut |_: &[u8]| Ok::<(), Infallible>(()));
        assert!(matches!(made, Err(SynthesizeError::Encode(_))), "{made:?}");
    }
}
