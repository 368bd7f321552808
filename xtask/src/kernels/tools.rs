//! The programs that make and boot a guest.
//!
//! What must hold: nothing is installed. What the machine lacks is unpacked from the distribution's packages into the build
//! tree, which needs no root, and cannot be in the way of packages that are there.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::geteuid;

use super::archive::run;
use crate::apt;

/// Each program, and the package that brings it.
const TOOLS: [(&str, &str); 12] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("bash", "bash"),
    ("cpio", "cpio"),
    ("kmod", "kmod"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("tc", "iproute2"),
    ("ethtool", "ethtool"),
    ("strip", "binutils"),
];

/// Where packages have their programs, and where not everybody's `PATH` looks.
const PROGRAM_FOLDERS: [&str; 4] = ["usr/bin", "bin", "usr/sbin", "sbin"];
const LIBRARY_FOLDERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// The machine's own programs, and those that were unpacked.
pub(super) struct Tools {
    unpacked: PathBuf,
}

impl Tools {
    /// Finds all of them, and unpacks what is missing below `directory`.
    ///
    /// # Errors
    /// When there is no apt here, or a package cannot be downloaded.
    pub(super) fn ensure(directory: &Path) -> Result<Self> {
        if cfg!(not(target_arch = "x86_64")) {
            bail!("the guests are x86-64 machines, and this is none");
        }
        if !apt::is_here() {
            bail!("kernels come from the packages of Debian, and there is no apt here");
        }
        let tools = Self {
            unpacked: directory.join("tools"),
        };
        let missing: Vec<&str> = TOOLS
            .iter()
            .filter(|(program, _)| tools.path(program).is_err())
            .map(|(_, package)| *package)
            .collect();
        if !missing.is_empty() {
            eprintln!(
                "Unpacking {}, which booting other kernels needs.",
                missing.join(", ")
            );
            tools.unpack(&missing)?;
        }
        Ok(tools)
    }

    fn unpack(&self, packages: &[&str]) -> Result<()> {
        if geteuid().is_root() {
            apt::update()?;
        }
        let downloads = self.unpacked.with_extension("download");
        let archives = downloads.join("archives");
        fs::create_dir_all(archives.join("partial"))
            .with_context(|| format!("cannot make {}", archives.display()))?;
        let mut archives_option = OsString::from("Dir::Cache::archives=");
        archives_option.push(&archives);
        // Downloading alone removes nothing, whatever would have to make room for these packages.
        run(Command::new("apt-get")
            .args([
                "install",
                "--download-only",
                "--yes",
                "--quiet",
                "--no-install-recommends",
            ])
            .args(["-o", "Debug::NoLocking=1", "-o"])
            .arg(archives_option)
            .args(packages))?;
        fs::create_dir_all(&self.unpacked)?;
        for entry in fs::read_dir(&archives)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(file)
                    .arg(&self.unpacked))?;
            }
        }
        fs::remove_dir_all(&downloads)?;
        for (program, package) in TOOLS {
            ensure!(
                self.path(program).is_ok(),
                "the package {package} of this machine's lists has no program {program}"
            );
        }
        Ok(())
    }

    /// The program's path.
    pub(super) fn path(&self, program: &str) -> Result<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        let below = |root: &Path| PROGRAM_FOLDERS.map(|folder| root.join(folder));
        let more = below(Path::new("/")).into_iter().chain(below(&self.unpacked));
        match env::split_paths(&path)
            .chain(more)
            .map(|directory| directory.join(program))
            .find(|path| path.is_file())
        {
            Some(path) => Ok(path),
            None => bail!("there is no program {program}"),
        }
    }

    /// A command that runs the program, with the libraries that were unpacked with it.
    pub(super) fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(self.path(program)?);
        self.with_libraries(&mut command);
        Ok(command)
    }

    /// `depmod`, which is `kmod` by another name.
    pub(super) fn depmod(&self) -> Result<Command> {
        let mut command = self.command("kmod")?;
        command.arg0("depmod");
        Ok(command)
    }

    /// Where a file would be below a root directory if it had been installed.
    pub(super) fn as_installed<'f>(&self, file: &'f Path) -> &'f Path {
        file.strip_prefix(&self.unpacked)
            .or_else(|_| file.strip_prefix("/"))
            .unwrap_or(file)
    }

    /// Lets the command find libraries that were unpacked.
    pub(super) fn with_libraries(&self, command: &mut Command) {
        let folders = LIBRARY_FOLDERS.map(|folder| self.unpacked.join(folder));
        let folders: Vec<PathBuf> = folders.into_iter().filter(|folder| folder.is_dir()).collect();
        if let (false, Ok(joined)) = (folders.is_empty(), env::join_paths(folders)) {
            command.env("LD_LIBRARY_PATH", joined);
        }
    }
}
