//! Whether program, host build and model say the same of a packet.

use anyhow::{Result, bail, ensure};
use lb_common::abi::Action;
use lb_packets::check_sums;
use lb_world::World;

use super::{
    flaw::Broken,
    machine::{Did, Host, Loaded},
    model::{Expected, Model},
};

/// All that have an opinion, in the same state.
pub(super) struct Judges<'w> {
    host: Host,
    loaded: Loaded,
    model: Model<'w>,
}

/// What each said of one packet, where they did not agree.
#[derive(Clone, Debug)]
pub(super) struct Disagreement {
    /// What is wrong.
    pub message: String,
    /// What became of the packet in the kernel, if it was run.
    pub kernel: Option<Did>,
    /// What became of it on the host.
    pub host: Did,
    /// What the model says.
    pub model: Expected,
}

impl<'w> Judges<'w> {
    /// Fresh ones; with `broken`, something about them is. To be called inside [`super::machine::Kernel::within`].
    ///
    /// # Errors
    /// When the program cannot be loaded.
    pub(super) fn new(world: &'w World, broken: Broken) -> Result<Self> {
        Ok(Self {
            host: Host::new(world, broken.host)?,
            loaded: Loaded::new(world, broken.kernel)?,
            model: Model::new(world, broken.model),
        })
    }

    /// What becomes of a packet, if all agree; with `for_real` the program is run as on a wire, too.
    ///
    /// # Errors
    /// What each said.
    pub(super) fn judge(&mut self, frame: &[u8], for_real: bool) -> Result<Did, Box<Disagreement>> {
        let explained = self.loaded.explain(frame);
        let host = self.host.run(frame);
        let model = self.model.judge(frame, &host.frame);
        let agreed = match &explained {
            Ok(kernel) => agree(frame, kernel, &host, &model).and_then(|()| {
                if for_real || model.is_noted {
                    self.loaded.run(frame, kernel)
                } else {
                    Ok(())
                }
            }),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        match agreed {
            Ok(()) => Ok(host),
            Err(error) => Err(Box::new(Disagreement {
                message: format!("{error:#}"),
                kernel: explained.ok(),
                host,
                model,
            })),
        }
    }
}

impl Disagreement {
    /// What it has in common with others like it.
    pub(super) fn kind(&self) -> String {
        let (host, model) = (self.host.reason, self.model.reason);
        let digits = |c: char| c.is_ascii_digit();
        let message = self.message.split(digits).next().unwrap_or_default();
        format!("{host:?} {model:?} {:?} {message}", self.host.backend)
    }
}

fn agree(frame: &[u8], kernel: &Did, host: &Did, model: &Expected) -> Result<()> {
    ensure!(kernel == host, "the kernel and the host differ");
    if let Some(fault) = model.fault {
        bail!(fault);
    }
    ensure!(
        host.reason == model.reason,
        "left for {:?}, which the model calls {:?}",
        host.reason,
        model.reason
    );
    ensure!(
        model.backend.is_none() || host.backend == model.backend,
        "went to {:?}, by the model to {:?}",
        host.backend,
        model.backend
    );
    ensure!(
        host.redirected == model.redirected,
        "redirected: {}, by the model: {}",
        host.redirected,
        model.redirected
    );
    ensure!(
        settled(&host.frame, &model.loose) == settled(&model.frame, &model.loose),
        "the frame differs from the model's at {:?}",
        difference(&host.frame, &model.frame)
    );
    if matches!(host.reason.action(), Action::Send | Action::Hand) {
        if check_sums(frame).is_ok() {
            check_sums(&host.frame)?;
        }
    } else {
        ensure!(host.frame == frame, "dropped or passed, but changed");
    }
    Ok(())
}

/// The frame with one of the two zeros where both will do.
fn settled(frame: &[u8], loose: &[usize]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for at in loose {
        if let Some(sum) = frame.get_mut(*at..at + 2)
            && sum == [0xff; 2]
        {
            sum.fill(0);
        }
    }
    frame
}

/// The first places where two frames differ.
fn difference(a: &[u8], b: &[u8]) -> Vec<usize> {
    let longest = a.len().max(b.len());
    (0..longest).filter(|i| a.get(*i) != b.get(*i)).take(8).collect()
}
