//! A program on one interface, without treading on anybody's toes.

use std::{fs, io, os::fd::BorrowedFd};

use anyhow::{Result, bail};
use aya::programs::{loaded_links, loaded_programs};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::bpf::{Hook, XdpLink};
use crate::netlink::{Interface, native_refusal};
use lb_api::view::AttachMode;

/// How to attach to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Native where the driver can, else generic with a warning that says why.
    Auto,
    /// In the driver only.
    #[default]
    Native,
    /// In the kernel's stack only: slower, with any driver.
    Generic,
}

/// A program that was attached to an interface.
pub(crate) struct Hooked {
    /// It runs as long as somebody holds this.
    pub(crate) link: XdpLink,
    /// How it runs.
    pub(crate) mode: AttachMode,
    /// Why it runs in generic mode though native was tried.
    pub(crate) slow: Option<String>,
}

/// Attaches `program` to the interface.
///
/// # Errors
/// When it has another program (the message says whose), or its driver cannot.
pub(crate) fn hook(program: BorrowedFd<'_>, interface: &Interface, mode: Mode) -> Result<Hooked> {
    let name = &interface.name;
    if let Some(present) = interface.xdp.first() {
        bail!(
            "{name} has an XDP program already: {}. Stop its owner, or detach it with `{}`",
            backend_ref(present.program_id),
            detaching(present.program_id, name),
        );
    }
    let create = |hook: Hook| {
        XdpLink::create(program, interface.index, hook)
            .map_err(|error| refusal(error, program, interface, hook))
    };
    let (link, mode, slow) = match mode {
        Mode::Generic => (create(Hook::Generic)?, AttachMode::Generic, None),
        Mode::Native => (create(Hook::Native)?, AttachMode::Native, None),
        Mode::Auto => match create(Hook::Native) {
            Ok(link) => (link, AttachMode::Native, None),
            Err(why) => {
                let slow = slow(interface, &why, name);
                (create(Hook::Generic)?, AttachMode::Generic, Some(slow))
            }
        },
    };
    Ok(Hooked { link, mode, slow })
}

/// That native mode was tried on an interface in vain, and generic mode taken `on` one.
pub(super) fn slow(interface: &Interface, why: &anyhow::Error, on: &str) -> String {
    format!(
        "{}: driver {} cannot run XDP natively ({why:#}); attached to {on} in generic mode, which is several times slower",
        interface.name, interface.driver
    )
}

/// What is known to go wrong silently with such a device.
pub(super) fn advice(interface: &Interface, mode: AttachMode) -> Option<String> {
    let name = &interface.name;
    match mode {
        AttachMode::Native if interface.driver == "veth" => Some(format!(
            "{name} is a veth: what XDP sends out of it is lost unless its peer has an XDP program too (one that passes \
             everything will do), or lb runs with `--mode generic`; senders behind it must not offload checksums \
             (`ethtool -K DEVICE tx off`)"
        )),
        _ => None,
    }
}

fn refusal(error: io::Error, program: BorrowedFd<'_>, interface: &Interface, hook: Hook) -> anyhow::Error {
    let words = (hook == Hook::Native)
        .then(|| native_refusal(program, interface.index))
        .flatten();
    let (name, driver) = (&interface.name, &interface.driver);
    let what = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) if hook == Hook::Native => {
            format!("driver {driver} has no native XDP: use `--mode auto` or `--mode generic`")
        }
        Some(libc::EBUSY | libc::EEXIST) => {
            "another XDP program was attached meanwhile, or is on an interface above or below".to_owned()
        }
        Some(libc::EINVAL | libc::ERANGE) if hook == Hook::Native => format!(
            "driver {driver} refuses native XDP as {name} is set up (MTU {}, offloads, number of queues){}; or use \
             `--mode auto`",
            interface.mtu,
            if words.is_some() {
                ""
            } else {
                "; `dmesg` may say more"
            },
        ),
        Some(libc::EPERM) => "not permitted: run lb as root".to_owned(),
        _ => format!("driver {driver} refuses the program"),
    };
    let error = match words {
        Some(words) => anyhow::Error::new(error).context(format!("the kernel says {words:?}")),
        None => anyhow::Error::new(error),
    };
    error.context(format!("cannot attach to {name}: {what}"))
}

/// The command that takes the program off the interface `name`: the kernel refuses `ip link` where a link holds it there.
fn detaching(program_id: u32, name: &str) -> String {
    let mut links = loaded_links().filter_map(Result::ok);
    match links.find(|link| link.program_id() == program_id) {
        Some(link) => format!("bpftool link detach id {}", link.id()),
        None => format!("ip link set dev {name} xdp off"),
    }
}

/// A program by its kernel id, in words: its name, and the processes that hold it.
fn backend_ref(program_id: u32) -> String {
    let name = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == program_id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .unwrap_or_else(|| "unnamed".to_owned());
    let holders = holders(program_id);
    let held = if holders.is_empty() {
        "held by no process, so pinned (by an lb of another --pin-dir perhaps: `lb stop --detach --pin-dir DIR`) or attached by \
         `ip link`".to_owned()
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
