//! `Latest<[u64; N]>`: a variable that neither side waits for.

use std::os::fd::OwnedFd;

use annulus::{Latest, LatestReader, LatestWriter, Place, SetupError};

use super::variable::{Read, Variable, Write};
use crate::bench::link::{Failure, Refusal, Waiting};

/// By its descriptor.
pub struct Newest<const N: usize>(OwnedFd);

impl<const N: usize> Variable<N> for Newest<N> {
    type Writer = LatestWriter<[u64; N]>;
    type Reader = LatestReader<[u64; N]>;

    fn prepare() -> Result<Self, Refusal> {
        let make = || -> Result<OwnedFd, SetupError> {
            let place = Place::memfd("annulus-bench")?;
            Latest::<[u64; N]>::builder().prefault(true).create(place)?.inheritable_fd()
        };
        make().map(Self).map_err(|error| Refusal::Broken(error.to_string()))
    }

    fn writer(self, _: Waiting) -> Result<Self::Writer, Failure> {
        let writer = || Latest::from_fd(self.0)?.writer();
        writer().map_err(|error| Failure::call("attach", error))
    }

    fn reader(self, wait: Waiting) -> Result<Self::Reader, Failure> {
        let reader = || Ok(Latest::from_fd(self.0)?.reader()?.with_wait(wait.into()));
        reader().map_err(|error: SetupError| Failure::call("attach", error))
    }
}

impl<const N: usize> Write<N> for LatestWriter<[u64; N]> {
    #[inline]
    fn write(&mut self, value: &[u64; N]) -> Result<(), Failure> {
        Self::write(self, value).map_err(|error| Failure::call("write", error))?;
        Ok(())
    }
}

impl<const N: usize> Read<N> for LatestReader<[u64; N]> {
    #[inline]
    fn read(&mut self, value: &mut [u64; N]) -> Result<(), Failure> {
        Self::read(self, value).map_err(|error| Failure::call("read", error))?;
        Ok(())
    }

    #[inline]
    fn read_next(&mut self, value: &mut [u64; N]) -> Result<(), Failure> {
        let next = self.wait_for_change();
        *value = next.map_err(|error| Failure::call("wait_for_change", error))?;
        Ok(())
    }
}
