//! What a whole new desired state takes away, so that a file that was cut short is noticed before it is obeyed.

use std::fmt;

use super::{Backend, BackendId, ServiceName, Services};

/// Names that are listed one by one.
const LISTED: usize = 8;

/// What there was before, and is no longer asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Services that go, with all that they have.
    pub services: Vec<ServiceName>,
    /// Backends that go from services which stay.
    pub backends: Vec<(ServiceName, BackendId)>,
    /// Services which stay without any backend.
    emptied: Vec<ServiceName>,
    /// Services that there were.
    before: usize,
}

impl Losses {
    /// What `after` lacks of `before`. Backends that are leaving already are no loss.
    pub fn between(before: &Services, after: &Services) -> Self {
        let mut losses = Self {
            before: before.len(),
            ..Self::default()
        };
        for service in before.iter() {
            let Some(kept) = after.get(&service.name) else {
                losses.services.push(service.name.clone());
                continue;
            };
            let present: Vec<&Backend> = service
                .backends
                .iter()
                .filter(|backend| !backend.leaves())
                .collect();
            let gone = present
                .iter()
                .filter(|backend| kept.backend(backend.id()).is_none());
            losses
                .backends
                .extend(gone.map(|backend| (service.name.clone(), backend.id())));
            if !present.is_empty() && kept.backends.is_empty() {
                losses.emptied.push(service.name.clone());
            }
        }
        losses
    }

    /// Whether it looks like a mistake: more than half of the services go, or one loses all of its backends.
    pub fn is_drastic(&self) -> bool {
        self.services.len() * 2 > self.before || !self.emptied.is_empty()
    }

    /// Why a configuration file is not obeyed that takes away so much; `file` says which.
    pub fn refusal(&self, file: &impl fmt::Display) -> String {
        format!(
            "{file} no longer has {self}: more than half of the services, or all backends of one. Nothing was changed; if that \
             is meant, `lb reload --force`"
        )
    }

    /// All that goes, in words: `service web`, `10.0.0.5 of dns`.
    pub fn names(&self) -> Vec<String> {
        let services = self.services.iter().map(|name| format!("service {name}"));
        let backends = self
            .backends
            .iter()
            .map(|(service, id)| format!("{id} of {service}"));
        services.chain(backends).collect()
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        let listed = names[..names.len().min(LISTED)].join(", ");
        match names.len().saturating_sub(LISTED) {
            0 => write!(f, "{listed}"),
            others => write!(f, "{listed} and {others} others"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Services by name, each with backends by the last byte of their addresses.
    fn services(wanted: &[(&str, &[u8])]) -> Services {
        let list = wanted.iter().enumerate().map(|(number, (name, backends))| {
            let backends: Vec<Value> = backends
                .iter()
                .map(|last| json!({"address": format!("10.0.0.{last}")}))
                .collect();
            let service = json!({"name": name, "vips": [format!("192.0.2.{number}")], "protocol": "tcp", "port": 80,
                "forwarder": "ipip", "backend": backends});
            serde_json::from_value(service).expect("a service")
        });
        Services::new(list.collect()).expect("valid")
    }

    #[test]
    fn more_than_half_of_the_services_or_all_backends_of_one_look_like_a_mistake() {
        let before = services(&[("a", &[1, 2]), ("b", &[3]), ("c", &[])]);
        for (after, drastic, told) in [
            (services(&[]), true, "service a, service b, service c"),
            (services(&[("a", &[1, 2])]), true, "service b, service c"),
            (services(&[("a", &[1, 2]), ("b", &[3])]), false, "service c"),
            (
                services(&[("a", &[]), ("b", &[3]), ("c", &[])]),
                true,
                "10.0.0.1 of a, 10.0.0.2 of a",
            ),
            (
                services(&[("a", &[1]), ("b", &[4]), ("c", &[])]),
                false,
                "10.0.0.2 of a, 10.0.0.3 of b",
            ),
            (services(&[("a", &[1, 2]), ("b", &[3]), ("c", &[5])]), false, ""),
        ] {
            let losses = Losses::between(&before, &after);
            assert_eq!(
                (losses.is_drastic(), losses.to_string().as_str()),
                (drastic, told)
            );
        }
        assert!(!Losses::between(&services(&[]), &before).is_drastic());
    }

    #[test]
    fn a_long_list_is_cut_in_words_and_whole_for_programs() {
        let all: Vec<u8> = (1..=20).collect();
        let losses = Losses::between(&services(&[("a", &all)]), &services(&[("a", &[1])]));
        assert!(
            losses.to_string().ends_with("10.0.0.9 of a and 11 others"),
            "{losses}"
        );
        assert_eq!(losses.names().len(), 19);
    }
}
