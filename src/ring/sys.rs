//! The few system calls of the ring that no library wraps.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// The machine's page size in bytes.
pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf reads no memory of ours.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// A non-blocking eventfd(2), closed on exec.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer; the result is checked.
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Two connected datagram sockets, closed on exec.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: the array has room for the two descriptors.
    let result = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((owned(fds[0])?, owned(fds[1])?))
}

/// Sends a byte, without waiting, whatever flags the socket has.
pub(crate) fn send_now(socket: BorrowedFd<'_>) {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the byte lives across the call. An error means that there are enough unread, or nobody to read them.
    unsafe { libc::send(socket.as_raw_fd(), [1u8].as_ptr().cast(), 1, flags) };
}

/// Receives a byte, without waiting, whatever flags the socket has; whether there was one.
pub(crate) fn receive_now(socket: BorrowedFd<'_>) -> bool {
    let mut byte = [0u8];
    // SAFETY: the byte lives across the call.
    unsafe { libc::recv(socket.as_raw_fd(), byte.as_mut_ptr().cast(), 1, libc::MSG_DONTWAIT) == 1 }
}

/// A pidfd_open(2) descriptor: readable once the process has ended.
pub(crate) fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer; the result is checked. It is a descriptor, so it fits.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as libc::c_int)
}

fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call that made it succeeded, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs `action` and puts `errno` back to what it was before.
pub(crate) fn preserving_errno(action: impl FnOnce()) {
    // SAFETY: the address of this thread's errno, valid as long as the thread runs.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { errno.read() };
    action();
    // SAFETY: as above.
    unsafe { errno.write(before) };
}

/// What poll(2) found on one descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Polled {
    pub(crate) readable: bool,
    pub(crate) hung_up: bool,
}

fn pollfd(fd: Option<BorrowedFd<'_>>) -> libc::pollfd {
    libc::pollfd { fd: fd.map_or(-1, |fd| fd.as_raw_fd()), events: libc::POLLIN, revents: 0 }
}

/// Waits until one of up to two descriptors is ready or `deadline` has passed; interruptions by signals are waited out.
pub(crate) fn poll(fds: [Option<BorrowedFd<'_>>; 2], deadline: Option<Instant>) -> io::Result<[Polled; 2]> {
    let mut polled = fds.map(pollfd);
    poll_all(&mut polled, deadline)?;
    Ok(polled.map(|fd| Polled {
        readable: fd.revents & libc::POLLIN != 0,
        hung_up: fd.revents & (libc::POLLHUP | libc::POLLERR) != 0,
    }))
}

/// Waits until one of the descriptors is ready or `deadline` has passed; interruptions by signals are waited out.
#[cfg(feature = "dtrace")]
pub(crate) fn poll_any<'a>(
    fds: impl IntoIterator<Item = BorrowedFd<'a>>,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let mut polled: Vec<_> = fds.into_iter().map(|fd| pollfd(Some(fd))).collect();
    Ok(poll_all(&mut polled, deadline)? != 0)
}

/// Gives how many are ready.
fn poll_all(polled: &mut [libc::pollfd], deadline: Option<Instant>) -> io::Result<usize> {
    loop {
        let timeout = match deadline {
            None => -1,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                // Rounded up, so that a wait is never shorter than asked for.
                let ms = left.checked_add(Duration::from_nanos(999_999)).map_or(u128::MAX, |left| left.as_millis());
                i32::try_from(ms).unwrap_or(i32::MAX)
            }
        };
        // SAFETY: the slice lives across the call and has the length given.
        match unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) } {
            -1 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            0 if timeout == i32::MAX => {}
            ready => return Ok(ready as usize),
        }
    }
}

/// When process `pid` started, in clock ticks since boot (proc(5), `stat`, field 22).
pub(crate) fn start_time(pid: u32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the command in parentheses and may hold anything, also parentheses.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let field = after.split_ascii_whitespace().nth(19).and_then(|field| field.parse().ok());
    field.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The inode number of this process's pid namespace (pid_namespaces(7)): process ids mean something only inside of one.
pub(crate) fn pid_namespace() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self/ns/pid")?.ino())
}

/// Room for the control message of up to 8 descriptors, aligned as a `cmsghdr` wants it.
#[repr(align(8))]
struct Control([u8; 64]);

/// Sends descriptors over a Unix socket, with one byte of data.
pub(crate) fn send_fds(socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<libc::c_int> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let bytes = u32::try_from(size_of_val(raw.as_slice())).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut control = Control([0; 64]);
    // SAFETY: arithmetic only.
    let (space, len) = unsafe { (libc::CMSG_SPACE(bytes) as usize, libc::CMSG_LEN(bytes) as usize) };
    if space > control.0.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut byte = [0u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: a msghdr of zeros is an empty one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = space as _;
    // SAFETY: msg_control has room for one cmsghdr and the descriptors (checked above), so CMSG_FIRSTHDR gives a pointer into
    // it, aligned by `Control`, and CMSG_DATA is followed by at least `bytes` bytes.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = len as _;
        libc::CMSG_DATA(header).copy_from_nonoverlapping(raw.as_ptr().cast(), bytes as usize);
    }
    // SAFETY: everything that the message points to lives across the call.
    match unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Receives descriptors that came with one byte of data; they are closed on exec.
pub(crate) fn receive_fds(socket: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut control = Control([0; 64]);
    let mut byte = [0u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: a msghdr of zeros is an empty one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: everything that the message points to lives across the call.
    match unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) } {
        -1 => return Err(io::Error::last_os_error()),
        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
        _ => {}
    }
    let mut fds = Vec::new();
    // SAFETY: recvmsg filled the control buffer and set msg_controllen, so the CMSG macros walk whole headers inside of it;
    // of SCM_RIGHTS, CMSG_DATA holds (cmsg_len - CMSG_LEN(0)) / 4 descriptors that are new and nobody else's, each read
    // unaligned from inside of the message.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
                for i in 0..bytes / size_of::<libc::c_int>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(fds)
}
