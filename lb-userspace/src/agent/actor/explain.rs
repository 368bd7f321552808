//! What the agent says of a packet that somebody asks about.

use lb_common::abi::Action;

use crate::agent::{actor::Actor, handle::RequestError};
use crate::dataplane::Explained;
use lb_api::{packet, view::ExplainView};

impl Actor {
    /// Why nothing can be said of packets that arrive on that interface, or on any.
    fn attached_nowhere(&self, interface: Option<&str>) -> RequestError {
        let outages = self.parts.attachments.outages();
        let is_it = |what: &str| interface.is_none_or(|name| what == format!("interface {name}"));
        if let Some(outage) = outages.into_iter().find(|outage| is_it(&outage.what)) {
            return RequestError::Refused(format!("{}: {}", outage.what, outage.reason));
        }
        let attached = self.parts.attached.iter();
        let names: Vec<&str> = attached.map(|a| a.interface.name.as_str()).collect();
        RequestError::Refused(format!(
            "lb is not attached to that interface; it is to {}",
            names.join(", ")
        ))
    }

    pub(in crate::agent) fn explain_view(
        &self,
        mut frame: Vec<u8>,
        is_for_interface: bool,
        interface: Option<&str>,
    ) -> Result<ExplainView, RequestError> {
        let attached = match interface {
            None => self.parts.attached.first(),
            Some(name) => self.parts.attached.iter().find(|a| a.interface.name == name),
        };
        let attached = attached.ok_or_else(|| self.attached_nowhere(interface))?;
        let index = attached.interface.index;
        let own = self.macs.get(&index).map(|macs| macs.own);
        if let Some(own) = own.or(attached.interface.mac).filter(|_| is_for_interface) {
            frame[..own.len()].copy_from_slice(&own);
        }
        let explained = self
            .parts
            .dataplane
            .explain(&frame, attached.interface.index)
            .map_err(|error| RequestError::Refused(format!("{error:#}")))?;
        let Explained {
            reason,
            action,
            service,
            target,
            slot,
            placement,
            clock: _,
            frame: out,
        } = explained;
        let backend_ref = target.and_then(|target| self.parts.layout.owner(target));
        let service = service.and_then(|id| self.parts.layout.service(id));
        Ok(ExplainView {
            action: xdp_action_name(action).to_owned(),
            reason: reason.name().to_owned(),
            reason_code: reason.number(),
            meaning: reason.meaning().to_owned(),
            service: service.map(ToString::to_string),
            backend: backend_ref.map(|backend_ref| backend_ref.backend.to_string()),
            slot,
            placement: placement.name().to_owned(),
            placement_meaning: placement.meaning().to_owned(),
            interface: attached.interface.name.clone(),
            outages: self.parts.attachments.outages(),
            in_hex: packet::to_hex(&frame),
            out_hex: matches!(reason.action(), Action::Send | Action::Hand).then(|| packet::to_hex(&out)),
        })
    }
}

/// The kernel's `enum xdp_action`.
fn xdp_action_name(action: u32) -> &'static str {
    ["aborted", "drop", "pass", "tx", "redirect"]
        .get(action as usize)
        .copied()
        .unwrap_or("unknown")
}
