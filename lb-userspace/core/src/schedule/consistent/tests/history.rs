//! A history must lead to the table that was in use, whatever happened, and be read only if it makes sense.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::schedule::tests::named;

fn indices(table: &[BackendId], members: &[Member]) -> Vec<u16> {
    let at: HashMap<BackendId, u16> = members.iter().map(|m| m.id).zip(0..).collect();
    table.iter().map(|id| at[id]).collect()
}

fn replayed(history: &History) -> Option<Vec<BackendId>> {
    let (ids, owners) = history.replay()?;
    Some(owners.iter().map(|owner| ids[usize::from(*owner)]).collect())
}

/// As a checkpoint writes and reads it.
fn through_a_file(history: &History) -> History {
    let mut bytes = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut bytes)
        .with_struct_map()
        .with_human_readable();
    serde::Serialize::serialize(history, &mut serializer).unwrap();
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(&bytes).with_human_readable();
    serde::Deserialize::deserialize(&mut deserializer).unwrap()
}

#[test]
fn a_long_history_begins_anew_with_the_table_written_out() {
    let mut members = members(&[2; 100]);
    let mut history = History::canonical(1, 1024, &members);
    let mut table = consistent(None, &members, 1024).map(|owners| named(&owners, &members));
    let mut sizes = Vec::new();
    for generation in 2..700 {
        members[generation as usize * 7 % 100].weight ^= 1;
        table = next(Scheduler::Consistent, table.as_deref(), &members, 1024);
        let owners = indices(table.as_ref().unwrap(), &members);
        history.push(generation, 1024, &members, Some(&owners));
        // A change that is none leaves no trace.
        history.push(generation + 1, 1024, &members, Some(&owners));
        assert_eq!(history.generation(), generation);
        if generation % 64 == 0 {
            history = through_a_file(&history);
            assert_eq!(replayed(&history), table);
            sizes.push(serde_json::to_vec(&history).unwrap().len());
        }
    }
    assert!(sizes.iter().all(|size| *size < 20_000), "{sizes:?}");
}

#[test]
fn a_history_that_makes_no_sense_is_refused() {
    let members = serde_json::json!({"10.0.0.1": 1, "10.0.0.2": 1});
    let start = serde_json::json!({"generation": 5, "slots": 64, "weights": members});
    let step = |generation: u64, slots: u32| serde_json::json!({"generation": generation, "slots": slots, "weights": {"10.0.0.3": 1}});
    let read = |start: &serde_json::Value, steps: Vec<serde_json::Value>| {
        serde_json::from_value::<History>(serde_json::json!({"start": start, "steps": steps}))
            .map_err(|error| error.to_string())
    };
    let good = read(&start, vec![step(5, 64), step(6, 128)]).unwrap();
    assert_eq!(good.replay().unwrap().1.len(), 128);
    let changed = |key: &str, value: serde_json::Value| {
        let mut start = start.clone();
        start[key] = value;
        read(&start, Vec::new()).unwrap_err()
    };
    for (why, expected) in [
        (read(&start, vec![step(4, 64)]).unwrap_err(), "out of order"),
        (read(&start, vec![step(6, 65)]).unwrap_err(), "65 slots"),
        (read(&start, vec![step(6, 64); 300]).unwrap_err(), "300 steps"),
        (changed("slots", 1_048_576.into()), "1048576 slots"),
        (
            changed("weights", serde_json::json!({"10.0.0.1": 0})),
            "no weight",
        ),
        (changed("owners", serde_json::json!([1, 2])), "another length"),
    ] {
        assert!(why.contains(expected), "{why}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_history_replays_to_the_tables_that_were_in_use(
        weights in weights(), slots in slots(), steps in vec(step(), 1..30), restart in 0..30_u64,
    ) {
        let (mut members, mut slots) = (members(&weights), slots);
        let mut history = History::canonical(1, slots, &members);
        let mut table = consistent(None, &members, slots).map(|owners| named(&owners, &members));
        for (generation, step) in (2_u64..).zip(&steps) {
            prop_assert_eq!(replayed(&history), table.clone());
            step.change(&mut members, &mut slots);
            if generation.is_multiple_of(3) {
                shuffle(&mut members, generation);
            }
            table = next(Scheduler::Consistent, table.as_deref(), &members, slots);
            let owners = table.as_ref().map(|table| indices(table, &members));
            history.push(generation, slots, &members, owners.as_deref());
            if generation == restart {
                history = through_a_file(&history);
            }
        }
        prop_assert_eq!(replayed(&history), table);
        prop_assert_eq!(history.slots(), slots);
    }
}
