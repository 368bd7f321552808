//! bpf(2) where aya does not go: the state of XDP programs' links, another program in place, and their end while others
//! hold them; maps read many entries at a time.
//!
//! Invariant: every call passes a structure of its own length, whose fields are those of the kernel's `bpf_attr`.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::Arc,
};

use aya::maps::{HashMap, IterableMap, MapData, PerCpuArray};
use bytemuck::{Pod, Zeroable};

/// `enum bpf_cmd` of the kernel's UAPI.
#[derive(Clone, Copy)]
#[repr(i32)]
enum Command {
    ProgLoad = 5,
    ObjPin = 6,
    ObjGet = 7,
    ObjGetInfoByFd = 15,
    MapLookupBatch = 24,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkDetach = 34,
}

/// `BPF_XDP` of `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;
/// `BPF_LINK_TYPE_XDP` of `enum bpf_link_type`.
const LINK_TYPE_XDP: u32 = 6;

/// Where on an interface a program is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

impl Hook {
    /// `XDP_FLAGS_DRV_MODE`, `XDP_FLAGS_SKB_MODE`.
    const fn flags(self) -> u32 {
        match self {
            Self::Native => 4,
            Self::Generic => 2,
        }
    }
}

/// An XDP program on an interface. It stays there while anybody holds the link: a descriptor, or a pin.
#[derive(Clone, Debug)]
pub(crate) struct XdpLink(Arc<OwnedFd>);

/// What the kernel says about a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// The kernel's id of the link.
    pub(crate) id: u32,
    /// The kernel's id of the program that it runs.
    pub(crate) program: u32,
    /// Index of the interface; 0 when that is gone.
    pub(crate) interface: u32,
}

impl XdpLink {
    /// Attaches `program` to the interface.
    ///
    /// # Errors
    /// As the kernel says: `EBUSY` and `EEXIST` where a program runs already, `EOPNOTSUPP` where the driver cannot.
    pub(super) fn create(program: BorrowedFd<'_>, interface: u32, hook: Hook) -> io::Result<Self> {
        let fd = call_for_fd(
            Command::LinkCreate,
            LinkCreate {
                program: number(program),
                interface,
                attach_type: ATTACH_XDP,
                flags: hook.flags(),
            },
        )?;
        Ok(Self(Arc::new(fd)))
    }

    /// The link pinned at `path`.
    ///
    /// # Errors
    /// When there is none, or something else.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = c_path(path)?;
        let fd = call_for_fd(
            Command::ObjGet,
            Object {
                path: path.as_ptr() as u64,
                fd: 0,
                flags: 0,
            },
        )?;
        let link = Self(Arc::new(fd));
        link.info()?;
        Ok(link)
    }

    /// Pins the link at `path`.
    ///
    /// # Errors
    /// When the place is taken, or on no BPF file system.
    pub(crate) fn pin(&self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        let mut object = Object {
            path: path.as_ptr() as u64,
            fd: number(self.0.as_fd()),
            flags: 0,
        };
        call(Command::ObjPin, &mut object).map(drop)
    }

    /// What the kernel says about it.
    ///
    /// # Errors
    /// When it is no XDP link.
    pub(crate) fn info(&self) -> io::Result<LinkInfo> {
        let mut info = RawLinkInfo::zeroed();
        let mut question = InfoByFd {
            fd: number(self.0.as_fd()),
            length: size_of::<RawLinkInfo>() as u32,
            info: (&raw mut info) as u64,
        };
        call(Command::ObjGetInfoByFd, &mut question)?;
        if info.kind != LINK_TYPE_XDP || question.length < size_of::<RawLinkInfo>() as u32 {
            return Err(io::Error::other("it is no link of an XDP program"));
        }
        Ok(LinkInfo {
            id: info.id,
            program: info.program,
            interface: info.interface,
        })
    }

    /// Runs `program` instead of the present one, between two packets. (To have the kernel check which one that is would
    /// take a descriptor of it, and `CAP_SYS_ADMIN`; who holds a link of ours holds the lock of its directory.)
    ///
    /// # Errors
    /// When the kernel refuses; nothing has changed then.
    pub(crate) fn replace(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let mut update = LinkUpdate {
            link: number(self.0.as_fd()),
            program: number(program),
            flags: 0,
            expected: 0,
        };
        call(Command::LinkUpdate, &mut update).map(drop)
    }

    /// Takes the program off the interface now, whoever else holds the link.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn detach(&self) -> io::Result<()> {
        let mut link = LinkDetach {
            link: number(self.0.as_fd()),
        };
        call(Command::LinkDetach, &mut link).map(drop)
    }
}

/// Reads entries of a hash map: into `keys` and `values`, which are of one length, from where an earlier call left off,
/// or from the beginning. How many there were, and where the next call is to go on, if there are more.
///
/// Unlike going from key to key this does not begin anew when the present key is removed meanwhile: what is there all the
/// time is seen once.
///
/// # Errors
/// When the kernel refuses: `ENOSPC` if more entries than fit have the same hash.
pub(super) fn look_up_batch<K: aya::Pod, V: aya::Pod>(
    map: &HashMap<MapData, K, V>,
    from: Option<u32>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<(usize, Option<u32>)> {
    // The map's keys and values have the sizes of K and V: aya has made sure of that.
    let buffers = Buffers {
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: keys.len().min(values.len()),
    };
    batch(map.map(), from, buffers)
}

/// Reads entries of a per-CPU array into `values`: of each entry one value for each of the possible `cpus`, one behind the
/// other. The entries are those behind the ones that an earlier call read, or the first ones. How many there were, and where
/// the next call is to go on, if there are more.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn look_up_per_cpu_batch<V: aya::Pod>(
    map: &PerCpuArray<&MapData, V>,
    from: Option<u32>,
    keys: &mut [u32],
    values: &mut [V],
    cpus: usize,
) -> io::Result<(usize, Option<u32>)> {
    const {
        assert!(
            size_of::<V>().is_multiple_of(8),
            "the kernel rounds the value of a CPU up to eight bytes"
        );
    };
    // The map's values have the size of V: aya has made sure of that.
    let buffers = Buffers {
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: keys.len().min(values.len() / cpus.max(1)),
    };
    batch(map.map(), from, buffers)
}

/// Where the kernel writes keys and values, and how many of both have room there.
#[derive(Clone, Copy)]
struct Buffers {
    keys: u64,
    values: u64,
    count: usize,
}

/// Reads entries of a map into `buffers`, which must be made for keys and values of the map's sizes.
fn batch(map: &MapData, from: Option<u32>, buffers: Buffers) -> io::Result<(usize, Option<u32>)> {
    let Buffers { keys, values, count } = buffers;
    let (start, mut next) = (from.unwrap_or_default(), 0_u32);
    let mut batch = Batch {
        from: from.map_or(0, |_| (&raw const start) as u64),
        next: (&raw mut next) as u64,
        keys,
        values,
        count: u32::try_from(count).unwrap_or(u32::MAX),
        map: number(map.fd().as_fd()),
        entry_flags: 0,
        flags: 0,
    };
    match call(Command::MapLookupBatch, &mut batch) {
        Ok(_) => Ok((batch.count as usize, Some(next))),
        // These were the last ones.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((batch.count as usize, None)),
        Err(error) => Err(error),
    }
}

/// Loads an XDP program whose only deed is a compare-and-exchange on its stack, and drops it.
///
/// # Errors
/// `EINVAL` where the kernel knows no such instruction.
pub(super) fn try_compare_exchange() -> io::Result<()> {
    // As in memory: opcode, registers (source, destination), offset, constant.
    const INSTRUCTIONS: [[u8; 8]; 6] = [
        // r0 = 0; the word at r10 - 8 = r0; r1 = 1
        [0xb7, 0x00, 0, 0, 0, 0, 0, 0],
        [0x7b, 0x0a, 0xf8, 0xff, 0, 0, 0, 0],
        [0xb7, 0x01, 0, 0, 1, 0, 0, 0],
        // r0 = the word at r10 - 8, which becomes r1 if it is r0
        [0xdb, 0x1a, 0xf8, 0xff, 0xf1, 0, 0, 0],
        // r0 = XDP_PASS; exit
        [0xb7, 0x00, 0, 0, 2, 0, 0, 0],
        [0x95, 0x00, 0, 0, 0, 0, 0, 0],
    ];
    let load = ProgLoad {
        kind: PROG_TYPE_XDP,
        count: INSTRUCTIONS.len() as u32,
        instructions: INSTRUCTIONS.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
    };
    call_for_fd(Command::ProgLoad, load).map(drop)
}

/// `BPF_PROG_TYPE_XDP` of `enum bpf_prog_type`.
const PROG_TYPE_XDP: u32 = 6;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Batch {
    from: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    entry_flags: u64,
    flags: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    expected: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct LinkDetach {
    link: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info`, as it is of an XDP link.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    interface: u32,
    padding_after: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // Descriptors are never negative.
    fd.as_raw_fd().cast_unsigned()
}

fn call_for_fd<A: Pod>(command: Command, mut attributes: A) -> io::Result<OwnedFd> {
    let fd = call(command, &mut attributes)?;
    // SAFETY: these commands return a new descriptor, which nobody else owns; `call` has checked for an error.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<A: Pod>(command: Command, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes at most the given length of `attributes`, which is plain bytes; what it
    // points to (a path, a link's description, instructions, room for entries of the map's sizes) is alive and of the length that is told with it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as i32,
            &raw mut *attributes,
            size_of::<A>(),
        )
    };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
