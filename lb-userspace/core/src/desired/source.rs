//! Who may use a service.

use std::{collections::HashSet, net::IpAddr};

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{Invalid, Key, Prefix};

/// Clients that may use a service, and clients that may not. The longest prefix that holds a client decides; whom none
/// holds may use it unless there is a list of those who may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Clients that may.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "some")]
    pub allow: Vec<Prefix>,
    /// Clients that may not.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "some")]
    pub deny: Vec<Prefix>,
}

impl Source {
    /// Most prefixes of one service, both lists together.
    pub const MAX: usize = 4_096;

    /// Whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// Whether that client may use the service.
    pub fn permits(&self, client: IpAddr) -> bool {
        let longest = |list: &[Prefix]| {
            let holds = list.iter().filter(|prefix| prefix.contains(client));
            holds.map(|prefix| prefix.length()).max()
        };
        match (longest(&self.allow), longest(&self.deny)) {
            (None, None) => self.allow.is_empty(),
            (allowed, denied) => allowed > denied,
        }
    }

    /// Checks every rule of the lists.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let count = self.allow.len() + self.deny.len();
        if count > Self::MAX {
            let message = format!("{count} prefixes, at most {}", Self::MAX);
            return Err(Invalid::new(message));
        }
        let mut seen = HashSet::new();
        for (name, list) in [("allow", &self.allow), ("deny", &self.deny)] {
            for (i, prefix) in list.iter().enumerate() {
                if !seen.insert(prefix) {
                    let message = format!("{prefix} is listed twice");
                    return Err(Invalid::new(message).at(Key::Index(i)).at(Key::Name(name)));
                }
            }
        }
        Ok(())
    }
}

/// A list of somebody: an empty one could be meant to let nobody in, or everybody.
fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Prefix>, D::Error> {
    let list = Vec::<Prefix>::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(de::Error::custom(
            "the list is empty: expected at least one address or prefix, or no list",
        ));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(allow: &[&str], deny: &[&str]) -> Source {
        let list = |texts: &[&str]| texts.iter().map(|text| text.parse().expect(text)).collect();
        Source {
            allow: list(allow),
            deny: list(deny),
        }
    }

    #[test]
    fn the_longest_prefix_decides() {
        let permits = |source: &Source, client: &str| source.permits(client.parse().expect("an address"));
        let both = source(&["10.0.0.0/8", "10.1.2.3"], &["10.1.0.0/16", "2001:db8::/32"]);
        for (client, expected) in [
            ("10.2.0.1", true),
            ("10.1.0.1", false),
            ("10.1.2.3", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
            ("2001:db9::1", false),
        ] {
            assert_eq!(permits(&both, client), expected, "{client}");
        }
        let deny = source(&[], &["10.0.0.0/8"]);
        assert!(!permits(&deny, "10.0.0.1"));
        assert!(permits(&deny, "192.0.2.1"));
        assert!(permits(&Source::default(), "192.0.2.1"));
    }

    #[test]
    fn nobody_is_listed_twice_and_no_list_is_empty() {
        let twice = source(&["10.0.0.0/8"], &["192.0.2.1", "10.0.0.0/8"]).check();
        assert_eq!(
            twice.expect_err("refused").to_string(),
            "deny[1]: 10.0.0.0/8 is listed twice"
        );
        let empty = serde_json::from_str::<Source>("{\"allow\": []}").expect_err("refused");
        assert!(empty.to_string().contains("expected at least one"), "{empty}");
    }
}
