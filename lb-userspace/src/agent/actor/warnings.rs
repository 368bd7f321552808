//! What an operator should know, and did not ask for: `lb status` shows it.

use std::{collections::HashSet, net::IpAddr, time::UNIX_EPOCH};

use super::ports;
use crate::agent::{actor::Actor, limits};
use crate::dataplane::Attached;
use crate::health;
use crate::netlink::{self, LeadsOut, Resolution, SysctlFamily};
use lb_api::view::OutageView;
use lb_core::desired::{Forwarder, Unserved};

impl Actor {
    /// What is asked for and not done now.
    pub(in crate::agent) fn outages(&self) -> Vec<OutageView> {
        let mut outages = self.parts.attachments.outages();
        let ailments = self.parts.vitals.ailments().into_iter();
        outages.extend(ailments.filter(|ailment| !ailment.runs).map(|ailment| {
            OutageView {
                what: ailment.part.to_owned(),
                reason: format!(
                    "it has failed {} times and is begun again: {}",
                    ailment.failures, ailment.why
                ),
                since: ailment
                    .since
                    .duration_since(UNIX_EPOCH)
                    .map_or(0.0, |since| since.as_secs_f64()),
            }
        }));
        outages
    }

    /// Tasks that have failed of late, and run again.
    fn about_tasks(&self) -> Vec<String> {
        let ailments = self.parts.vitals.ailments().into_iter();
        let over = ailments.filter(|ailment| ailment.runs).map(|ailment| {
            format!(
                "{} has failed, the last time at {}, and was begun again: {}",
                ailment.part,
                humantime::format_rfc3339_seconds(ailment.since),
                ailment.why
            )
        });
        over.collect()
    }

    pub(in crate::agent) fn warnings(&self) -> Vec<String> {
        let attached = self.parts.attached.iter();
        let mut warnings: Vec<String> = attached.flat_map(|attached| attached.warnings.clone()).collect();
        warnings.extend(self.parts.attached.iter().filter_map(Attached::advice));
        warnings.extend(self.about_tasks());
        warnings.extend(self.about_carriers());
        warnings.extend(self.parts.persist.warnings());
        warnings.extend(self.about_sources());
        warnings.extend(self.about_forwarding());
        warnings.extend(self.about_vips());
        warnings.extend(self.about_checks());
        warnings.extend(self.about_neighbours());
        warnings
    }

    /// Interfaces that nothing arrives on.
    fn about_carriers(&self) -> Vec<String> {
        let down = self
            .parts
            .attached
            .iter()
            .filter(|attached| !attached.interface.up);
        down.map(|attached| {
            format!(
                "{0} is down or has no carrier, so that no packets come by it: look at `ip link show {0}`",
                attached.interface.name
            )
        })
        .collect()
    }

    /// More next hops than the kernel has room for in its table of neighbours.
    fn about_neighbours(&self) -> Vec<String> {
        let hops = self.parts.observed.hops.iter();
        let next = |(address, found): (&IpAddr, &Resolution)| match found {
            Resolution::Resolved(hop) => Some(hop.gateway.unwrap_or(*address)),
            Resolution::Unresolved { .. } => Some(*address),
            Resolution::Own => None,
        };
        let needed: HashSet<IpAddr> = hops.filter_map(next).collect();
        let about = |family| {
            let v6 = family == SysctlFamily::V6;
            let need = needed.iter().filter(|address| address.is_ipv6() == v6).count();
            let most = netlink::most_neighbours(family).filter(|&most| need > most as usize)?;
            let key = format!("net.{}.neigh.default.gc_thresh3", family.directory());
            // Room for as many others as there is by default.
            let fits = (need + 1_024).next_power_of_two();
            Some(format!(
                "{need} neighbours are needed, and {key} is {most}: lb has the kernel not count its own, but they are counted \
                 once lb gives them back, and other hosts find no room then; run `sysctl -w {key}={fits}`"
            ))
        };
        [SysctlFamily::V4, SysctlFamily::V6]
            .into_iter()
            .filter_map(about)
            .collect()
    }

    /// What keeps `fullnat` backends from being reached, or soon will.
    fn about_sources(&self) -> Vec<String> {
        let (pool, _) = &self.parts.sources;
        let mut warnings = Vec::new();
        for service in self.services.iter() {
            if let Err(lack) = service.check_sources(pool) {
                warnings.push(format!("service {}: {}", service.name, lack.message));
            }
        }
        let hops = &self.parts.observed.hops;
        let is_foreign = |address: &&IpAddr| {
            let found = hops.get(*address);
            found.is_some_and(|found| *found != Resolution::Own)
        };
        for address in pool.iter().filter(is_foreign) {
            warnings.push(format!(
                "fullnat backends answer to {address}, which is no address of this host: add it to an interface (`ip address \
                 add {address} dev IFACE`)"
            ));
        }
        warnings.extend(self.sources().iter().filter_map(ports::warning));
        warnings
    }

    /// VIPs whose unserved packets this host would send back to the router that they come from.
    fn about_vips(&self) -> Vec<String> {
        let forwards = |v6: bool| {
            let family = if v6 { SysctlFamily::V6 } else { SysctlFamily::V4 };
            let mut names = self
                .parts
                .attached
                .iter()
                .map(|attached| &attached.interface.name);
            names.any(|name| netlink::forwarding_enabled(family, name).unwrap_or(false))
        };
        let mut lead_out = self.parts.vip_routes.leading_out();
        let refuses = |address: IpAddr| {
            let refusing = self
                .services
                .iter()
                .filter(|service| service.unserved != Unserved::Pass);
            let mut vips = refusing.flat_map(|service| &service.vips);
            vips.any(|vip| vip.address() == address)
        };
        lead_out.retain(|vip| forwards(vip.address.is_ipv6()) && !refuses(vip.address));
        let Some(LeadsOut { address, gateway }) = lead_out.first() else {
            return Vec::new();
        };
        let others = match lead_out.len() - 1 {
            0 => String::new(),
            others => format!(" (and so of {others} other VIPs)"),
        };
        let length = if address.is_ipv4() { 32 } else { 128 };
        vec![format!(
            "packets to {address} that are for no service are sent on to {gateway}{others}, which may send them back, and so \
             on: unserved = \"drop\" or \"reject\" in a service of it ends them here, and so does `ip route add unreachable \
             {address}/{length}`, also when lb does not run"
        )]
    }

    /// Checks that wait for their turn.
    fn about_checks(&self) -> Option<String> {
        let health::Lateness { longest, at_once } = self.parts.engine.lateness()?;
        let files = limits::open_files();
        Some(format!(
            "checks waited up to {longest:.1?} for their turn within the last minute, and verdicts are as late: {at_once} \
             may be under way at once where {files} files may be open; raise LimitNOFILE (`ulimit -n`) to 65536, shorten \
             `timeout`, lengthen `interval`, or take out backends that are gone"
        ))
    }

    /// Answers of backends are routed like packets that this host forwards.
    fn about_forwarding(&self) -> Vec<String> {
        let answers = |v6: bool| {
            let translated = self
                .services
                .iter()
                .filter(|service| service.uses(Forwarder::Nat) || service.uses(Forwarder::Fullnat));
            translated
                .flat_map(|service| &service.vips)
                .any(|vip| vip.is_ipv6() == v6)
        };
        let mut warnings = Vec::new();
        for (family, key) in [
            (SysctlFamily::V4, "net.ipv4.ip_forward"),
            (SysctlFamily::V6, "net.ipv6.conf.all.forwarding"),
        ] {
            let is_off = |attached: &&Attached| {
                !netlink::forwarding_enabled(family, &attached.interface.name).unwrap_or(true)
            };
            let off = self.parts.attached.iter().find(is_off);
            if let Some(attached) = off.filter(|_| answers(family == SysctlFamily::V6)) {
                warnings.push(format!(
                    "answers of nat and fullnat backends are dropped as no-way-back: {} does not forward; run `sysctl -w \
                     {key}=1`",
                    attached.interface.name
                ));
            }
        }
        warnings
    }
}
