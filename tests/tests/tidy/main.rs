//! The layers of the code, held by a test: who may depend on whom, and that no imports run in a circle.
//!
//! An arrow from A to B means that A imports B. Arrows go down only: what decides knows nothing of what acts, and what
//! acts knows nothing of who asks. A capability that needs an arrow upwards is in the wrong place.
#![expect(clippy::expect_used, reason = "a test that cannot read the code has failed")]

mod crates;
mod imports;
mod layers;
