//! annulus.
