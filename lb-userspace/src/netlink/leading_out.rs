//! Addresses whose packets this host would send on to a router.

use std::net::IpAddr;

use super::{
    route::{Route, look_up},
    socket::{Error, Socket},
    view::View,
};

/// An address, and the router that the host's routes lead it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeadsOut {
    /// The address.
    pub address: IpAddr,
    /// The router.
    pub gateway: IpAddr,
}

/// Finds the addresses that the routes of the host, or of the VRF device with that index, lead to a router. What is on
/// the link does not come back from there.
///
/// # Errors
/// When the kernel cannot be asked.
pub async fn leading_out(addresses: &[IpAddr], vrf: Option<u32>) -> Result<Vec<LeadsOut>, Error> {
    let socket = Socket::open()?;
    let view = View { vrf, source: None };
    let mut found = Vec::new();
    for &address in addresses {
        let (route, _) = look_up(&socket, address, &[view]).await?;
        if let Route::Forward {
            gateway: Some(gateway),
            ..
        } = route
        {
            found.push(LeadsOut { address, gateway });
        }
    }
    Ok(found)
}
