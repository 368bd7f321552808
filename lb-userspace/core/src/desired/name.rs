//! Names that an operator gives: to services, and to zones of backends.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Longest name, in characters.
const MAX: usize = 63;

/// `name` shared, if it is a good name of a `what`.
fn checked(name: String, what: &str) -> Result<Arc<str>, Invalid> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && name.len() <= MAX && name.chars().all(good) {
        return Ok(name.into());
    }
    let shown: String = name.chars().take(MAX + 1).collect();
    Err(Invalid::new(format!(
        "{shown:?} is no {what}: expected 1 to {MAX} characters of a-z A-Z 0-9 . _ -, the first a letter or digit"
    )))
}

macro_rules! names {
    ($($(#[$doc:meta])* $type:ident: $what:literal;)*) => { $(
        $(#[$doc])*
        ///
        /// 1 to 63 characters of `a-z A-Z 0-9 . _ -`, the first a letter or a digit.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;

            fn try_from(name: String) -> Result<Self, Invalid> {
                checked(name, $what).map(Self)
            }
        }

        impl FromStr for $type {
            type Err = Invalid;

            fn from_str(name: &str) -> Result<Self, Invalid> {
                name.to_owned().try_into()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )* };
}

names! {
    /// A service's name: what the CLI, the API and the metrics call it.
    ServiceName: "service name";
    /// A label of backends, such as the rack, power feed or site that they share.
    Zone: "zone";
}
