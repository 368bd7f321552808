//! From what a service needs to the steps that provide it.

use std::net::IpAddr;

use ipnet::IpNet;
use lb_core::desired::{Forwarder, Prefix};

use super::{Kernel, ServiceNeed, SetupOptions, SetupPlan, SetupStep, tunnels};

/// What a backend needs.
///
/// # Errors
/// When something is missing that only the operator knows.
pub fn plan(need: &ServiceNeed, options: &SetupOptions, kernel: &impl Kernel) -> Result<SetupPlan, String> {
    let mut plan = SetupPlan::default();
    if need.owns_vips() {
        plan.own_vips(need, options);
    } else if need.forwarders.contains(&Forwarder::Local) {
        plan.steps.extend(need.vips.iter().map(|vip| own(*vip, options)));
        plan.note("for the balancer itself: the server listens on the VIP, or on all addresses, at the service's port");
    }
    if need.forwarders.contains(&Forwarder::Nat) {
        plan.answer_through_balancer(need, options)?;
    }
    if let Some(mtu) = options.mtu {
        plan.steps.push(SetupStep::Mtu {
            interface: options.interface.clone(),
            mtu,
        });
    }
    tunnels::end(&mut plan, need, options, kernel);
    if plan.steps.is_empty() {
        let names: Vec<String> = need.forwarders.iter().map(ToString::to_string).collect();
        plan.note(format!("{} needs nothing of a backend", names.join(", ")));
    }
    Ok(plan)
}

impl SetupPlan {
    /// The VIPs on this host, without telling its network.
    fn own_vips(&mut self, need: &ServiceNeed, options: &SetupOptions) {
        let inner = need.inner();
        if inner.v4 {
            for (name, value, fine) in [("arp_ignore", "1", &["2", "8"][..]), ("arp_announce", "2", &[])] {
                self.steps.push(SetupStep::Sysctl {
                    key: format!("net/ipv4/conf/all/{name}"),
                    value: value.into(),
                    fine: fine.iter().map(|&value| value.into()).collect(),
                });
            }
            self.steps.push(SetupStep::LooseReversePath {
                interface: options.interface.clone(),
            });
        }
        if inner.v6 {
            self.note(
                "IPv6 needs no settings: Linux answers neighbour discovery only for addresses of the interface that was \
                 asked on, and looks for no duplicates on lo",
            );
        }
        self.steps.extend(need.vips.iter().map(|vip| own(*vip, options)));
        self.note("the server listens on the VIP, or on all addresses, at the service's port");
        if let Some(vrf) = &options.vrf {
            self.note(format!(
                "{} is in the VRF {vrf}: start the server in it (`ip vrf exec {vrf} COMMAND`), or let sockets of the host \
                 itself take what comes there (`sysctl -w net.ipv4.tcp_l3mdev_accept=1 net.ipv4.udp_l3mdev_accept=1`)",
                options.interface
            ));
        }
    }

    /// For `nat`, which rewrites answers on their way back.
    fn answer_through_balancer(&mut self, need: &ServiceNeed, options: &SetupOptions) -> Result<(), String> {
        let inner = need.inner();
        for (needed, name, is_family) in [
            (inner.v4, "IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
            (inner.v6, "IPv6", IpAddr::is_ipv6),
        ] {
            if !needed {
                continue;
            }
            let via = options.via.iter().find(|via| is_family(via)).ok_or_else(|| {
                format!(
                    "nat needs the answers to pass the balancer: name its {name} address in this host's network with --via"
                )
            })?;
            self.steps.push(SetupStep::DefaultRoute {
                via: *via,
                vrf: options.vrf.clone(),
            });
        }
        self.note(
            "on the balancer, `sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1` lets it look up the way \
             back; clients in this host's own network do not work",
        );
        Ok(())
    }
}

fn own(vip: Prefix, options: &SetupOptions) -> SetupStep {
    let vrf = options.vrf.clone();
    match vip.host() {
        Some(address) => SetupStep::Address { address, vrf },
        None => SetupStep::LocalRoute {
            prefix: IpNet::new_assert(vip.address(), vip.length()),
            vrf,
        },
    }
}
