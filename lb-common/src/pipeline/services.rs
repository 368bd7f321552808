//! Finding a service by address and selector.

use core::marker::PhantomData;

use crate::abi::{Direction, Features, Key4, Key6, Selector, ServiceEntry};

use super::{
    ServiceTables,
    family::{Family, V4, V6},
};

/// The service of that key in the table of IPv4.
#[inline(always)]
pub fn look_up4<T: ServiceTables>(tables: &T, key: &Key4) -> Option<ServiceEntry> {
    by_key::<V4, T>(tables, key)
}

/// The service of that key in the table of IPv6.
#[inline(always)]
pub fn look_up6<T: ServiceTables>(tables: &T, key: &Key6) -> Option<ServiceEntry> {
    by_key::<V6, T>(tables, key)
}

#[inline(always)]
fn by_key<F: Family, T: ServiceTables>(tables: &T, key: &F::Key) -> Option<ServiceEntry> {
    let line = tables.service_index(F::V6).line(key);
    let (found, next) = F::find_in_line(tables, line, key)?;
    if found.is_some() || next == 0 {
        return found;
    }
    let (found, _) = F::find_in_line(tables, F::follow(tables, next, key), key)?;
    found
}

/// The service table of one family.
pub(super) struct Lookup<'t, F, T> {
    tables: &'t T,
    family: PhantomData<F>,
}

impl<'t, F: Family, T: ServiceTables> Lookup<'t, F, T> {
    #[inline(always)]
    pub(super) fn new(tables: &'t T) -> Self {
        Self {
            tables,
            family: PhantomData,
        }
    }

    /// The service of exactly that selector.
    #[inline(always)]
    pub(super) fn find(&self, address: F::Address, selector: Selector) -> Option<ServiceEntry> {
        by_key::<F, T>(self.tables, &F::key(address, selector))
    }

    /// Finds the service of exactly that selector by a call of a function: for those who ask often.
    #[inline(always)]
    pub(super) fn ask(&self, address: F::Address, selector: Selector) -> Option<ServiceEntry> {
        F::look_up(self.tables, &F::key(address, selector))
    }

    /// The service of that port.
    #[inline(always)]
    pub(super) fn exact(
        &self,
        address: F::Address,
        port: u16,
        protocol: u8,
        direction: Direction,
    ) -> Option<ServiceEntry> {
        self.find(address, Selector::new(port, protocol, direction))
    }

    /// The service that takes any port.
    #[inline(always)]
    pub(super) fn any(
        &self,
        address: F::Address,
        protocol: u8,
        direction: Direction,
    ) -> Option<ServiceEntry> {
        if !self.tables.features().intersects(Features::ANY_PORT) {
            return None;
        }
        self.find(address, Selector::new(0, protocol, direction))
    }

    /// The service of that port, or else the one that takes any port.
    #[inline(always)]
    pub(super) fn exact_or_any(
        &self,
        address: F::Address,
        port: u16,
        protocol: u8,
        direction: Direction,
    ) -> Option<ServiceEntry> {
        self.exact(address, port, protocol, direction)
            .or_else(|| self.any(address, protocol, direction))
    }
}
