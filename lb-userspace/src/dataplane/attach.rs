//! Attaching the program to interfaces, without treading on anybody's toes.

use std::fs;

use anyhow::{Context, Result, anyhow, bail};
use aya::programs::{ProgramError, XdpMode, links::FdLink, loaded_programs, xdp::XdpLink};
use clap::ValueEnum;

use super::Dataplane;
use crate::{api::view::AttachMode, netlink::Interface};

/// How to attach to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Native where the driver can, else generic with a warning that says why.
    Auto,
    /// In the driver only.
    #[default]
    Native,
    /// In the kernel's stack only: slower, with any driver.
    Generic,
}

/// The program attached to an interface; dropping this detaches it.
#[derive(Debug)]
pub struct Attached {
    /// The interface as it was found.
    pub interface: Interface,
    /// How the program is attached.
    pub mode: AttachMode,
    /// What the operator should know about this attachment.
    pub warnings: Vec<String>,
    _link: FdLink,
}

/// Attaches the dataplane's program to `interface`.
///
/// # Errors
/// When a program is attached there already (the message says whose), or the driver cannot.
pub fn attach(dataplane: &mut Dataplane, interface: Interface, mode: Mode) -> Result<Attached> {
    if let Some(present) = interface.xdp.first() {
        bail!(
            "{} has an XDP program already: {}. Stop its owner, or detach it with `ip link set dev {} xdp off`",
            interface.name,
            whose(present.program_id),
            interface.name
        );
    }
    let mut warnings = Vec::new();
    let (link, mode) = match mode {
        Mode::Generic => (create(dataplane, &interface, XdpMode::Skb)?, AttachMode::Generic),
        Mode::Native => (
            create(dataplane, &interface, XdpMode::Driver)?,
            AttachMode::Native,
        ),
        Mode::Auto => match create(dataplane, &interface, XdpMode::Driver) {
            Ok(link) => (link, AttachMode::Native),
            Err(why) => {
                warnings.push(format!(
                    "{}: driver {} cannot run XDP natively ({why:#}); attached in generic mode, which is several times \
                     slower",
                    interface.name, interface.driver
                ));
                (create(dataplane, &interface, XdpMode::Skb)?, AttachMode::Generic)
            }
        },
    };
    warnings.extend(advice(&interface, mode));
    Ok(Attached {
        interface,
        mode,
        warnings,
        _link: link,
    })
}

/// What is known to go wrong silently with such a device.
fn advice(interface: &Interface, mode: AttachMode) -> Option<String> {
    let name = &interface.name;
    match mode {
        AttachMode::Native if interface.driver == "veth" => Some(format!(
            "{name} is a veth: what XDP sends out of it is lost unless its peer has an XDP program too (one that passes \
             everything will do), or lb runs with `--mode generic`; senders behind it must not offload checksums \
             (`ethtool -K DEVICE tx off`)"
        )),
        AttachMode::Generic => Some(format!(
            "{name} is in generic mode: switch off merging of packets, or large ones are dropped as too big \
             (`ethtool -K {name} gro off lro off`)"
        )),
        AttachMode::Native => None,
    }
}

fn create(dataplane: &mut Dataplane, interface: &Interface, mode: XdpMode) -> Result<FdLink> {
    let program = dataplane.program_mut()?;
    let id = program
        .attach_to_if_index(interface.index, mode)
        .map_err(|error| refusal(error, interface, mode))?;
    let link: XdpLink = program.take_link(id)?;
    // A kernel that knows no XDP links was given the program by netlink; that would outlive this process.
    FdLink::try_from(link)
        .map_err(|_| anyhow!("the kernel cannot attach XDP by a BPF link: lb needs Linux 5.15 or later"))
}

fn refusal(error: ProgramError, interface: &Interface, mode: XdpMode) -> anyhow::Error {
    let errno = match &error {
        ProgramError::SyscallError(syscall) => syscall.io_error.raw_os_error(),
        _ => None,
    };
    let (name, driver) = (&interface.name, &interface.driver);
    let what = match errno {
        Some(libc::EOPNOTSUPP) if mode == XdpMode::Driver => {
            format!("driver {driver} has no native XDP: use `--mode auto` or `--mode generic`")
        }
        Some(libc::EBUSY | libc::EEXIST) => "another XDP program was attached meanwhile".to_owned(),
        Some(libc::EINVAL | libc::ERANGE) if mode == XdpMode::Driver => format!(
            "driver {driver} refuses native XDP as {name} is set up (MTU {}, offloads, number of queues); `dmesg` may \
             say more; or use `--mode auto`",
            interface.mtu
        ),
        Some(libc::EPERM) => "not permitted: run lb as root".to_owned(),
        _ => format!("driver {driver} refuses the program"),
    };
    anyhow::Error::new(error).context(format!("cannot attach to {name}: {what}"))
}

/// A program by its kernel id, in words: its name, and the processes that hold it.
fn whose(program_id: u32) -> String {
    let name = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == program_id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .unwrap_or_else(|| "unnamed".to_owned());
    let holders = holders(program_id);
    let held = if holders.is_empty() {
        "held by no process, so pinned or attached by `ip link`".to_owned()
    } else {
        format!("held by {}", holders.join(", "))
    };
    format!("{name:?} (program id {program_id}), {held}")
}

/// Processes with a descriptor of that program or of a link to it: "comm (pid)".
fn holders(program_id: u32) -> Vec<String> {
    let wanted = format!("prog_id:\t{program_id}");
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for process in processes.filter_map(Result::ok) {
        let Ok(infos) = fs::read_dir(process.path().join("fdinfo")) else {
            continue;
        };
        let holds = infos.filter_map(Result::ok).any(|info| {
            fs::read_to_string(info.path()).is_ok_and(|text| text.lines().any(|line| line == wanted))
        });
        if holds {
            let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(format!(
                "{} (pid {})",
                comm.trim_end(),
                process.file_name().to_string_lossy()
            ));
        }
    }
    found
}

impl Dataplane {
    /// The kernel's id of the program.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn program_id(&self) -> Result<u32> {
        Ok(self
            .program()?
            .info()
            .context("cannot ask the kernel about the program")?
            .id())
    }
}
