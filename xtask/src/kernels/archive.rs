//! Kernels from the distribution's packages: found by series, downloaded once, unpacked, never installed.
//!
//! What must hold: apt's own lists and packages are left alone; all of this lies in the build tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::tools::Tools;

/// Releases of Debian that have kernels, the security updates of some apart.
const SUITES: [&str; 5] = ["bookworm", "trixie", "trixie-backports", "sid", "experimental"];
const SECURITY_SUITES: [&str; 2] = ["bookworm-security", "trixie-security"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel on disk.
pub(super) struct Kernel {
    /// As `uname -r` shows it.
    pub(super) release: String,
    /// The compressed kernel.
    pub(super) image: PathBuf,
    /// `…/lib/modules/RELEASE`.
    pub(super) modules: PathBuf,
    /// What was unpacked: `lib/modules` is below.
    pub(super) root: PathBuf,
}

/// The packages' lists, apart from those of the host.
pub(super) struct Archive {
    directory: PathBuf,
    names: Vec<Release>,
}

/// A kernel that the lists have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Release {
    /// The numbers in its name, to order by.
    numbers: Vec<u32>,
    /// Such as `6.12.118+deb13-amd64`.
    name: String,
    packages: Vec<String>,
}

impl Archive {
    /// Fetches the lists, unless that was done today.
    ///
    /// # Errors
    /// When there is no Debian mirror among apt's sources, or it cannot be reached.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let mut archive = Self {
            directory: directory.join("archive"),
            names: Vec::new(),
        };
        for folder in ["lists/partial", "packages", "unpacked"] {
            let folder = archive.directory.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let sources = archive.directory.join("sources.list");
        fs::write(&sources, sources_list(&mirrors()?))
            .with_context(|| format!("cannot write {}", sources.display()))?;
        archive.names = archive.releases()?;
        if archive.names.is_empty() {
            eprintln!("Fetching the lists of the distribution's kernels.");
            // A suite may be missing from a mirror; what counts is what is found then.
            let update = archive
                .apt("apt-get")
                .args(["update", "--quiet"])
                .output()
                .context("cannot run apt-get")?;
            archive.names = archive.releases()?;
            ensure!(
                !archive.names.is_empty(),
                "the mirror of this machine has no kernels: {}",
                String::from_utf8_lossy(&update.stderr)
            );
        }
        Ok(archive)
    }

    /// The newest series, such as `7.3`.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn newest_series(&self) -> Result<String> {
        match self.names.last().map(|release| &release.numbers[..]) {
            Some([major, minor, ..]) => Ok(format!("{major}.{minor}")),
            _ => bail!("the mirror of this machine has no kernels"),
        }
    }

    /// The newest kernel of a series, downloaded and unpacked.
    ///
    /// # Errors
    /// When there is none, or it cannot be downloaded.
    pub(super) fn kernel(&self, series: &str, tools: &Tools) -> Result<Kernel> {
        let wanted = numbers(series);
        let candidates = self
            .names
            .iter()
            .rev()
            .filter(|release| release.numbers.starts_with(&wanted));
        let mut refused = String::new();
        for release in candidates {
            match self.fetch(release, tools) {
                Ok(kernel) => return Ok(kernel),
                Err(error) => refused = format!(" ({}: {error:#})", release.name),
            }
        }
        let known: Vec<&str> = self.names.iter().map(|release| release.name.as_str()).collect();
        bail!(
            "no kernel {series} can be had here{refused}; there are {}",
            known.join(", ")
        )
    }

    fn fetch(&self, release: &Release, tools: &Tools) -> Result<Kernel> {
        let root = self.directory.join("unpacked").join(&release.name);
        if !root.is_dir() {
            eprintln!("Downloading {}.", release.packages.join(" and "));
            let packages = self.directory.join("packages").join(&release.name);
            let unpacked = self
                .directory
                .join("unpacked")
                .join(format!("{}.part", release.name));
            fs::create_dir_all(&packages)?;
            run(self
                .apt("apt-get")
                .arg("download")
                .args(&release.packages)
                .current_dir(&packages))?;
            for entry in fs::read_dir(&packages)? {
                run(Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(entry?.path())
                    .arg(&unpacked))?;
            }
            // Where `/lib` is a part of `/usr`, `depmod` looks in `/lib` all the same.
            if !unpacked.join("lib").exists() {
                std::os::unix::fs::symlink("usr/lib", unpacked.join("lib"))?;
            }
            run(tools
                .depmod()?
                .arg("-b")
                .arg(&unpacked)
                .arg(release_of(&unpacked)?))?;
            fs::remove_dir_all(&packages)?;
            fs::rename(&unpacked, &root)?;
        }
        let release = release_of(&root)?;
        let image = ["boot", "usr/lib/kernel", "usr/boot"]
            .iter()
            .map(|folder| root.join(folder))
            .find_map(|folder| find_image(&folder));
        let modules = root.join("lib/modules").join(&release);
        let image = match image {
            Some(image) => image,
            None => find_image(&modules).with_context(|| format!("no kernel image in {}", root.display()))?,
        };
        Ok(Kernel {
            release,
            image,
            modules,
            root,
        })
    }

    /// The kernels of the lists, oldest first.
    fn releases(&self) -> Result<Vec<Release>> {
        let output = self
            .apt("apt-cache")
            .args(["pkgnames", "linux-"])
            .output()
            .context("cannot run apt-cache")?;
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(releases_among(&names.lines().collect::<Vec<_>>()))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |path: &str| self.directory.join(path).display().to_string();
        for (key, value) in [
            ("Dir::Etc::sourcelist", at("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::State::lists", at("lists")),
            ("Dir::Cache::pkgcache", String::new()),
            ("Dir::Cache::srcpkgcache", String::new()),
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
        ] {
            command.arg("-o").arg(format!("{key}={value}"));
        }
        command.env("LC_ALL", "C");
        command
    }
}

/// The mirrors of Debian that apt uses here: of releases, and of security updates.
fn mirrors() -> Result<(String, Option<String>)> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI) $(LABEL)"])
        .output()
        .context("cannot run apt-get")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let of = |label: &str| {
        let line = text.lines().find_map(|line| line.strip_suffix(label));
        line.map(|uri| uri.trim().to_owned())
    };
    match of(" Debian") {
        Some(main) => Ok((main, of(" Debian-Security"))),
        None => bail!("apt has no lists of Debian here: run `apt-get update`, on Debian"),
    }
}

fn sources_list((main, security): &(String, Option<String>)) -> String {
    let line = |uri: &str, suite: &str| format!("deb [signed-by={KEYRING}] {uri} {suite} main\n");
    let mut lines: String = SUITES.iter().map(|suite| line(main, suite)).collect();
    if let Some(security) = security {
        lines.extend(SECURITY_SUITES.iter().map(|suite| line(security, suite)));
    }
    lines
}

/// The kernels for plain x86-64 machines among packages' names, oldest first.
///
/// Up to 6.18 one package holds kernel and modules, later there is one for each.
fn releases_among(names: &[&str]) -> Vec<Release> {
    let mut found: Vec<Release> = Vec::new();
    for &package in names {
        let of = |prefix: &str, suffix: &str| package.strip_prefix(prefix)?.strip_suffix(suffix);
        let (version, modules) = match (
            of("linux-image-", "-amd64-unsigned"),
            of("linux-image-", "-amd64"),
        ) {
            (Some(version), _) | (None, Some(version)) => (version, None),
            (None, None) => match of("linux-binary-", "-amd64") {
                Some(version) if !version.starts_with("unsigned-") => {
                    (version, Some(format!("linux-modules-{version}-amd64")))
                }
                _ => continue,
            },
        };
        let numbers = numbers(version);
        let is_plain = version.starts_with(|first: char| first.is_ascii_digit())
            && !version.contains("-amd")
            && !version.contains("cloud")
            && !version.contains("rt");
        // Less than three numbers name a series: a package that only asks for others.
        if !is_plain || numbers.len() < 3 {
            continue;
        }
        let is_split = names
            .iter()
            .any(|name| *name == format!("linux-binary-{version}-amd64"));
        if modules.is_none() && is_split {
            continue;
        }
        let name = format!("{version}-amd64");
        if found.iter().any(|release| release.name == name) {
            continue;
        }
        let packages = match modules {
            Some(modules) if names.contains(&modules.as_str()) => vec![package.to_owned(), modules],
            Some(_) => continue,
            None => vec![package.to_owned()],
        };
        found.push(Release {
            numbers,
            name,
            packages,
        });
    }
    found.sort();
    found
}

/// The numbers in a version, in order: those of `6.1.0-57` are 6, 1, 0 and 57.
pub(super) fn numbers(version: &str) -> Vec<u32> {
    let is_digit = |c: char| c.is_ascii_digit();
    version
        .split(|c| !is_digit(c))
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// What `uname -r` will show: the name of the one folder in `lib/modules`.
fn release_of(root: &Path) -> Result<String> {
    let modules = root.join("lib/modules");
    let mut folders = fs::read_dir(&modules).with_context(|| format!("no modules in {}", root.display()))?;
    let folder = folders
        .next()
        .with_context(|| format!("{} is empty", modules.display()))??;
    Ok(folder.file_name().to_string_lossy().into_owned())
}

fn find_image(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
        })
}

/// Runs a command whose output matters only when it fails.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_by_the_names_of_packages_of_both_kinds() {
        let names = [
            "linux-image-amd64",
            "linux-image-6.12-amd64",
            "linux-image-6.12.118+deb13-amd64",
            "linux-image-6.12.118+deb13-amd64-unsigned",
            "linux-image-6.12.118+deb13-cloud-amd64",
            "linux-image-6.12.118+deb13-rt-amd64",
            "linux-image-6.1.0-57-amd64-unsigned",
            "linux-image-6.1.0-9-amd64",
            "linux-image-7.2.13+deb14-amd64",
            "linux-binary-7.2.13+deb14-amd64",
            "linux-binary-unsigned-7.2.13+deb14-amd64",
            "linux-modules-7.2.13+deb14-amd64",
            "linux-binary-7.0.13+deb13-amd64",
        ];
        let found = releases_among(&names);
        let known: Vec<&str> = found.iter().map(|release| release.name.as_str()).collect();
        assert_eq!(
            known,
            [
                "6.1.0-9-amd64",
                "6.1.0-57-amd64",
                "6.12.118+deb13-amd64",
                "7.2.13+deb14-amd64"
            ]
        );
        assert_eq!(
            found[3].packages,
            [
                "linux-binary-7.2.13+deb14-amd64",
                "linux-modules-7.2.13+deb14-amd64"
            ]
        );
    }
}
