//! Checkpoints: files in the state directory from which an agent takes up what the one before it did.
//!
//! Invariant: what is read from a file is what was written to it, as a whole, or an error. A file is never found half
//! written under its name, and nothing that cannot be read is deleted: it is set aside.
//!
//! [`State`] and [`Flows`] are what a checkpoint holds, [`encode`] and [`decode`] its bytes, [`Store`] the directory.

mod format;
mod state;
#[cfg(test)]
mod tests;

pub use format::{Checkpoint, MAX_BYTES, Unusable, decode, encode, read};
pub use state::{ConfigMark, Flows, Standing, State};
