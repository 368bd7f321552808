//! One case: packets that belong together, and what is damaged in them.

/// A change of one frame's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// One byte has another value.
    Byte { at: usize, value: u8 },
    /// Its end is cut off.
    Cut(usize),
    /// Bytes are added behind its end.
    Pad(usize),
}

/// Packets that are sent one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) frames: Vec<Vec<u8>>,
    /// Which frame, and how.
    pub(super) changes: Vec<(usize, Change)>,
}

impl Case {
    /// The frames, damaged.
    pub(super) fn packets(&self) -> Vec<Vec<u8>> {
        let mut frames = self.frames.clone();
        for (which, change) in &self.changes {
            let frame = &mut frames[*which];
            match change {
                Change::Byte { at, value } => {
                    if let Some(byte) = frame.get_mut(*at) {
                        *byte = *value;
                    }
                }
                Change::Cut(len) => frame.truncate(*len),
                Change::Pad(len) => frame.resize(frame.len() + len, 0xa5),
            }
        }
        frames
    }

    /// Without one of its changes, or one of its frames, as long as one is left.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let without_change = |i: usize| {
            let mut case = self.clone();
            case.changes.remove(i);
            case
        };
        let without_frame = |i: usize| {
            let mut case = self.clone();
            case.frames.remove(i);
            case.changes.retain(|(which, _)| *which != i);
            for (which, _) in &mut case.changes {
                *which -= usize::from(*which > i);
            }
            case
        };
        let frames = if self.frames.len() > 1 {
            self.frames.len()
        } else {
            0
        };
        (0..frames)
            .map(without_frame)
            .chain((0..self.changes.len()).map(without_change))
            .collect()
    }
}
