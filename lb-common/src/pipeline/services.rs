//! Finding a service by address and selector.

use core::marker::PhantomData;

use crate::abi::{Direction, Features, Selector, Service};

use super::{Tables, family::Family};

/// The service table of one family.
pub(super) struct Lookup<'t, F, T> {
    tables: &'t T,
    family: PhantomData<F>,
}

impl<'t, F: Family, T: Tables> Lookup<'t, F, T> {
    #[inline(always)]
    pub(super) fn new(tables: &'t T) -> Self {
        Self {
            tables,
            family: PhantomData,
        }
    }

    /// The service of exactly that selector.
    #[inline(always)]
    pub(super) fn find(&self, address: F::Address, selector: Selector) -> Option<Service> {
        let key = F::key(address, selector);
        let line = self.tables.service_index(F::V6).line(&key);
        let (found, next) = F::find_in_line(self.tables, line, &key)?;
        if found.is_some() || next == 0 {
            return found;
        }
        let (found, _) = F::find_in_line(self.tables, F::follow(self.tables, next, &key), &key)?;
        found
    }

    /// The service of that port.
    #[inline(always)]
    pub(super) fn exact(
        &self,
        address: F::Address,
        port: u16,
        protocol: u8,
        direction: Direction,
    ) -> Option<Service> {
        self.find(address, Selector::new(port, protocol, direction))
    }

    /// The service that takes any port.
    #[inline(always)]
    pub(super) fn any(&self, address: F::Address, protocol: u8, direction: Direction) -> Option<Service> {
        if !self.tables.features().has(Features::ANY_PORT) {
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
    ) -> Option<Service> {
        self.exact(address, port, protocol, direction)
            .or_else(|| self.any(address, protocol, direction))
    }
}
