//! The flow table's rules: what becomes of a packet whose slot alone does not say where it goes.
//!
//! Invariant: nobody reads an owner that belongs to another flow. Who changes an entry claims its value by
//! compare-exchange, stores the key, then the value; who reads one reads the key again after the value. (Where loads
//! pass one another, a reader may still take the new owner of an entry that is being taken from its flow at that very
//! moment: a flow that is about to be forgotten anyway.) An entry would have to change hands twice between these reads
//! to deceive a reader, and one that was just written is not given away: see [`GRACE`].

mod entry;
mod eviction;
mod look_up;
mod query;
mod table;

pub use entry::{SharedLine, Word};
pub use eviction::{GRACE, IDLE, better, insert};
pub use look_up::{RENEW, known, look_up};
pub use query::{Query, Selected};
pub use table::{Event, FlowTable};
