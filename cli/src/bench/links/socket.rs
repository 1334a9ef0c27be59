//! Sockets: Unix stream, Unix seqpacket, and TCP over the loopback interface.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair, sockopt,
};

use super::stream::Stream;
use crate::bench::link::{Failure, Link, Refusal, Setup, Side, Transport};
use crate::bench::payload::Bytes;

/// Asked for in each direction; the kernel grants at most net.core.wmem_max and rmem_max.
const BUFFER: usize = 1 << 20;

/// A pair of Unix stream sockets.
pub struct UnixStreams(UnixStream, UnixStream);

/// A pair of Unix seqpacket sockets.
pub struct UnixSeqpacket(OwnedFd, OwnedFd);

/// Two ends of a TCP connection to 127.0.0.1, without Nagle's algorithm.
pub struct Tcp(TcpStream, TcpStream);

impl Transport for UnixStreams {
    type Link = Stream<UnixStream, UnixStream>;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        let (near, far) =
            UnixStream::pair().map_err(|error| Refusal::by_kernel("socketpair", error))?;
        enlarge(&near);
        enlarge(&far);
        Ok(Self(near, far))
    }

    fn attach(self, side: Side, _: &Setup) -> Result<Self::Link, Failure> {
        let socket = if side == Side::Near { self.0 } else { self.1 };
        Ok(Stream { from_peer: socket.try_clone()?, to_peer: socket })
    }
}

impl Transport for Tcp {
    type Link = Stream<TcpStream, TcpStream>;

    fn prepare(_: &Setup) -> Result<Self, Refusal> {
        let connect = || -> std::io::Result<Self> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let near = TcpStream::connect(listener.local_addr()?)?;
            let far = loop {
                let (far, peer) = listener.accept()?;
                // Anybody may connect to a port on the loopback interface.
                if peer == near.local_addr()? {
                    break far;
                }
            };
            for socket in [&near, &far] {
                socket.set_nodelay(true)?;
                enlarge(socket);
            }
            Ok(Self(near, far))
        };
        connect().map_err(|error| Refusal::by_kernel("TCP over 127.0.0.1", error))
    }

    fn attach(self, side: Side, _: &Setup) -> Result<Self::Link, Failure> {
        let socket = if side == Side::Near { self.0 } else { self.1 };
        Ok(Stream { from_peer: socket.try_clone()?, to_peer: socket })
    }
}

impl Transport for UnixSeqpacket {
    type Link = Packets;

    fn prepare(setup: &Setup) -> Result<Self, Refusal> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|error| Refusal::by_kernel("socketpair", error))?;
        enlarge(&near);
        enlarge(&far);
        // A packet has to fit into the send buffer with the kernel's own bookkeeping for it.
        let granted = nix::sys::socket::getsockopt(&near, sockopt::SndBuf).unwrap_or(0);
        if granted / 2 < setup.size {
            return Err(Refusal::Unavailable(format!(
                "{} B do not fit into the socket's send buffer",
                setup.size
            )));
        }
        Ok(Self(near, far))
    }

    fn attach(self, side: Side, _: &Setup) -> Result<Self::Link, Failure> {
        Ok(Packets(if side == Side::Near { self.0 } else { self.1 }))
    }
}

/// One end of a socket that keeps messages apart.
pub struct Packets(OwnedFd);

impl Link for Packets {
    type Message = Bytes;

    #[inline]
    fn send(&mut self, message: &Bytes) -> Result<(), Failure> {
        let sent = send(self.0.as_raw_fd(), &message.0, MsgFlags::MSG_NOSIGNAL)
            .map_err(|error| Failure::call("send", error))?;
        if sent != message.0.len() {
            Err(Failure::wrong_length(sent, message.0.len()))
        } else {
            Ok(())
        }
    }

    #[inline]
    fn recv(&mut self, message: &mut Bytes) -> Result<(), Failure> {
        let received = recv(self.0.as_raw_fd(), &mut message.0, MsgFlags::empty())
            .map_err(|error| Failure::call("recv", error))?;
        if received != message.0.len() {
            Err(Failure::wrong_length(received, message.0.len()))
        } else {
            Ok(())
        }
    }
}

fn enlarge(socket: impl AsFd) {
    // The kernel clips the value instead of refusing it.
    let _ = setsockopt(&socket, sockopt::SndBuf, &BUFFER);
    let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
}
