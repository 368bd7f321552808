//! Checkpoints: files in the state directory from which an agent takes up what the one before it did.
//!
//! Invariant: what is read from a file is what was written to it, as a whole, or an error. A file is never found half
//! written under its name, and what cannot be read is set aside, not deleted while there is room.
//!
//! [`SavedState`] and [`SavedFlows`] are what a checkpoint holds, [`encode`] and [`decode`] its bytes, [`Store`] the directory,
//! [`Writer`] the thread that writes there.

mod clock;
mod files;
mod format;
mod listing;
mod room;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod view;
mod writer;

pub use clock::BootTime;
pub use format::{Checkpoint, MAX_BYTES, Unusable, decode, encode, read};
pub use listing::{Listed, list, load};
pub use state::{BackendBelief, ConfigMark, SavedFlows, SavedState};
pub use store::{SetAside, Store, WriteError, WrittenCheckpoint, directory};
pub use view::{checkpoints_view, content_view};
pub use writer::{SaveOutcome, SavingCondition, Writer};
