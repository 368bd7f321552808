//! What becomes of a packet.

use serde::{Deserialize, Serialize};

use super::services::OutageView;

/// What the dataplane would do with a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainView {
    /// `pass`, `drop`, `tx` or `redirect`.
    pub action: String,
    /// The name of the way out.
    pub reason: String,
    /// Its number.
    pub reason_code: u32,
    /// A sentence about it.
    pub meaning: String,
    /// The service that the frame is for.
    pub service: Option<String>,
    /// The backend that it goes to.
    pub backend: Option<String>,
    /// The slot that chose the backend.
    pub slot: Option<u32>,
    /// How the backend was found: `slot`, `known`, `opened`, `adopted`, `current`, `previous` or `refused`.
    pub placement: String,
    /// A sentence about it.
    pub placement_meaning: String,
    /// The interface that it would arrive on.
    pub interface: String,
    /// What keeps packets from being balanced that arrive elsewhere.
    #[serde(default)]
    pub outages: Vec<OutageView>,
    /// The frame that was asked about, in hexadecimal.
    pub in_hex: String,
    /// The frame as it would leave, in hexadecimal.
    pub out_hex: Option<String>,
}
