//! Which hosts live: what the simulation itself knows, and measures the balancer by.
//!
//! What must hold: nothing here is asked of the planner or read from the tables. A host's life in a service ends when its
//! health check fails, when it is put into maintenance, and when it is removed at once or at the deadline of its drain.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lb_core::desired::BackendId;

/// A machine that serves one or several services, by number; 0 is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Host(pub(super) u16);

impl Host {
    /// Nobody got the packet.
    pub(super) const NOBODY: Self = Self(0);
    /// Hosts are numbered below this.
    pub(super) const MOST: u16 = 2048;

    /// Its address: every other host speaks IPv6.
    pub(super) fn address(self) -> IpAddr {
        let Self(number) = self;
        if number % 2 == 1 {
            let base = Ipv6Addr::new(0xfd00, 0xba, 0, 0, 0, 0, 0, 0).to_bits();
            Ipv6Addr::from_bits(base + u128::from(number)).into()
        } else {
            Ipv4Addr::from_bits(0x0a00_0000 + u32::from(number)).into()
        }
    }

    /// Its name in a service.
    pub(super) fn backend(self) -> BackendId {
        BackendId {
            address: self.address(),
            port: None,
        }
    }

    /// The host of that name.
    pub(super) fn of_backend(id: BackendId) -> Self {
        Self::of_address(id.address)
    }

    /// The host of that address.
    pub(super) fn of_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(v4.to_bits() as u16),
            IpAddr::V6(v6) => Self(v6.to_bits() as u16),
        }
    }

    /// Its MAC address.
    pub(super) fn mac(self) -> [u8; 6] {
        let [high, low] = self.0.to_be_bytes();
        [2, 0, 0, 0xba, high, low]
    }

    /// The host whose MAC address ends so.
    pub(super) fn of_mac(end: [u8; 2]) -> Self {
        Self(u16::from_be_bytes(end))
    }
}

/// A host in a service from its first flow to its end; who comes back later begins another life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life(u32);

impl Life {
    /// Of a flow that nobody has.
    pub(super) const NONE: Self = Self(u32::MAX);
}

/// All lives.
pub(super) struct Lives {
    lives: Vec<(Host, bool)>,
    /// The last life of each host in each service.
    last: Vec<Life>,
    living: HashSet<(u8, Host)>,
}

impl Lives {
    pub(super) fn new(services: usize) -> Self {
        Self {
            lives: Vec::new(),
            last: vec![Life::NONE; services * usize::from(Host::MOST)],
            living: HashSet::new(),
        }
    }

    fn index(service: u8, host: Host) -> usize {
        usize::from(service) * usize::from(Host::MOST) + usize::from(host.0)
    }

    /// The host's life in that service.
    pub(super) fn of(&mut self, service: u8, host: Host) -> Life {
        let last = &mut self.last[Self::index(service, host)];
        if *last == Life::NONE {
            *last = Life(self.lives.len() as u32);
            self.lives.push((host, true));
        }
        *last
    }

    /// These are the hosts that live from now on. Of the others those `in_peace` are gone without their flows having been
    /// cut: all are said to have ended by themselves.
    pub(super) fn follow(&mut self, living: HashSet<(u8, Host)>, in_peace: &[(u8, Host)]) {
        let before = std::mem::replace(&mut self.living, living);
        for gone in before
            .difference(&self.living.clone())
            .filter(|gone| !in_peace.contains(gone))
        {
            self.end(gone.0, gone.1);
        }
        for (service, host) in self.living.clone() {
            self.begin(service, host);
        }
    }

    /// The host may serve again.
    fn begin(&mut self, service: u8, host: Host) {
        let last = &mut self.last[Self::index(service, host)];
        if self.lives.get(last.0 as usize).is_some_and(|(_, lives)| !lives) {
            *last = Life::NONE;
        }
    }

    /// The host is cut off: its flows are over. Those that reach it yet belong to the life that has ended.
    fn end(&mut self, service: u8, host: Host) {
        let Life(life) = self.of(service, host);
        self.lives[life as usize].1 = false;
    }

    /// The host whose life it is, if it goes on.
    pub(super) fn host(&self, life: Life) -> Option<Host> {
        let (host, lives) = self.lives.get(life.0 as usize)?;
        lives.then_some(*host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_by_its_addresses() {
        for host in [Host(1), Host(2), Host(1025), Host(2046)] {
            assert_eq!(Host::of_backend(host.backend()), host);
            let [.., high, low] = host.mac();
            assert_eq!(Host::of_mac([high, low]), host);
        }
    }

    #[test]
    fn who_comes_back_begins_another_life() {
        let mut lives = Lives::new(2);
        let first = lives.of(1, Host(5));
        assert_eq!(lives.of(1, Host(5)), first);
        assert_ne!(lives.of(0, Host(5)), first);
        lives.begin(1, Host(5));
        assert_eq!(lives.host(first), Some(Host(5)), "it had not ended");
        lives.end(1, Host(5));
        assert_eq!((lives.host(first), lives.of(1, Host(5))), (None, first));
        lives.begin(1, Host(5));
        assert_eq!(lives.host(first), None);
        let second = lives.of(1, Host(5));
        assert_eq!(lives.host(second), Some(Host(5)));
    }
}
