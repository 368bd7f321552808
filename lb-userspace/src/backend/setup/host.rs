//! Taking steps on this host, and undoing them: kernel settings, addresses, routes, commands.

use std::{fs, net::IpAddr, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::{
    Handle, LinkUnspec, RouteMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
        link::{InfoData, InfoVrf, LinkAttribute, LinkInfo},
        route::{RouteMessage, RouteScope, RouteType},
    },
};
use tokio::task::JoinSet;

use super::{
    SetupChange, SetupStep,
    done::Undo,
    plan::Kernel,
    route_message::{self, default_route, same_way, set_table},
    step::LOOPBACK,
};
use crate::backend::decap::{self, Decap, DecapRules};
use crate::dataplane::PinDir;
use crate::netlink::{find_carrier, find_interface};
use lb_core::desired::Forwarder;

/// The routing table of the host's own addresses (`RT_TABLE_LOCAL`).
const TABLE_LOCAL: u32 = 255;

/// The network of the calling thread's namespace.
pub(super) struct HostNetwork {
    handle: Handle,
    /// Drives the connection; aborted when this is dropped.
    _driver: JoinSet<()>,
}

impl HostNetwork {
    pub(super) fn open() -> Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().context("cannot open an rtnetlink socket")?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self {
            handle,
            _driver: driver,
        })
    }

    /// Takes a step; the way back, or `None` if everything was so already. `before` is what was done to the step's
    /// `lb decap`.
    pub(super) async fn take(&self, step: &SetupStep, before: Option<&SetupStep>) -> Result<Option<Undo>> {
        match step {
            SetupStep::Sysctl { key, value, fine } => set(key, value, fine),
            SetupStep::LooseReversePath { interface } => loosen(interface),
            SetupStep::Address { address, vrf } => self.add_address(*address, vrf.as_deref()).await,
            SetupStep::LocalRoute { prefix, vrf } => {
                let route = self.local(*prefix, vrf.as_deref()).await?;
                self.replace_route(route).await
            }
            SetupStep::DefaultRoute { via, vrf } => {
                let mut route = default_route(*via);
                if let Some(vrf) = vrf {
                    set_table(&mut route, self.table_of(vrf).await?);
                }
                self.replace_route(route).await
            }
            SetupStep::Mtu { interface, mtu } => self.set_mtu(interface, *mtu).await,
            SetupStep::Command { command, .. } => run(command).map(|()| Some(Undo::Command)),
            SetupStep::Decap { .. } => attach(step, before).await,
        }
    }

    pub(super) async fn undo(&self, change: &SetupChange) -> Result<()> {
        let SetupChange { step, undo } = change;
        match undo {
            Undo::Sysctl { key, value } => write(key, value),
            Undo::RemoveAddress { address, vrf } => self.remove_address(*address, vrf.as_deref()).await,
            Undo::Route { made, before } => self.undo_route(made, before.as_deref()).await,
            Undo::Mtu { interface, mtu } => self.set_mtu(interface, *mtu).await.map(drop),
            Undo::Command => match step {
                SetupStep::Command { undo, .. } if !undo.is_empty() => run(undo),
                _ => Ok(()),
            },
            Undo::Decap => match step {
                SetupStep::Decap { pin_dir, .. } => decap::detach(pin_dir).map(drop),
                _ => Ok(()),
            },
        }
    }

    async fn add_address(&self, address: IpAddr, vrf: Option<&str>) -> Result<Option<Undo>> {
        let device = index_of(vrf.unwrap_or(LOOPBACK)).await?;
        // In the host's own network any interface may have it; in a VRF the device itself must.
        let has = match vrf {
            None => crate::netlink::own_addresses().await?.contains(&address),
            Some(_) => self.find_address(device, address).await?.is_some(),
        };
        if has {
            return Ok(None);
        }
        let length = IpNet::from(address).prefix_len();
        let mut request = self.handle.address().add(device, address, length);
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await?;
        let vrf = vrf.map(str::to_owned);
        Ok(Some(Undo::RemoveAddress { address, vrf }))
    }

    async fn remove_address(&self, address: IpAddr, vrf: Option<&str>) -> Result<()> {
        let device = index_of(vrf.unwrap_or(LOOPBACK)).await?;
        match self.find_address(device, address).await? {
            Some(message) => Ok(self.handle.address().del(message).execute().await?),
            // Somebody else removed it.
            None => Ok(()),
        }
    }

    async fn find_address(&self, device: u32, address: IpAddr) -> Result<Option<AddressMessage>> {
        let of_device = self.handle.address().get().set_link_index_filter(device);
        let all: Vec<_> = of_device.execute().try_collect().await?;
        Ok(all.into_iter().find(|message| {
            message.header.scope != AddressScope::Link
                && message.attributes.iter().any(|attribute| {
                    matches!(attribute, AddressAttribute::Address(found) | AddressAttribute::Local(found) if *found == address)
                })
        }))
    }

    async fn local(&self, prefix: IpNet, vrf: Option<&str>) -> Result<RouteMessage> {
        let mut message = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(prefix.network(), prefix.prefix_len())?
            .output_interface(index_of(vrf.unwrap_or(LOOPBACK)).await?)
            .build();
        message.header.kind = RouteType::Local;
        message.header.scope = RouteScope::Host;
        // A VRF has one table for everything.
        let table = match vrf {
            Some(vrf) => self.table_of(vrf).await?,
            None => TABLE_LOCAL,
        };
        set_table(&mut message, table);
        Ok(message)
    }

    /// The routing table of a VRF device.
    async fn table_of(&self, vrf: &str) -> Result<u32> {
        let mut links = self.handle.link().get().match_name(vrf.to_owned()).execute();
        let link = links.try_next().await?.context("the VRF device is gone")?;
        let infos = link
            .attributes
            .into_iter()
            .filter_map(|attribute| match attribute {
                LinkAttribute::LinkInfo(infos) => Some(infos),
                _ => None,
            });
        let table = infos.flatten().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vrf(data)) => data.into_iter().find_map(|datum| match datum {
                InfoVrf::TableId(table) => Some(table),
                _ => None,
            }),
            _ => None,
        });
        table.with_context(|| format!("{vrf} is no VRF device any more"))
    }

    /// Makes a route, in the place of another to the same destination if there is one.
    async fn replace_route(&self, wanted: RouteMessage) -> Result<Option<Undo>> {
        let before = self.like(&wanted).await?;
        if before.as_ref().is_some_and(|before| same_way(before, &wanted)) {
            return Ok(None);
        }
        self.handle
            .route()
            .add(wanted.clone())
            .replace()
            .execute()
            .await?;
        Ok(Some(Undo::Route {
            made: route_message::bytes(&wanted),
            before: before.as_ref().map(route_message::bytes),
        }))
    }

    async fn undo_route(&self, made: &[u8], before: Option<&[u8]>) -> Result<()> {
        let made = route_message::route(made)?;
        match before {
            Some(before) => Ok(self
                .handle
                .route()
                .add(route_message::route(before)?)
                .replace()
                .execute()
                .await?),
            // Somebody else may have removed it.
            None if self.like(&made).await?.is_none() => Ok(()),
            None => Ok(self.handle.route().del(made).execute().await?),
        }
    }

    /// The route that a new one would take the place of.
    async fn like(&self, wanted: &RouteMessage) -> Result<Option<RouteMessage>> {
        let mut question = RouteMessage::default();
        question.header.address_family = wanted.header.address_family;
        let all: Vec<RouteMessage> = self.handle.route().get(question).execute().try_collect().await?;
        Ok(all.into_iter().find(|found| {
            route_message::table(found) == route_message::table(wanted)
                && found.header.destination_prefix_length == wanted.header.destination_prefix_length
                && route_message::destination(found) == route_message::destination(wanted)
                && route_message::metric(found) == route_message::metric(wanted)
        }))
    }

    async fn set_mtu(&self, interface: &str, mtu: u32) -> Result<Option<Undo>> {
        let found = find_interface(interface).await?;
        if found.mtu == mtu {
            return Ok(None);
        }
        let link = LinkUnspec::new_with_index(found.index).mtu(mtu).build();
        self.handle.link().set(link).execute().await?;
        Ok(Some(Undo::Mtu {
            interface: interface.to_owned(),
            mtu: found.mtu,
        }))
    }
}

async fn index_of(interface: &str) -> Result<u32> {
    Ok(find_interface(interface).await?.index)
}

fn set(key: &str, value: &str, fine: &[String]) -> Result<Option<Undo>> {
    let present = read(key)?;
    if present == value || fine.contains(&present) {
        return Ok(None);
    }
    write(key, value)?;
    Ok(Some(Undo::Sysctl {
        key: key.to_owned(),
        value: present,
    }))
}

/// The larger of `all` and the interface's own value counts: 0 is off, 1 strict, 2 loose.
fn loosen(interface: &str) -> Result<Option<Undo>> {
    let key = format!("net/ipv4/conf/{interface}/rp_filter");
    let both = [read("net/ipv4/conf/all/rp_filter")?, read(&key)?];
    if both.iter().max().is_some_and(|strictest| strictest == "1") {
        return set(&key, "2", &[]);
    }
    Ok(None)
}

fn read(key: &str) -> Result<String> {
    let path = Path::new("/proc/sys").join(key);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn write(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(key);
    fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
}

fn run(command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}: is it installed?"))?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Attaches `lb decap`, in the place of the one of `before`.
async fn attach(step: &SetupStep, before: Option<&SetupStep>) -> Result<Option<Undo>> {
    let SetupStep::Decap {
        interface,
        mode,
        tunnels,
        pin_dir,
    } = step
    else {
        bail!("no step for lb decap");
    };
    let ports = |tunnel| tunnels.get(&tunnel).into_iter().flatten().copied().collect();
    let mut decap = Decap::load(&DecapRules {
        tunnels: tunnels.keys().copied().collect(),
        gue_ports: ports(Forwarder::Gue),
        fou_ports: ports(Forwarder::Fou),
        from: Vec::new(),
    })?;
    decap.follow_own_addresses().await?;
    let carrier = find_carrier(interface).await?;
    let advice = carrier.advice.iter().cloned().chain(carrier.advice_below());
    advice.for_each(|advice| log::warn!("{advice}"));
    let interface = carrier.interface;
    let pins = PinDir::lock(pin_dir)?;
    let kept = pins.link(interface.index).exists();
    ensure!(
        !kept || before.is_some(),
        "{} has an lb decap that somebody attached by hand, with rules of their own: stop it first (`lb decap stop`), or \
         choose another --pin-dir and interface",
        interface.name
    );
    if let Some(slow) = decap.keep(&pins, &interface, *mode)? {
        log::warn!("{slow}");
    }
    Ok((!kept || before != Some(step)).then_some(Undo::Decap))
}

/// The kernel that runs.
#[derive(Clone, Copy, Debug)]
pub struct ThisKernel;

impl Kernel for ThisKernel {
    fn has(&self, module: &str) -> bool {
        Path::new("/sys/module").join(module).exists()
            || Command::new("modprobe")
                .args(["--dry-run", "--quiet", module])
                .status()
                .is_ok_and(|status| status.success())
    }
}
