//! What ends tunnels on a backend: the kernel's devices where it has them, else `lb decap`.
//!
//! The balancer varies the outer source address with the flow, so that only devices will do that take packets from
//! anywhere: those that the modules bring with them.

use super::{Kernel, ServiceNeed, SetupOptions, SetupPlan, SetupStep};
use lb_common::net::{GRE_HEADER, GUE_HEADER, UDP_HEADER};
use lb_core::desired::Forwarder;

/// A tunnel device that its module brings.
struct Device {
    module: &'static str,
    name: &'static str,
    /// Whether it has to be told that both families come.
    any: bool,
}

const TUNL0: Device = Device {
    module: "ipip",
    name: "tunl0",
    any: false,
};
const SIT0: Device = Device {
    module: "sit",
    name: "sit0",
    any: false,
};
const IP6TNL0: Device = Device {
    module: "ip6_tunnel",
    name: "ip6tnl0",
    any: true,
};
const GRE0: Device = Device {
    module: "ip_gre",
    name: "gre0",
    any: false,
};
const IP6GRE0: Device = Device {
    module: "ip6_gre",
    name: "ip6gre0",
    any: false,
};
/// The device for tunnels in IPv6 where the interface is in a VRF.
const IN_VRF: &str = "lb-ip6";
/// What a tunnel adds to a packet at most is what IPv6, UDP and GUE come to.
const UDP: u32 = UDP_HEADER as u32;
const GUE: u32 = GUE_HEADER as u32;
const GRE: u32 = GRE_HEADER as u32;

/// Ends the tunnels among the forwarders.
pub(super) fn end(plan: &mut SetupPlan, need: &ServiceNeed, options: &SetupOptions, kernel: &impl Kernel) {
    let is_tunnel = |forwarder: &Forwarder| overhead(*forwarder).is_some();
    let tunnels: Vec<Forwarder> = need.forwarders.iter().copied().filter(is_tunnel).collect();
    if tunnels.is_empty() {
        return;
    }
    match why_decap(&tunnels, need, options, kernel) {
        Some(why) => {
            plan.note(why);
            let ports = |tunnel: Forwarder| {
                let usual = tunnel.default_tunnel_port();
                usual.map(|usual| need.tunnel_port.map_or(usual, Into::into))
            };
            plan.steps.push(SetupStep::Decap {
                interface: options.interface.clone(),
                mode: options.mode,
                tunnels: tunnels
                    .iter()
                    .map(|tunnel| (*tunnel, ports(*tunnel).into_iter().collect()))
                    .collect(),
                pin_dir: options.pin_dir.clone(),
            });
        }
        None => {
            for &tunnel in &tunnels {
                listen(plan, tunnel, need, options);
            }
            for device in devices(&tunnels, need) {
                bring_up(plan, &device, options);
            }
            plan.note(
                "where rp_filter is strict on the interface, the outer sources need a route over it (a default route will \
                 do), and firewalls must let the tunnel's packets in from them: 172.16.0.0/16 and 100::/64, or what \
                 tunnel_source_v4 and tunnel_source_v6 say",
            );
        }
    }
    plan.note(about_mtu(&tunnels, need));
}

/// What the headers of a tunnel add to the outer IP header; `None` if it is no tunnel.
const fn overhead(forwarder: Forwarder) -> Option<u32> {
    match forwarder {
        Forwarder::Ipip => Some(0),
        Forwarder::Gue => Some(UDP + GUE),
        Forwarder::Fou => Some(UDP),
        Forwarder::Gre => Some(GRE),
        Forwarder::L2dsr | Forwarder::Nat | Forwarder::Fullnat | Forwarder::Local => None,
    }
}

/// Why `lb decap` is to end these tunnels, if it is.
fn why_decap(
    tunnels: &[Forwarder],
    need: &ServiceNeed,
    options: &SetupOptions,
    kernel: &impl Kernel,
) -> Option<String> {
    if options.decap {
        return Some("lb decap ends the tunnels, as asked".into());
    }
    let inner = need.inner();
    if tunnels.contains(&Forwarder::Fou) && inner.v4 && inner.v6 {
        return Some(
            "a fou port of the kernel takes one family, and there are two: lb decap ends the tunnels".into(),
        );
    }
    let mut modules: Vec<&str> = devices(tunnels, need)
        .iter()
        .map(|device| device.module)
        .collect();
    if tunnels
        .iter()
        .any(|tunnel| tunnel.default_tunnel_port().is_some())
    {
        modules.extend(need.outer.v4.then_some("fou"));
        modules.extend(need.outer.v6.then_some("fou6"));
    }
    let missing: Vec<&str> = modules.into_iter().filter(|module| !kernel.has(module)).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "this kernel has no module {}: lb decap ends the tunnels",
            missing.join(", ")
        )
    })
}

fn devices(tunnels: &[Forwarder], need: &ServiceNeed) -> Vec<Device> {
    let (inner, outer) = (need.inner(), need.outer);
    let gre = tunnels.contains(&Forwarder::Gre);
    let ip = tunnels.iter().any(|tunnel| *tunnel != Forwarder::Gre);
    [
        (ip && outer.v4 && inner.v4, TUNL0),
        (ip && outer.v4 && inner.v6, SIT0),
        (ip && outer.v6, IP6TNL0),
        (gre && outer.v4, GRE0),
        (gre && outer.v6, IP6GRE0),
    ]
    .into_iter()
    .filter_map(|(needed, device)| needed.then_some(device))
    .collect()
}

/// Takes UDP off; what is inside goes on to the devices.
fn listen(plan: &mut SetupPlan, tunnel: Forwarder, need: &ServiceNeed, options: &SetupOptions) {
    let Some(usual) = tunnel.default_tunnel_port() else {
        return;
    };
    let port = need.tunnel_port.map_or(usual, Into::into);
    let what = match tunnel {
        Forwarder::Gue => "gue",
        _ if need.inner().v6 => "ipproto 41",
        _ => "ipproto 4",
    };
    if options.vrf.is_some() {
        // `ip fou add … dev`, which would bind the port to the VRF, is refused (iproute2 6.1 on Linux 6.12).
        plan.steps.push(SetupStep::Sysctl {
            key: "net/ipv4/udp_l3mdev_accept".into(),
            value: "1".into(),
            fine: Vec::new(),
        });
    }
    for (outer, module, family) in [(need.outer.v4, "fou", ""), (need.outer.v6, "fou6", "-6 ")] {
        if outer {
            plan.steps
                .push(SetupStep::command(&format!("modprobe {module}"), ""));
            plan.steps.push(SetupStep::command(
                &format!("ip {family}fou add port {port} {what}"),
                &format!("ip {family}fou del port {port}"),
            ));
        }
    }
}

fn bring_up(plan: &mut SetupPlan, device: &Device, options: &SetupOptions) {
    let Device { module, name, any } = device;
    plan.steps
        .push(SetupStep::command(&format!("modprobe {module}"), ""));
    let mut name = *name;
    match &options.vrf {
        // The module's own device finds the outer destination among addresses outside of VRFs alone.
        Some(_) if *any => {
            name = IN_VRF;
            plan.steps.push(SetupStep::command(
                &format!(
                    "ip -6 tunnel add {name} mode any local any remote any dev {}",
                    options.interface
                ),
                &format!("ip -6 tunnel del {name}"),
            ));
        }
        None if *any => plan.steps.push(SetupStep::command(
            &format!("ip -6 tunnel change {name} mode any"),
            &format!("ip -6 tunnel change {name} mode ip6ip6"),
        )),
        _ => {}
    }
    if let Some(vrf) = &options.vrf {
        plan.steps.push(SetupStep::command(
            &format!("ip link set {name} master {vrf}"),
            &format!("ip link set {name} nomaster"),
        ));
    }
    plan.steps.push(SetupStep::command(
        &format!("ip link set {name} up"),
        &format!("ip link set {name} down"),
    ));
    plan.steps.push(SetupStep::LooseReversePath {
        interface: name.to_owned(),
    });
}

/// What the tunnel costs, and what helps.
fn about_mtu(tunnels: &[Forwarder], need: &ServiceNeed) -> String {
    let ip = if need.outer.v6 { 40 } else { 20 };
    let most = tunnels
        .iter()
        .filter_map(|tunnel| overhead(*tunnel))
        .max()
        .unwrap_or(0)
        + ip;
    let mss = |header: u32| 1500 - most - header - 20;
    format!(
        "the tunnel adds {most} bytes: with an MTU of {} between balancer and backend clients' full packets fit (`--mtu {0}` \
         here, and the same there; keep 1500 on the routes to clients); else lb tells clients to send smaller ones, or \
         let TCP ask for them (advmss {} for IPv4 and {} for IPv6 on this host's routes)",
        1500 + most,
        mss(20),
        mss(40)
    )
}
