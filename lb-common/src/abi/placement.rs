//! How a packet's backend was found.

macro_rules! placements {
    ($($(#[doc = $doc:literal])+ $number:literal $variant:ident $name:literal;)+) => {
        /// How a packet's backend was found; [`super::Trace::placement`] holds its number. Numbers are append-only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Placement {
            $($(#[doc = $doc])+ $variant = $number),+
        }

        impl Placement {
            /// Its number, for a word that stands for it.
            #[inline(always)]
            pub const fn number(self) -> u16 {
                self as u16
            }

            /// The placement of that number.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// Its name, the same for ever.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// A sentence about it.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

placements! {
    /// By its slot alone: the slot is stable.
    0 Slot "slot";
    /// The flow table has the flow.
    1 Known "known";
    /// A new flow: it goes to the slot's owner and is written down.
    2 Opened "opened";
    /// The flow was there before its slot changed hands: it stays with the previous owner and is written down.
    3 Adopted "adopted";
    /// It goes to the slot's owner without being written down: nobody else has unknown flows here.
    4 Current "current";
    /// It stays with the slot's previous owner without being written down.
    5 Previous "previous";
    /// A new flow that finds no room, or too many new ones: it goes where its next packets will, to the previous owner.
    6 Refused "refused";
    /// By its QUIC connection ID, which names the backend.
    7 ConnectionId "connection-id";
    /// A later fragment: by the ports that the first one showed.
    8 Fragment "fragment";
    /// The address translation (fullnat) has the flow.
    9 Translated "translated";
}
