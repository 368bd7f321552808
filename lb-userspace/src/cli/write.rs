//! Verbs that change something.
//!
//! Invariant: each verb makes one [`Change`], which is either written or, by `lb plan`, only asked about.

use clap::{Args, Subcommand};

use super::{
    backend::BackendVerb,
    drain::{DrainArgs, ReadyArgs},
    output::{Failure, Output},
    plan,
    service::ServiceVerb,
    wait::{Waited, wait},
    write_options::WriteOptions,
};
use lb_api::{Applied, client::Client};
use lb_core::desired::{Change, Removal};

#[expect(clippy::large_enum_variant, reason = "there is one of it")]
#[derive(Subcommand, Debug)]
pub(super) enum WriteVerb {
    /// Add, change and remove services.
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Add, change, drain and remove backends of a service.
    #[command(subcommand)]
    Backend(BackendVerb),
    /// Drain a whole host, or all backends of a zone, in all services at once.
    Drain(DrainArgs),
    /// Let a whole host, or all backends of a zone, take traffic again.
    Ready(ReadyArgs),
    /// Read the configuration file again and apply what is different.
    Reload(ReloadArgs),
}

#[derive(Args, Debug)]
pub(super) struct ReloadArgs {
    /// Cut the flows of backends that the file no longer has, instead of draining them.
    #[arg(long)]
    now: bool,
    /// Obey the file though it no longer has more than half of the services, or all backends of one.
    #[arg(long)]
    force: bool,
    /// Show what it would do and change nothing; the same as `lb plan reload`.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    write: WriteOptions,
}

impl WriteVerb {
    /// Makes the change, and waits for the drains that it begins if that was asked for.
    pub(super) async fn execute(self, client: &Client, json: bool) -> Result<Output, Failure> {
        if matches!(&self, Self::Reload(args) if args.dry_run) {
            return self.plan(client, json).await;
        }
        let waits = self.waits();
        let (change, options) = self.change()?;
        let applied = client.write(&change, options.if_generation).await?;
        match change {
            Change::SetBackend { service, backend, .. } if waits => {
                let one = Waited::one(client, service, backend).await?;
                wait(client, applied.generation, &one, json).await
            }
            Change::Drain(selection) if waits => {
                wait(client, applied.generation, &Waited::Selection(selection), json).await
            }
            _ => Output::either(json, &applied, || done(&applied)),
        }
    }

    /// Shows what the change would do.
    pub(super) async fn plan(self, client: &Client, json: bool) -> Result<Output, Failure> {
        if self.waits() {
            let message = "there is nothing to wait for, as a plan drains nothing: leave out --wait";
            return Err(Failure::BadInput(message.into()));
        }
        let (change, options) = self.change()?;
        let view = client.plan(&change, options.if_generation).await?;
        Output::either(json, &view, || plan::text(&view))
    }

    /// What was typed, as the agent takes it.
    fn change(self) -> Result<(Change, WriteOptions), Failure> {
        match self {
            Self::Service(verb) => verb.change(),
            Self::Backend(verb) => Ok(verb.change()),
            Self::Drain(args) => Ok(args.change()),
            Self::Ready(args) => Ok(args.change()),
            Self::Reload(args) => Ok(args.change()),
        }
    }

    /// Whether the end of a drain is to be waited for.
    fn waits(&self) -> bool {
        match self {
            Self::Backend(verb) => verb.waits(),
            Self::Drain(args) => args.waits(),
            Self::Service(_) | Self::Ready(_) | Self::Reload(_) => false,
        }
    }
}

impl ReloadArgs {
    fn change(self) -> (Change, WriteOptions) {
        let Self {
            now,
            force,
            dry_run: _,
            write,
        } = self;
        let removal = Removal::from(now);
        (Change::Reload { removal, force }, write)
    }
}

/// What a write has done, in words.
fn done(applied: &Applied) -> String {
    let Applied {
        generation,
        apply_us,
        saved,
        removed,
    } = applied;
    let unsaved = unless_saved(*saved);
    let removed = match removed.as_deref() {
        None | Some([]) => String::new(),
        Some(names) => format!("\nno longer there: {}", names.join(", ")),
    };
    format!("done: generation {generation}, applied in {apply_us} µs{unsaved}{removed}")
}

/// What to add about a change that is in force, but not on disk.
pub(super) fn unless_saved(saved: bool) -> &'static str {
    if saved {
        ""
    } else {
        "; not saved on disk, a restart would lose it: `lb status` says why"
    }
}
