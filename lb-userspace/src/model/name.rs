//! A service's name: what the CLI, the API and the metrics call it.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Invalid;

/// 1 to 63 characters of `a-z A-Z 0-9 . _ -`, the first a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    const MAX: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ServiceName {
    type Error = Invalid;

    fn try_from(name: String) -> Result<Self, Invalid> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_well && name.len() <= Self::MAX && name.chars().all(good) {
            return Ok(Self(name.into()));
        }
        let shown: String = name.chars().take(Self::MAX + 1).collect();
        Err(Invalid::new(format!(
            "{shown:?} is no service name: expected 1 to {} characters of a-z A-Z 0-9 . _ -, the first a letter or digit",
            Self::MAX
        )))
    }
}

impl FromStr for ServiceName {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        name.to_owned().try_into()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
