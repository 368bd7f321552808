//! The host in the kernel: its clock, interfaces, addresses and routes.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, xdp_action, xdp_md},
    macros::map,
    maps::{DevMapHash, HashMap},
    programs::XdpContext,
};
use lb_common::{
    abi::{DeviceEntry, MAX_MACS, Mac, MacKey, Reason},
    pipeline::{self, Host, Route, RouteQuery},
    verifier::hidden,
};

use super::{
    super::{globals, trace},
    Maps, answers,
    devices::upper,
    flow_table, route,
};

#[map]
static MACS: HashMap<MacKey, u32> = HashMap::with_max_entries(MAX_MACS, BPF_F_NO_PREALLOC);
#[map]
static EGRESS: DevMapHash = DevMapHash::with_max_entries(64, 0);

impl Host for Maps<'_> {
    #[inline(always)]
    fn now(&self) -> u32 {
        flow_table::clock()
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn explains(&self) -> bool {
        trace::of(self.context).is_some()
    }

    #[inline(always)]
    fn may_answer(&self, reason: Reason) -> bool {
        self.explains() || answers::spend(reason)
    }

    #[inline(always)]
    fn common_mac(&self, index: usize) -> Mac {
        globals::common_mac(index)
    }

    #[inline(always)]
    fn own_mac(&self, interface: u32) -> MacKey {
        globals::own_mac(interface)
    }

    #[inline(always)]
    fn has_mac(&self, key: &MacKey) -> bool {
        // SAFETY: only whether there is one is asked.
        unsafe { MACS.get(key) }.is_some()
    }

    #[inline(always)]
    fn accepts(&self, mac: Mac, is_for_group: bool) -> bool {
        lb_accepts(self.context.ctx, mac.0, is_for_group.into()) != 0
    }

    #[inline(always)]
    fn upper(&self, interface: u32) -> Option<DeviceEntry> {
        upper(interface)
    }

    #[inline(always)]
    fn route(&self, query: &RouteQuery) -> Route {
        route::look_up(self.context, query)
    }
}

/// [`pipeline::accepts`] as a function of its own: only frames that are not to the common MAC call it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_accepts(context: *mut xdp_md, mac: u64, is_for_group: u32) -> u32 {
    let context = XdpContext::new(hidden(context));
    pipeline::accepts(&Maps::new(&context), Mac(mac), is_for_group != 0).into()
}

/// Has a frame sent out of another interface; false if the agent did not list that.
#[inline(always)]
pub(in super::super) fn redirect(interface: u32) -> bool {
    EGRESS
        .redirect(interface, u64::from(xdp_action::XDP_DROP))
        .is_ok()
}
