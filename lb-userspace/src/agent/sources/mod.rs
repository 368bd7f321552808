//! Where the desired state comes from: the sources that there are, a line each.
//!
//! Invariant: the agent knows no source. A source hands it proposals through its queue, and the agent makes them or refuses
//! them; so another source needs no change of the agent.

use std::{io, path::Path, sync::Arc};

use crate::agent::queue::{Proposal, Queue, RequestError};
use crate::supervise::{Supervisor, Vitals, guarded};
use lb_api::Applied;
use lb_core::desired::Change;

/// A source of desired state.
trait DesiredState: Sized {
    /// The source, of an agent that was started with that configuration file. What changes there from now on is not missed.
    ///
    /// # Errors
    /// When the system refuses what the source needs.
    fn new(config: Option<&Path>) -> io::Result<Self>;

    /// Whether this source takes an operator's change of that kind.
    fn takes(&self, change: &Change) -> bool;

    /// What an operator's change comes to.
    ///
    /// # Errors
    /// Why it cannot be made.
    async fn read(&self, change: Change) -> Result<Proposal, RequestError>;

    /// Makes an operator's change, unless the generation in force is not the `expected` one.
    ///
    /// # Errors
    /// Why it was not made.
    async fn propose(
        &self,
        queue: &Queue,
        change: Change,
        expected: Option<u64>,
    ) -> Result<Applied, RequestError> {
        queue.write(self.read(change).await?, expected).await
    }

    /// Proposes what changes at the source by itself, for as long as the agent runs.
    ///
    /// # Errors
    /// Why it cannot go on.
    async fn watch(&self, queue: &Queue) -> io::Result<()>;
}

/// The registry of sources: a source is a folder or file `sources/<module>` with a type that is a [`DesiredState`], and a line
/// here. A change goes to the first source that takes it.
macro_rules! sources {
    ($($(#[doc = $doc:literal])+ $module:ident $type:ident $part:literal;)+) => {
        $(mod $module;)+

        $(use $module::$type;)+

        /// All sources.
        #[derive(Debug)]
        pub struct Sources {
            $($(#[doc = $doc])+ $module: $type,)+
        }

        impl Sources {
            /// All sources of an agent that was started with that configuration file.
            ///
            /// # Errors
            /// When the system refuses what a source needs.
            pub fn new(config: Option<&Path>) -> io::Result<Self> {
                Ok(Self {
                    $($module: $type::new(config)?,)+
                })
            }

            /// What an operator's change comes to.
            ///
            /// # Errors
            /// Why it cannot be made.
            pub async fn read(&self, change: Change) -> Result<Proposal, RequestError> {
                $(if self.$module.takes(&change) {
                    return self.$module.read(change).await;
                })+
                Err(nobody_takes_it())
            }

            /// Makes an operator's change, unless the generation in force is not the `expected` one.
            ///
            /// # Errors
            /// Why it was not made.
            pub async fn propose(
                &self,
                queue: &Queue,
                change: Change,
                expected: Option<u64>,
            ) -> Result<Applied, RequestError> {
                $(if self.$module.takes(&change) {
                    return self.$module.propose(queue, change, expected).await;
                })+
                Err(nobody_takes_it())
            }

            /// Has every source propose what changes there by itself.
            pub fn watch(self: &Arc<Self>, queue: &Queue, vitals: &Vitals) {
                $({
                    let (sources, queue) = (Arc::clone(self), queue.clone());
                    let mut supervisor = Supervisor::new($part, vitals);
                    tokio::spawn(async move {
                        while let Err(why) = guarded(sources.$module.watch(&queue)).await {
                            if !supervisor.again_after(&why).await {
                                return;
                            }
                        }
                    });
                })+
            }
        }
    };
}

sources! {
    /// The configuration file: SIGHUP and `lb reload` have it read again.
    file FileSource "the answer to SIGHUP";
    /// What operators write by the command line and the API.
    local LocalSource "the source of changes by the API";
}

fn nobody_takes_it() -> RequestError {
    RequestError::Refused("no source of desired state takes such a change".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::desired::{Removal, Services};

    #[tokio::test]
    async fn a_file_that_is_read_anew_and_all_other_changes_have_a_source() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lb.toml");
        std::fs::write(&path, "").expect("written");
        let sources = Sources::new(Some(&path)).expect("sources");
        let reload = || Change::Reload {
            removal: Removal::Now,
            force: true,
        };
        let read = sources.read(reload()).await.expect("read");
        assert!(matches!(&read, Proposal::File(read) if read.force && read.removal == Removal::Now));
        let everything = Change::ReplaceAll(Services::default(), Removal::Now);
        assert_eq!(read.into_change(), everything);
        let local = sources.read(everything.clone()).await.expect("taken");
        assert_eq!(local.into_change(), everything);

        let without = Sources::new(None).expect("sources");
        let refused = without.read(reload()).await.expect_err("no file").to_string();
        assert!(refused.contains("--config"), "{refused}");
    }
}
