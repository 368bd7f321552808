//! Pinning the maps and the program in a BPF file system, for other tools to look at.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use lb_common::abi::PROGRAM;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::Dataplane;

/// Pins that go when this does.
#[derive(Debug)]
pub struct Pins {
    directory: PathBuf,
    files: Vec<PathBuf>,
}

impl Pins {
    /// Pins every map under its name, and the program, in `directory`.
    ///
    /// # Errors
    /// When the directory is no BPF file system, or something else is pinned there.
    pub fn new(dataplane: &mut Dataplane, directory: &Path) -> Result<Self> {
        make_directory(directory)?;
        let mut pins = Self {
            directory: directory.to_owned(),
            files: Vec::new(),
        };
        for (name, map) in dataplane.ebpf.maps() {
            pins.pin(name, |path| map.pin(path).map_err(anyhow::Error::from))?;
        }
        let program = dataplane.program_mut()?;
        pins.pin(&format!("prog-{PROGRAM}"), |path| Ok(program.pin(path)?))?;
        Ok(pins)
    }

    fn pin(&mut self, name: &str, pin: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        // A BPF file system takes no dots, which the maps of data sections have in their names.
        let path = self
            .directory
            .join(name.trim_start_matches('.').replace('.', "-"));
        pin(&path).with_context(|| {
            format!(
                "cannot pin {}: if an earlier lb left it there, remove it with `rm`",
                path.display()
            )
        })?;
        self.files.push(path);
        Ok(())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for file in &self.files {
            if let Err(error) = fs::remove_file(file) {
                log::warn!("cannot remove the pin {}: {error}", file.display());
            }
        }
    }
}

fn make_directory(directory: &Path) -> Result<()> {
    match fs::create_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", directory.display()));
        }
        _ => {}
    }
    let kind = statfs(directory)
        .with_context(|| format!("cannot look at {}", directory.display()))?
        .filesystem_type();
    ensure!(
        kind == BPF_FS_MAGIC,
        "{} is not on a BPF file system: mount one with `mount -t bpf bpf /sys/fs/bpf` (`ip netns exec` hides the host's) \
         or choose another --pin-dir",
        directory.display()
    );
    Ok(())
}
