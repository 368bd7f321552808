//! What a guest boots with: an initramfs of busybox, iproute2, the project's binaries and the modules that matter.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::Payload;
use super::archive::{Kernel, run};
use super::guest::{self, Suite};
use super::tools::Tools;

/// Programs of the guest beside busybox.
const PROGRAMS: [&str; 6] = ["bash", "ip", "bridge", "tc", "ethtool", "kmod"];
/// Folders of the guest.
const FOLDERS: [&str; 13] = [
    "bin",
    "dev",
    "etc",
    "lib",
    "lib64",
    "opt/lb",
    "proc",
    "run/netns",
    "sbin",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
];
/// The modules that the tests use, without what they need themselves.
const MODULES: [&str; 30] = [
    "virtio_pci",
    "virtio_net",
    "virtio_rng",
    "veth",
    "bridge",
    "8021q",
    "bonding",
    "dummy",
    "vrf",
    "ipip",
    "sit",
    "ip6_tunnel",
    "ip_gre",
    "ip6_gre",
    "fou",
    "fou6",
    "macvlan",
    "vxlan",
    "ifb",
    "tun",
    "sch_netem",
    "sch_ingress",
    "cls_bpf",
    "cls_u32",
    "nf_tables",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "sctp",
    "af_packet",
];

/// Makes the part that all kernels share: an archive for [`with_modules`].
pub(super) fn base(directory: &Path, payload: &Payload, suites: &[Suite], tools: &Tools) -> Result<PathBuf> {
    let root = directory.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder))?;
    }
    copy_with_libraries(&tools.path("busybox")?, &root, "bin", tools)?;
    for program in PROGRAMS {
        copy_with_libraries(&tools.path(program)?, &root, "usr/bin", tools)?;
    }
    symlink("/usr/bin/kmod", root.join("sbin/modprobe"))?;
    // Scripts of tests mean iproute2's `ip`; the shell of busybox would take its own.
    symlink("/usr/bin/bash", root.join("bin/sh"))?;
    for (name, path) in &payload.binaries {
        copy_with_libraries(path, &root, "opt/lb", tools)?;
        let copied = root.join("opt/lb").join(path.file_name().unwrap_or_default());
        let stripped = root.join("opt/lb").join(name);
        run(tools.command("strip")?.arg("-o").arg(&stripped).arg(path))?;
        if copied != stripped {
            fs::remove_file(copied)?;
        }
    }
    fs::create_dir_all(root.join(payload.rows_saved.strip_prefix("/")?))?;
    for entry in fs::read_dir(&payload.rows_saved)? {
        let path = entry?.path();
        fs::copy(&path, root.join(path.strip_prefix("/")?))?;
    }
    let init = root.join("init");
    fs::write(&init, guest::INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    fs::write(root.join("suites"), guest::script(suites))?;
    archive(&root, &directory.join("base.cpio"), tools)
}

/// Adds the modules of `kernel`: the initramfs to boot it with.
pub(super) fn with_modules(base: &Path, kernel: &Kernel, tools: &Tools) -> Result<PathBuf> {
    let directory = base.parent().context("the image has no folder")?;
    let root = directory.join("modules");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    let folder = root.join("lib/modules").join(&kernel.release);
    for module in needed(kernel)? {
        let from = kernel.modules.join(&module);
        let to = folder.join(module.trim_end_matches(".xz").trim_end_matches(".zst"));
        fs::create_dir_all(to.parent().context("a module has no folder")?)?;
        let tool = match from.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => Some("xz"),
            Some("zst") => Some("zstd"),
            _ => None,
        };
        match tool {
            Some(tool) => run_into(tools.command(tool)?.arg("-dc").arg(&from), &to)?,
            None => fs::copy(&from, &to).map(drop)?,
        }
    }
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        if kernel.modules.join(list).is_file() {
            fs::copy(kernel.modules.join(list), folder.join(list))?;
        }
    }
    run(tools.depmod()?.arg("-b").arg(&root).arg(&kernel.release))?;
    let modules = archive(&root, &directory.join("modules.cpio"), tools)?;
    // One for each kernel: several may boot side by side.
    let initrd = directory.join(format!("initrd-{}.cpio", kernel.release));
    fs::copy(base, &initrd)?;
    let mut both = OpenOptions::new().append(true).open(&initrd)?;
    both.write_all(&fs::read(modules)?)?;
    Ok(initrd)
}

/// The files of the modules and of all that they need, relative to the kernel's folder.
fn needed(kernel: &Kernel) -> Result<BTreeSet<String>> {
    let list = kernel.modules.join("modules.dep");
    let text = fs::read_to_string(&list)
        .with_context(|| format!("cannot read {} of {}", list.display(), kernel.root.display()))?;
    let mut files = BTreeSet::new();
    for line in text.lines() {
        let Some((file, needs)) = line.split_once(':') else {
            continue;
        };
        let name = Path::new(file)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let name = name.split('.').next().unwrap_or_default().replace('-', "_");
        if MODULES.contains(&name.as_str()) || name.starts_with("crc32c") {
            files.insert(file.to_owned());
            files.extend(needs.split_whitespace().map(str::to_owned));
        }
    }
    ensure!(
        !files.is_empty(),
        "the kernel {} has none of the modules that the tests use",
        kernel.release
    );
    Ok(files)
}

fn copy_with_libraries(program: &Path, root: &Path, folder: &str, tools: &Tools) -> Result<()> {
    let name = program.file_name().context("a program has no name")?;
    fs::copy(program, root.join(folder).join(name))
        .with_context(|| format!("cannot copy {}", program.display()))?;
    let mut list = Command::new("ldd");
    tools.with_libraries(&mut list);
    let listed = list.arg(program).output().context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(tools.as_installed(Path::new(library)));
        if !to.exists() && Path::new(library) != program {
            fs::create_dir_all(to.parent().context("a library has no folder")?)?;
            fs::copy(library, &to).with_context(|| format!("cannot copy {library}"))?;
        }
    }
    Ok(())
}

/// Packs a folder as the kernel unpacks it (`newc`).
fn archive(root: &Path, file: &Path, tools: &Tools) -> Result<PathBuf> {
    let mut find = Command::new("find")
        .arg(".")
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run find")?;
    let names = find.stdout.take().context("the names of files cannot be read")?;
    let mut cpio = tools.command("cpio")?;
    cpio.args(["--create", "--format=newc", "--quiet", "--owner=0:0"])
        .current_dir(root)
        .stdin(names);
    run_into(&mut cpio, file)?;
    find.wait()?;
    Ok(file.to_owned())
}

fn run_into(command: &mut Command, file: &Path) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let status = command
        .stdout(output)
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(status.success(), "{program} failed");
    Ok(())
}
