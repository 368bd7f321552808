//! Packets of every kind that the model knows: for services and for nobody, whole and in fragments, right and damaged.

mod ends;
mod follow;
mod pieces;
mod quic;
mod whole;

use lb_world::World;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    case::{Case, Change},
    machine::Did,
    world::is_vip_of_fullnat,
};
use follow::{Exchanges, packet};

/// Bytes of a frame that are damaged: headers, and a little more.
const DAMAGED: usize = 130;
/// The shortest frame that the kernel runs a program on.
const MIN_FRAME: usize = 14;
/// The longest that it takes.
const MAX_FRAME: usize = 3300;
/// EtherTypes of VLAN tags.
const TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
/// TTLs and hop limits.
const TTLS: [u8; 6] = [64, 64, 255, 2, 1, 0];

/// A reproducible sequence of cases.
pub(super) struct Generator<'w> {
    world: &'w World,
    numbers: StdRng,
    cases: u32,
    exchanges: Exchanges,
}

impl<'w> Generator<'w> {
    pub(super) fn new(seed: u64, world: &'w World) -> Self {
        Self {
            world,
            numbers: StdRng::seed_from_u64(seed),
            cases: 0,
            exchanges: Exchanges::default(),
        }
    }

    /// Takes note of what became of packets, for other cases to follow on it; `frames` ends with the packet that did so.
    pub(super) fn note(&mut self, frames: &[Vec<u8>], did: &Did) {
        self.exchanges.note(frames, did);
    }

    /// The next case.
    pub(super) fn case(&mut self) -> Case {
        self.cases = self.cases.wrapping_add(1);
        let frames = match self.numbers.random_range(0..28) {
            0..=6 => {
                let ends = self.ends();
                vec![self.plain(ends).bytes()]
            }
            7 | 8 => vec![self.syn()],
            9 => vec![self.echo()],
            10..=12 => vec![self.error()],
            13 | 14 => vec![self.extended()],
            15..=17 => self.fragments(),
            18 => vec![self.returned()],
            19 => vec![self.other()],
            20 | 21 => vec![self.quic()],
            _ => self.followed(),
        };
        let frames = frames.into_iter().map(|frame| self.tagged(frame)).collect();
        let mut case = Case {
            frames,
            changes: Vec::new(),
        };
        if self.numbers.random_ratio(2, 5) {
            for _ in 0..self.numbers.random_range(1..=3) {
                self.damage(&mut case);
            }
        }
        case
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.numbers.random_ratio(1, n)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.numbers.random_range(0..of.len())]
    }

    fn quoted_payload(&self, packet: &[u8]) -> usize {
        let header = if packet[0] >> 4 == 4 {
            usize::from(packet[0] & 15) * 4
        } else {
            40
        };
        packet.len() - header
    }

    /// Behind VLAN tags, now and then.
    fn tagged(&mut self, frame: Vec<u8>) -> Vec<u8> {
        if !self.one_in(5) {
            return frame;
        }
        let count = self.pick(&[1, 1, 2, 2, 3]);
        let tags: Vec<u8> = (0..count)
            .flat_map(|_| {
                let kind = self.pick(&TAGS);
                let vlan: [u8; 2] = self.numbers.random();
                [kind, vlan].concat()
            })
            .collect();
        [&frame[..12], &tags, &frame[12..]].concat()
    }

    /// One change more. The destination stays, since routes are not known of every address, and the net of a source that
    /// answers go to by way of the balancer.
    fn damage(&mut self, case: &mut Case) {
        let which = self.numbers.random_range(0..case.frames.len());
        let frame = &case.frames[which];
        let change = match self.numbers.random_range(0..10) {
            0 => Change::Cut(self.numbers.random_range(MIN_FRAME..=frame.len())),
            1 if frame.len() < MAX_FRAME => Change::Pad(self.numbers.random_range(1..40)),
            _ => {
                let at = self.numbers.random_range(0..frame.len().min(DAMAGED));
                let tags = tags(frame);
                let at_untagged = at.wrapping_sub(tags);
                // The flow of a client that does not exist could be hit by what answers another's.
                let (net, destination) = if frame[12 + tags] == 0x08 {
                    (26..28, 30..34)
                } else {
                    (22..26, 38..54)
                };
                let hides =
                    || packet(frame).is_some_and(|parsed| is_vip_of_fullnat(self.world, parsed.destination));
                if destination.contains(&at_untagged) || net.contains(&at_untagged) && hides() {
                    return;
                }
                let byte = frame[at];
                let value = match self.numbers.random_range(0..3) {
                    0 => self.numbers.random(),
                    1 => byte.wrapping_add(self.pick(&[1, 255])),
                    _ => byte ^ 1 << self.numbers.random_range(0..8),
                };
                Change::Byte { at, value }
            }
        };
        case.changes.push((which, change));
    }
}

/// Length of the tags of a frame.
fn tags(frame: &[u8]) -> usize {
    let is_tag = |at: usize| {
        frame
            .get(at..at + 2)
            .is_some_and(|kind| TAGS.iter().any(|tag| tag == kind))
    };
    let mut len = 0;
    while is_tag(12 + len) {
        len += 4;
    }
    len
}
