//! What the folder of a kind says of it.
//!
//! Invariant: nothing here knows a kind by name.

use serde::de::{Deserialize, Error, MapAccess};

use crate::CheckError;

/// What an operator says of a check of one kind, besides what all checks have.
pub(crate) trait Spec: Default {
    /// The kind's own keys.
    const KEYS: &'static [CheckKey] = &[];
    /// What it asks: nobody, the host, or a port.
    const ASKS: Asks;
    /// Whether it makes TCP connections, so that `close` applies.
    const CONNECTS: bool = false;

    /// Reads the value of one of [`Self::KEYS`]; false where it is null, which leaves the default.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &'static str, _values: &mut A) -> Result<bool, A::Error> {
        Err(not_mine(key))
    }

    /// Checks every value against its limits.
    fn validate(&self) -> Result<(), CheckError> {
        Ok(())
    }
}

/// What a kind of check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// Nobody.
    Nobody,
    /// The host; with the reason why `port` does not apply.
    Host(&'static str),
    /// A port of the host.
    Port,
}

/// A key that belongs to one kind of check, with its option on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckKey {
    /// The key in files and in the API.
    pub name: &'static str,
    /// The option on the command line, without its dashes. Its value is a text, which the key has to take.
    pub option: &'static str,
    /// What stands for the value in the option's help.
    pub value: &'static str,
    /// The option's help: one sentence without its full stop.
    pub help: &'static str,
}

/// Reads a value into `field`; false where it is null, which leaves the default.
pub(crate) fn take<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    field: &mut T,
    values: &mut A,
) -> Result<bool, A::Error> {
    let value: Option<T> = values.next_value()?;
    Ok(value.map(|value| *field = value).is_some())
}

/// The error of a [`Spec`] that is to read a key that is not in its own list.
pub(crate) fn not_mine<E: Error>(key: &str) -> E {
    E::unknown_field(key, &[])
}
