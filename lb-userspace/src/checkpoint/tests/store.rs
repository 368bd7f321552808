//! The directory: what is found again after crashes, damage and a full disk.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

use super::super::{Checkpoint, SavedState, SetAside, Store, Unusable, Writer, list, load};
use lb_core::desired::Services;

const KEEP: usize = 3;

fn store(state_dir: &TempDir) -> Store {
    Store::open(state_dir.path(), KEEP).unwrap()
}

fn state(generation: u64) -> SavedState {
    SavedState {
        generation,
        ..super::state(Services::default())
    }
}

/// Writes one checkpoint of each generation.
fn write(store: &mut Store, generations: impl IntoIterator<Item = u64>) {
    for generation in generations {
        store.write(&state(generation), None).unwrap();
    }
}

fn file(state_dir: &TempDir, number: u64) -> std::path::PathBuf {
    state_dir
        .path()
        .join(format!("checkpoints/{number:010}.checkpoint"))
}

fn truncate(path: &Path, length: u64) {
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length)
        .unwrap();
}

fn newest(store: &mut Store) -> (Option<u64>, Vec<SetAside>) {
    let (found, aside) = store.newest();
    (found.map(|(_, checkpoint)| checkpoint.state.generation), aside)
}

/// The generation of the newest checkpoint on disk, whoever is writing.
fn newest_on_disk(state_dir: &TempDir) -> u64 {
    let listed = list(state_dir.path()).unwrap();
    listed[0].content.as_ref().unwrap().state.generation
}

fn files(state_dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(state_dir.path().join("checkpoints")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lock")
        .collect();
    names.sort();
    names
}

#[test]
fn the_last_ones_are_kept_and_the_newest_is_found_again() {
    let directory = TempDir::new().unwrap();
    let mut first = store(&directory);
    assert_eq!(newest(&mut first), (None, vec![]));
    write(&mut first, 1..=5);
    let numbers = |directory: &TempDir| -> Vec<u64> {
        list(directory.path())
            .unwrap()
            .iter()
            .map(|listed| listed.number)
            .collect()
    };
    assert_eq!(numbers(&directory), [5, 4, 3]);
    let mode = fs::metadata(file(&directory, 5)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    drop(first);
    let mut second = store(&directory);
    assert_eq!(newest(&mut second), (Some(5), vec![]));
    write(&mut second, [6]);
    assert_eq!(numbers(&directory), [6, 5, 4]);
    assert_eq!(load(directory.path(), 4).unwrap().state.generation, 4);
    assert!(matches!(load(directory.path(), 3), Err(Unusable::Io(_))));
}

#[test]
fn what_cannot_be_used_is_set_aside_and_the_one_before_is_found() {
    let directory = TempDir::new().unwrap();
    write(&mut store(&directory), 1..=3);
    let whole = fs::read(file(&directory, 2)).unwrap();
    truncate(&file(&directory, 3), 100);
    fs::write(file(&directory, 2), [&whole[..8], &[9], &whole[9..]].concat()).unwrap();

    let mut again = store(&directory);
    let (found, aside) = newest(&mut again);
    assert_eq!(found, Some(1));
    let reasons: Vec<&str> = aside.iter().map(|aside| aside.reason.as_str()).collect();
    assert!(
        reasons[0].contains("cut off") && reasons[1].contains("format 9"),
        "{reasons:?}"
    );
    assert_eq!(
        files(&directory),
        [
            "0000000001.checkpoint",
            "0000000002.checkpoint.bad",
            "0000000003.checkpoint.bad"
        ]
    );
    // They are still listed, with what is wrong; and their numbers are not given again.
    let listed = list(directory.path()).unwrap();
    assert!(listed[0].aside && listed[0].content.is_err());
    assert!(matches!(load(directory.path(), 3), Err(Unusable::Length { .. })));
    assert_eq!(again.write(&state(4), None).unwrap().number, 4);
    drop(again);
    assert_eq!(newest(&mut store(&directory)), (Some(4), vec![]));
}

#[test]
fn a_directory_has_one_writer() {
    let directory = TempDir::new().unwrap();
    let first = store(&directory);
    let error = Store::open(directory.path(), KEEP).unwrap_err().to_string();
    assert!(error.contains("another agent"), "{error}");
    drop(first);
    store(&directory);
}

#[test]
fn nothing_but_bad_files_is_as_good_as_no_file() {
    let directory = TempDir::new().unwrap();
    write(&mut store(&directory), 1..=3);
    for number in 1..=3 {
        truncate(&file(&directory, number), 0);
    }
    let (found, aside) = newest(&mut store(&directory));
    assert_eq!((found, aside.len()), (None, 3));
}

#[test]
fn not_all_that_was_ever_set_aside_is_kept() {
    let directory = TempDir::new().unwrap();
    let mut store = store(&directory);
    for generation in 1..=20 {
        let number = store.write(&state(generation), None).unwrap().number;
        truncate(&file(&directory, number), 10);
        store.newest();
    }
    write(&mut store, [21]);
    let aside = list(directory.path())
        .unwrap()
        .into_iter()
        .filter(|listed| listed.aside);
    let aside: Vec<u64> = aside.map(|listed| listed.number).collect();
    assert_eq!(aside, (5..=20).rev().collect::<Vec<_>>());
}

#[test]
fn the_last_flows_outlive_many_states() {
    let directory = TempDir::new().unwrap();
    let mut first = store(&directory);
    first.write(&state(1), Some(&super::flows(9))).unwrap();
    first.write(&state(2), Some(&super::flows(10))).unwrap();
    write(&mut first, 3..=20);
    drop(first);
    let mut again = store(&directory);
    let (found, _) = again.newest_with_flows();
    let (number, Checkpoint { flows, .. }) = found.unwrap();
    assert_eq!((number, flows), (2, Some(super::flows(10))));
    assert_eq!(files(&directory).len(), KEEP + 1);

    again.write(&state(21), Some(&super::flows(0))).unwrap();
    assert_eq!(files(&directory).len(), KEEP);
}

#[test]
fn what_a_crash_left_beside_and_foreign_files_are_no_checkpoints() {
    let directory = TempDir::new().unwrap();
    write(&mut store(&directory), 1..=2);
    let here = directory.path().join("checkpoints");
    fs::write(here.join("next.tmp"), b"half").unwrap();
    for foreign in ["7.checkpoint", "0000000009.checkpoint.old", "notes.txt"] {
        fs::write(here.join(foreign), b"mine").unwrap();
    }
    assert_eq!(newest(&mut store(&directory)), (Some(2), vec![]));
    assert_eq!(files(&directory).len(), 2 + 3, "the foreign ones are left alone");
    // A directory in the place of a file is no file.
    fs::create_dir(here.join("0000000003.checkpoint")).unwrap();
    let (found, aside) = newest(&mut store(&directory));
    assert_eq!((found, aside.len()), (Some(2), 1));
}

#[tokio::test]
async fn a_failure_is_told_and_passes() {
    let directory = TempDir::new().unwrap();
    let here = directory.path().join("checkpoints");
    let writer = Writer::spawn(store(&directory)).unwrap();
    let written = writer.save(state(1), None).await.unwrap().unwrap();
    assert_eq!((written.number, written.generation), (1, 1));

    fs::rename(&here, directory.path().join("away")).unwrap();
    let why = writer.save(state(2), None).await.unwrap().unwrap_err();
    assert!(why.contains("0000000002.checkpoint"), "{why}");
    let condition = writer.condition();
    assert_eq!(condition.failing.unwrap().1, why);
    assert_eq!(
        condition.last.unwrap().0,
        written,
        "the old one is still the last"
    );

    fs::rename(directory.path().join("away"), &here).unwrap();
    writer.save(state(3), None).await.unwrap().unwrap();
    assert_eq!(writer.condition().failing, None);
    assert_eq!(newest_on_disk(&directory), 3);
}

#[tokio::test]
async fn a_writer_that_panics_is_a_failure_that_passes() {
    let directory = TempDir::new().unwrap();
    let (mut store, mut stumbles) = (store(&directory), true);
    let writer = Writer::spawn_with(move |state, flows| {
        assert!(!std::mem::take(&mut stumbles), "the disk bites");
        store.write(state, flows).map_err(|error| error.to_string())
    });
    let writer = writer.unwrap();
    let why = writer.save(state(1), None).await.unwrap().unwrap_err();
    assert!(why.contains("the disk bites"), "{why}");
    assert_eq!(writer.condition().failing.unwrap().1, why);
    writer.save(state(2), None).await.unwrap().unwrap();
    assert_eq!(writer.condition().failing, None);
    assert_eq!(newest_on_disk(&directory), 2);
}

#[tokio::test]
async fn a_burst_of_states_ends_with_the_last_one() {
    let directory = TempDir::new().unwrap();
    let writer = Writer::spawn(store(&directory)).unwrap();
    let flows = writer.save(state(1), Some(super::flows(5)));
    let told: Vec<_> = (2..=500)
        .map(|generation| (generation, writer.save(state(generation), None)))
        .collect();
    assert_eq!(flows.await.unwrap().unwrap().generation, 1);
    for (generation, told) in told {
        let written = told.await.unwrap().unwrap();
        assert!(
            written.generation >= generation,
            "{generation} waited for {written:?}"
        );
    }
    assert_eq!(newest_on_disk(&directory), 500);
    let first = load(directory.path(), 1).unwrap();
    assert_eq!((first.state.generation, first.flows), (1, Some(super::flows(5))));
}

#[test]
fn states_of_one_generation_do_not_push_out_earlier_ones() {
    let directory = TempDir::new().unwrap();
    let mut store = store(&directory);
    write(&mut store, [1, 2, 2, 3, 3, 3, 3, 3]);
    let listed = list(directory.path()).unwrap();
    let kept: Vec<(u64, u64)> = listed
        .iter()
        .map(|listed| (listed.number, listed.content.as_ref().unwrap().state.generation))
        .collect();
    assert_eq!(kept, [(8, 3), (7, 3), (3, 2)]);
}

#[test]
fn after_the_highest_number_files_are_found_all_the_same() {
    for highest in [
        "9999999999",
        "10000000000",
        "99999999999999999",
        "9223372036854775807",
        "18446744073709551615",
    ] {
        let directory = TempDir::new().unwrap();
        let mut first = store(&directory);
        write(&mut first, 1..=2);
        drop(first);
        let here = directory.path().join("checkpoints");
        // Somebody has given one a number by hand, and set another aside.
        fs::copy(file(&directory, 2), here.join(format!("{highest}.checkpoint"))).unwrap();
        fs::write(here.join("0000000002.checkpoint.bad"), b"bad").unwrap();
        let mut second = store(&directory);
        assert_eq!(newest(&mut second), (Some(2), vec![]), "{highest}");
        write(&mut second, [3]);
        drop(second);
        let mut third = store(&directory);
        assert_eq!(newest(&mut third), (Some(3), vec![]), "{highest}");
        write(&mut third, [4, 5]);
        drop(third);
        assert_eq!(newest(&mut store(&directory)), (Some(5), vec![]), "{highest}");
        assert_eq!(newest_on_disk(&directory), 5, "{highest}");
        assert!(
            files(&directory).len() <= KEEP + 1,
            "{highest}: {:?}",
            files(&directory)
        );
    }
}

#[test]
fn names_of_checkpoints_are_written_in_one_way() {
    let directory = TempDir::new().unwrap();
    write(&mut store(&directory), 1..=2);
    let here = directory.path().join("checkpoints");
    for foreign in [
        "00000000003.checkpoint",
        "18446744073709551616.checkpoint",
        "+000000003.checkpoint",
        "000000000x.checkpoint",
    ] {
        fs::copy(file(&directory, 1), here.join(foreign)).unwrap();
    }
    assert_eq!(newest(&mut store(&directory)), (Some(2), vec![]));
}
