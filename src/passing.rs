//! Descriptors along with messages of a connection.

use crate::duplex::{ByteDuplex, Duplex};
use crate::error::FdsError;
use bytemuck::{AnyBitPattern, NoUninit};
use std::os::fd::{BorrowedFd, OwnedFd};

impl<T: NoUninit + AnyBitPattern> Duplex<T> {
    /// Sends a message and up to 8 descriptors, waiting for room in the ring if there is none. The peer gets copies of
    /// the descriptors with just this message, if it receives that by [`recv_with_fds`](Self::recv_with_fds); if it
    /// does not, they are closed.
    ///
    /// The descriptors go over the control socket, before the message: one system call.
    ///
    /// # Errors
    ///
    /// Nothing was sent then: [`FdsError::TooMany`]; [`FdsError::NotTaken`] if the socket is full of descriptors that
    /// the peer has not asked for; [`FdsError::Disconnected`], [`FdsError::Corrupt`] and [`FdsError::Forked`] as
    /// [`send`](Self::send); [`FdsError::Os`].
    ///
    /// ```
    /// use annulus::{Address, Duplex, Listener};
    /// use std::os::fd::AsFd;
    ///
    /// let address = Address::name(format!("annulus-example-fds-{}", std::process::id()));
    /// let mut listener = Listener::bind(address.clone())?;
    /// let client = std::thread::spawn(move || {
    ///     let mut service: Duplex<u64> = annulus::connect(address).unwrap();
    ///     let null = std::fs::File::open("/dev/null").unwrap();
    ///     service.send(1).unwrap();
    ///     service.send_with_fds(2, &[null.as_fd()]).unwrap();
    /// });
    /// let mut client_side: Duplex<u64> = listener.accept()?;
    /// let (one, none) = client_side.recv_with_fds()?;
    /// let (two, null) = client_side.recv_with_fds()?;
    /// assert_eq!((one, none.len(), two, null.len()), (1, 0, 2, 1));
    /// client.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_with_fds(&mut self, message: T, fds: &[BorrowedFd<'_>]) -> Result<(), FdsError> {
        let sender = &mut self.sender;
        // Room that there is stays there: nobody else sends.
        sender.slots.make_room()?;
        self.common.link().send_fds(sender.slots.side.messages(), fds)?;
        sender.slots.try_send(bytemuck::bytes_of(&message)).map_err(FdsError::from)
    }

    /// Receives a message, waiting if there is none, and the descriptors that came with it. They are close-on-exec.
    /// Descriptors of messages that were received without are closed. One system call more than
    /// [`recv`](Self::recv).
    ///
    /// # Errors
    ///
    /// As for [`recv`](Self::recv). If the message was received and what is in the socket makes no sense,
    /// [`FdsError::Corrupt`], or if the kernel had no descriptor left, [`FdsError::Os`]: the message is lost.
    pub fn recv_with_fds(&mut self) -> Result<(T, Vec<OwnedFd>), FdsError> {
        loop {
            match self.try_recv_with_fds() {
                Err(FdsError::Empty) => {}
                done => return done,
            }
            self.receiver.slots.wait_for_message(None)?;
        }
    }

    /// The same, if a message is there now.
    ///
    /// # Errors
    ///
    /// As for [`recv_with_fds`](Self::recv_with_fds), and [`FdsError::Empty`].
    pub fn try_recv_with_fds(&mut self) -> Result<(T, Vec<OwnedFd>), FdsError> {
        let number = self.receiver.slots.side.messages();
        let message = self.receiver.try_recv()?;
        Ok((message, self.common.link().take_fds(number)?))
    }
}

impl ByteDuplex {
    /// Sends a message and up to 8 descriptors: see [`Duplex::send_with_fds`].
    ///
    /// # Errors
    ///
    /// As for [`Duplex::send_with_fds`], and [`FdsError::TooLong`].
    pub fn send_with_fds(
        &mut self,
        message: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), FdsError> {
        let number = self.sender.side.messages();
        let mut grant = self.sender.reserve(message.len()).map_err(FdsError::of)?;
        self.common.link().send_fds(number, fds)?;
        grant.write(0, message);
        grant.commit();
        Ok(())
    }

    /// Receives a message into `message`, waiting if there is none, and the descriptors that came with it: see
    /// [`Duplex::recv_with_fds`].
    ///
    /// # Errors
    ///
    /// As for [`Duplex::recv_with_fds`].
    pub fn recv_with_fds(&mut self, message: &mut Vec<u8>) -> Result<Vec<OwnedFd>, FdsError> {
        loop {
            match self.try_recv_with_fds(message) {
                Err(FdsError::Empty) => {}
                done => return done,
            }
            self.receiver.wait_for_message(None)?;
        }
    }

    /// The same, if a message is there now.
    ///
    /// # Errors
    ///
    /// As for [`recv_with_fds`](Self::recv_with_fds), and [`FdsError::Empty`].
    pub fn try_recv_with_fds(&mut self, message: &mut Vec<u8>) -> Result<Vec<OwnedFd>, FdsError> {
        let number = self.receiver.side.messages();
        self.receiver.try_recv(message)?;
        self.common.link().take_fds(number)
    }
}
