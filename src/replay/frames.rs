//! The addresses of a sample, each with the mode it was executed in.

use crate::record::{CallchainContext, CpuMode, Header, Ips, Sample};

/// A function that was executed when a sample was taken, by an address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// In which mode.
    pub cpumode: CpuMode,
    /// The address as the record has it.
    pub ip: u64,
    /// The address to look up: of a return address the byte before, which is in the call. A call that never returns may be
    /// a function's last instruction, and the return address the start of the next function.
    pub address: u64,
}

/// The frames of a sample, from the innermost: those of its call chain, or its address alone if it has none.
///
/// The first address of each part of a chain is that of an instruction, and the others are return addresses. Only what the
/// kernel walked is here: stacks that were copied with a sample are not unwound, and a part that was
/// [deferred](crate::record::Callchain::deferred_cookie) is in another record. Addresses before the first marker are of the
/// mode in the sample's header.
///
/// ```
/// use perfring::record::{Attr, Body, ByteOrder, CallchainContext, CpuMode, Decoder, Encoder, Misc, SampleFields, SampleType};
/// use perfring::replay::Frames;
///
/// let attr = Attr { sample_type: SampleType::CALLCHAIN, ..Attr::default() };
/// let chain = [CallchainContext::KERNEL.0, 0xf000, 0xf100, CallchainContext::USER.0, 0x1000, 0x1100];
/// let fields = SampleFields { callchain: Some(chain[..].into()), ..SampleFields::default() };
/// let mut record = Vec::new();
/// Encoder::new(&attr, ByteOrder::NATIVE)?.sample(Misc::empty(), &fields, &mut record)?;
///
/// let decoder = Decoder::new(&attr)?;
/// let decoded = decoder.decode(&record)?;
/// let Body::Sample(sample) = &decoded.body else { unreachable!() };
/// let frames: Vec<_> = Frames::new(&decoded.header, sample).map(|frame| (frame.cpumode, frame.address)).collect();
/// let (kernel, user) = (CpuMode::Kernel, CpuMode::User);
/// assert_eq!(frames, [(kernel, 0xf000), (kernel, 0xf0ff), (user, 0x1000), (user, 0x10ff)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    /// The mode in the sample's header.
    cpumode: CpuMode,
    /// The sample's own address, of one without a chain.
    ip: Option<u64>,
    chain: Option<Ips<'a>>,
    /// The context of the address before.
    context: Option<CallchainContext>,
}

impl<'a> Frames<'a> {
    /// The frames of a sample, which was decoded with this header.
    pub fn new(header: &Header, sample: &Sample<'a>) -> Self {
        let chain = sample.callchain().filter(|chain| !chain.is_empty());
        Self {
            cpumode: header.misc.cpumode(),
            ip: if chain.is_none() { sample.ip() } else { None },
            chain: chain.map(|chain| chain.ips()),
            context: None,
        }
    }
}

impl Iterator for Frames<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        if let Some(ip) = self.ip.take() {
            return Some(Frame { cpumode: self.cpumode, ip, address: ip });
        }
        let (context, ip) = self.chain.as_mut()?.next()?;
        let is_return = self.context.replace(context) == Some(context);
        let cpumode = match context {
            CallchainContext::NONE => self.cpumode,
            CallchainContext::KERNEL => CpuMode::Kernel,
            CallchainContext::USER | CallchainContext::USER_DEFERRED => CpuMode::User,
            CallchainContext::HV => CpuMode::Hypervisor,
            CallchainContext::GUEST_KERNEL => CpuMode::GuestKernel,
            CallchainContext::GUEST | CallchainContext::GUEST_USER => CpuMode::GuestUser,
            _ => CpuMode::Unknown,
        };
        Some(Frame { cpumode, ip, address: if is_return { ip.saturating_sub(1) } else { ip } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Attr, Body, ByteOrder, Decoder, Encoder, Misc, SampleFields, SampleType};

    fn frames(misc: Misc, ip: u64, chain: &[u64]) -> Vec<(CpuMode, u64, u64)> {
        let attr = Attr { sample_type: SampleType::IP | SampleType::CALLCHAIN, ..Attr::default() };
        let fields = SampleFields { ip: Some(ip), callchain: Some(chain.into()), ..SampleFields::default() };
        let mut record = Vec::new();
        Encoder::new(&attr, ByteOrder::NATIVE).unwrap().sample(misc, &fields, &mut record).unwrap();
        let decoder = Decoder::new(&attr).unwrap();
        let decoded = decoder.decode(&record).unwrap();
        let Body::Sample(sample) = &decoded.body else { panic!("no sample") };
        Frames::new(&decoded.header, sample).map(|frame| (frame.cpumode, frame.ip, frame.address)).collect()
    }

    #[test]
    fn without_a_chain_there_is_the_address() {
        assert_eq!(frames(Misc::from_bits_retain(1), 5, &[]), [(CpuMode::Kernel, 5, 5)]);
    }

    #[test]
    fn addresses_without_a_marker_are_of_the_mode_in_the_header() {
        let user = CpuMode::User;
        assert_eq!(frames(Misc::from_bits_retain(2), 9, &[5, 7, 0]), [(user, 5, 5), (user, 7, 6), (user, 0, 0)]);
    }

    #[test]
    fn each_context_begins_with_an_instruction() {
        let chain = [
            CallchainContext::HV.0,
            1,
            CallchainContext::GUEST.0,
            2,
            CallchainContext::GUEST_KERNEL.0,
            3,
            CallchainContext(-100_i64 as u64).0,
            4,
            CallchainContext::USER_DEFERRED.0,
            0xc00,
            CallchainContext::USER.0,
            5,
            6,
        ];
        let expected = [
            (CpuMode::Hypervisor, 1, 1),
            (CpuMode::GuestUser, 2, 2),
            (CpuMode::GuestKernel, 3, 3),
            (CpuMode::Unknown, 4, 4),
            (CpuMode::User, 5, 5),
            (CpuMode::User, 6, 5),
        ];
        assert_eq!(frames(Misc::empty(), 9, &chain), expected);
        assert_eq!(frames(Misc::empty(), 9, &[CallchainContext::USER.0]), []);
    }
}
