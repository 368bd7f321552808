//! Whatever happens to a file, it is read as it was written or not at all.

mod store;

use std::time::{Duration, UNIX_EPOCH};

use lb_common::abi::{ABI_VERSION, FlowKey, FlowState, FlowValue};
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::config::{Digest, HashSeed};
use lb_core::desired::{Services, arbitrary};
use lb_core::plan::{Capacity, LayoutSnapshot};

/// A state with these services, all of whose backends were up.
pub(super) fn state(services: Services) -> SavedState {
    let backends = services.iter().flat_map(|service| {
        service
            .backends
            .iter()
            .map(move |b| (service.name.clone(), b.id()))
    });
    SavedState {
        lb_version: "0.1.0".into(),
        written: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        clock: serde_json::from_str(r#"{"boot": "4711", "at": {"secs": 3, "nanos": 500}}"#).unwrap(),
        generation: 7,
        hash_seed: HashSeed(0x0123_4567_89ab_cdef),
        capacity: Capacity {
            services: 4096,
            targets: 16_384,
            slots: 8_388_608,
            flows: 4096,
            nat_flows: 4096,
        },
        config: Some(ConfigMark {
            path: "/etc/lb/lb.toml".into(),
            sha256: Digest::of(b"[[service]]"),
        }),
        health: backends
            .map(|(service, backend)| BackendBelief {
                service,
                backend,
                up: true,
            })
            .collect(),
        drains: Vec::new(),
        tables: LayoutSnapshot::default(),
        services,
    }
}

/// That many flows.
pub(super) fn flows(count: u32) -> SavedFlows {
    let entry = |i: u32| {
        let key = FlowKey(u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (key, FlowValue::new(i % 16, FlowState::Established, i % 1000, i))
    };
    SavedFlows {
        clock: 12_345,
        entries: (0..count).map(entry).collect(),
    }
}

fn seal(bytes: &mut [u8], state: usize, abi_version: u32) {
    let generation = 7;
    format::Sealed {
        abi_version,
        generation,
        state,
    }
    .seal(bytes);
}

fn any_state() -> impl Strategy<Value = SavedState> {
    arbitrary::services().prop_map(state)
}

fn any_file() -> impl Strategy<Value = Vec<u8>> {
    (any_state(), option::of(0u32..50))
        .prop_map(|(state, count)| encode(&state, count.map(flows).as_ref()).unwrap())
}

proptest! {
    #[test]
    fn a_checkpoint_reads_back_as_written(state in any_state(), count in option::of(0u32..50)) {
        let flows = count.map(flows);
        let bytes = encode(&state, flows.as_ref()).unwrap();
        prop_assert_eq!(decode(&bytes).unwrap(), Checkpoint { state, flows });
    }

    #[test]
    fn any_bytes_are_refused(mut bytes in vec(any::<u8>(), 0..2000), like_one in any::<bool>()) {
        if like_one {
            let head = encode(&state(Services::default()), None).unwrap();
            bytes.splice(..bytes.len().min(24), head[..24].iter().copied());
        }
        prop_assert!(decode(&bytes).is_err());
    }

    /// Behind a good checksum, too: files of a later version, or made by somebody.
    #[test]
    fn any_content_is_refused_without_a_panic(payload in vec(any::<u8>(), 0..2000), state in any::<prop::sample::Index>()) {
        let state = state.index(payload.len() + 1);
        let mut bytes = vec![0; format::HEADER];
        bytes.extend(payload);
        seal(&mut bytes, state, ABI_VERSION);
        prop_assert!(matches!(decode(&bytes), Err(Unusable::Content(_))));
    }

    #[test]
    fn a_content_that_is_changed_is_understood_or_refused(
        bytes in any_file(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let (mut bytes, state) = (bytes.clone(), u64::from_le_bytes(bytes[24..32].try_into().unwrap()) as usize);
        let at = format::HEADER + at.index(bytes.len() - format::HEADER);
        bytes[at] = byte;
        seal(&mut bytes, state, ABI_VERSION);
        match decode(&bytes) {
            // What is taken can be written again.
            Ok(Checkpoint { state, flows }) => drop(encode(&state, flows.as_ref()).unwrap()),
            Err(error) => prop_assert!(matches!(error, Unusable::Content(_)), "{error}"),
        }
    }

    #[test]
    fn a_truncated_file_is_refused(bytes in any_file(), at in any::<prop::sample::Index>()) {
        prop_assert!(decode(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_longer_file_is_refused(mut bytes in any_file(), more in vec(any::<u8>(), 1..100)) {
        bytes.extend(more);
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn a_flipped_bit_is_noticed(mut bytes in any_file(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        prop_assert!(decode(&bytes).is_err());
    }
}

#[test]
fn each_kind_of_damage_has_its_words() {
    let good = encode(&state(Services::default()), None).unwrap();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    for (bytes, word) in [
        (Vec::new(), "empty"),
        (b"[[service]]".to_vec(), "no checkpoint"),
        (good[..40].to_vec(), "40 bytes instead of 72"),
        (good[..good.len() - 1].to_vec(), "cut off"),
        (changed(8, 9), "format 9"),
        (changed(good.len() - 1, 0xc1), "checksum"),
    ] {
        let error = decode(&bytes).unwrap_err().to_string();
        assert!(error.contains(word), "no {word} in: {error}");
    }
}

#[test]
fn flows_of_another_layout_are_left_out() {
    let mut bytes = encode(&state(Services::default()), Some(&flows(3))).unwrap();
    let length = u64::from_le_bytes(bytes[24..32].try_into().unwrap()) as usize;
    assert_eq!(decode(&bytes).unwrap().flows, Some(flows(3)));
    seal(&mut bytes, length, ABI_VERSION + 1);
    let Checkpoint { state: read, flows } = decode(&bytes).unwrap();
    assert_eq!((read, flows), (state(Services::default()), None));
}

#[test]
fn health_of_nobody_is_refused() {
    let lonely = SavedState {
        health: vec![BackendBelief {
            service: "web".parse().unwrap(),
            backend: "10.0.0.5".parse().unwrap(),
            up: true,
        }],
        ..state(Services::default())
    };
    let error = decode(&encode(&lonely, None).unwrap()).unwrap_err().to_string();
    assert!(error.contains("no backend 10.0.0.5"), "{error}");
}
