//! Pinned dataplanes as text: recorded for each version of the tables, laid out again by tests of upgrades.
//!
//! ```text
//! # a remark
//! map maps/SLOTS kind=2 key=4 value=64 entries=262144 flags=0x400
//! 17 1 0 8000
//! program program
//! ```
//!
//! Below a map stand those of its entries that are not all zeros: the index, then words of 8 bytes in hexadecimal,
//! without the zeros at the end. That is done for arrays; of other maps (counters, interfaces) the shape is kept, and
//! of links nothing.

use std::{
    fmt::Write as _,
    fs,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use aya::{
    Pod,
    maps::{Array, Map, MapData, MapInfo},
};
use lb_userspace::{dataplane::Dataplane, plan::Capacity};

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `BPF_F_RDONLY_PROG`, which the kernel sets itself on some maps and refuses to be given for them.
const SET_BY_THE_KERNEL: u32 = 1 << 7;
/// Most words of an entry.
const MAX_WORDS: usize = 16;

/// Writes down what is pinned in `directory`, two levels deep.
///
/// # Errors
/// When the directory or a map cannot be read.
pub fn record(directory: &Path) -> Result<String> {
    let mut text = String::new();
    for path in sorted(directory)? {
        if path.is_dir() {
            for pin in sorted(&path)? {
                record_pin(directory, &pin, &mut text)?;
            }
        } else {
            record_pin(directory, &path, &mut text)?;
        }
    }
    Ok(text)
}

/// Makes and pins in `directory` what `text` says. Programs are all the present one.
///
/// # Errors
/// When the text cannot be read, or the kernel refuses.
pub fn lay_out(text: &str, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("map"), Some(name)) => {
                let shape = Shape::parse(words).with_context(|| format!("in {line:?}"))?;
                let mut entries = Vec::new();
                while let Some(entry) = lines.next_if(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
                    entries.push(parse_entry(entry).with_context(|| format!("in {entry:?}"))?);
                }
                let data = shape.make(name)?;
                pin(directory, name, |path| Ok(data.pin(path)?))?;
                fill(data, shape, &entries).with_context(|| format!("cannot fill {name}"))?;
            }
            (Some("program"), Some(name)) => {
                let capacity = Capacity {
                    services: 1,
                    targets: 1,
                    slots: 65_536,
                    flows: 4096,
                };
                let mut dataplane = Dataplane::load(&capacity, 0, false)?;
                pin(directory, name, |path| Ok(dataplane.program_mut()?.pin(path)?))?;
            }
            _ => bail!("{line:?} is neither a map nor a program"),
        }
    }
    Ok(())
}

/// What a map is made by.
#[derive(Clone, Copy)]
struct Shape {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
}

impl Shape {
    fn of(info: &MapInfo) -> Result<Self> {
        Ok(Self {
            kind: info.map_type()? as u32,
            key: info.key_size(),
            value: info.value_size(),
            entries: info.max_entries(),
            flags: info.map_flags() & !SET_BY_THE_KERNEL,
        })
    }

    fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut shape = Self {
            kind: 0,
            key: 0,
            value: 0,
            entries: 0,
            flags: 0,
        };
        for word in words {
            let (name, number) = word.split_once('=').context("a word without =")?;
            let number = match number.strip_prefix("0x") {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16)?,
                None => number.parse()?,
            };
            match name {
                "kind" => shape.kind = number,
                "key" => shape.key = number,
                "value" => shape.value = number,
                "entries" => shape.entries = number,
                "flags" => shape.flags = number,
                other => bail!("{other} is no property of a map"),
            }
        }
        Ok(shape)
    }

    fn make(self, name: &str) -> Result<MapData> {
        let Self {
            kind,
            key,
            value,
            entries,
            flags,
        } = self;
        let map = aya_obj::Map::new_from_params(kind, key, value, entries, flags);
        let name = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
        // The kernel takes no hyphens here, which stand for dots in names of pins.
        let name = name.replace('-', "_");
        MapData::create(map, &name, None).with_context(|| format!("cannot make {name}"))
    }

    /// How many words an entry has, if entries are kept.
    fn words(self) -> Option<usize> {
        let words = self.value as usize / size_of::<u64>();
        let kept = self.kind == ARRAY && self.value.is_multiple_of(8) && words <= MAX_WORDS;
        kept.then_some(words)
    }
}

/// Evaluates `call`, in which `N` is the number of words of an entry.
macro_rules! by_words {
    ($words:expr, $n:ident => $call:expr) => {
        by_words!(@ $words, $n => $call, 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    (@ $words:expr, $n:ident => $call:expr, $($count:literal)*) => {
        match $words {
            $($count => {
                const $n: usize = $count;
                $call
            })*
            words => bail!("entries of {words} words are not kept"),
        }
    };
}

fn record_pin(directory: &Path, pin: &Path, text: &mut String) -> Result<()> {
    let name = pin.strip_prefix(directory)?.display();
    // aya opens whatever is pinned there; what it is shows in the name that the kernel gives the descriptor.
    let data = MapData::from_pin(pin).with_context(|| format!("cannot open {}", pin.display()))?;
    let fd = format!("/proc/self/fd/{}", data.fd().as_fd().as_raw_fd());
    match fs::read_link(fd)?.to_string_lossy().as_ref() {
        "anon_inode:bpf-map" => {}
        "anon_inode:bpf-prog" => return Ok(writeln!(text, "program {name}")?),
        // Links are to interfaces that exist nowhere else.
        _ => return Ok(()),
    }
    let shape = Shape::of(&data.info()?)?;
    let Shape {
        kind,
        key,
        value,
        entries,
        flags,
    } = shape;
    writeln!(
        text,
        "map {name} kind={kind} key={key} value={value} entries={entries} flags={flags:#x}"
    )?;
    match shape.words() {
        Some(words) => by_words!(words, N => record_entries::<N>(data, text)),
        None => Ok(()),
    }
}

fn record_entries<const N: usize>(data: MapData, text: &mut String) -> Result<()>
where
    [u64; N]: Pod,
{
    let array: Array<_, [u64; N]> = Map::Array(data).try_into()?;
    for index in 0..array.len() {
        let entry = array.get(&index, 0)?;
        let used = entry
            .iter()
            .rposition(|&word| word != 0)
            .map_or(0, |last| last + 1);
        if used > 0 {
            write!(text, "{index}")?;
            for word in &entry[..used] {
                write!(text, " {word:x}")?;
            }
            writeln!(text)?;
        }
    }
    Ok(())
}

fn parse_entry(line: &str) -> Result<(u32, Vec<u64>)> {
    let (index, words) = line.split_once(' ').context("an index without words")?;
    let words = words.split(' ').map(|word| u64::from_str_radix(word, 16));
    Ok((index.parse()?, words.collect::<Result<_, _>>()?))
}

fn fill(data: MapData, shape: Shape, entries: &[(u32, Vec<u64>)]) -> Result<()> {
    match shape.words() {
        Some(words) => by_words!(words, N => fill_array::<N>(data, entries)),
        None => {
            ensure!(entries.is_empty(), "it is no array of words");
            Ok(())
        }
    }
}

fn fill_array<const N: usize>(data: MapData, entries: &[(u32, Vec<u64>)]) -> Result<()>
where
    [u64; N]: Pod,
{
    let mut array: Array<_, [u64; N]> = Map::Array(data).try_into()?;
    for (index, words) in entries {
        let mut entry = [0; N];
        let room = entry
            .get_mut(..words.len())
            .context("an entry with too many words")?;
        room.copy_from_slice(words);
        array.set(*index, entry, 0)?;
    }
    Ok(())
}

fn pin(directory: &Path, name: &str, pin: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let path = directory.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    pin(&path).with_context(|| format!("cannot pin {}", path.display()))
}

fn sorted(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
