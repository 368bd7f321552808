//! Parts of the agent that fail: they begin again, and that is told.

use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use lb_tests::lab::{Agent, Forwarder, LbOptions};

use super::support::{LIMIT, lab, rig::lb, wait_until};

/// Waits until the agent answers and tells of a failure of its API that `word` says more of.
fn answers_again(agent: &Agent, word: &str) {
    wait_until("the API is there again, and the failure is told", || {
        let warnings = agent
            .status()
            .map_or_else(|_| Vec::new(), |status| status.warnings);
        let told = |warning: &String| warning.starts_with("the API has failed") && warning.contains(word);
        warnings.iter().any(told)
    });
    let status = agent.cli(&["status"]).unwrap();
    assert_eq!(status.status.code(), Some(0), "it is over");
}

/// Lets no connection be accepted any more on the socket that another process listens on.
fn break_listener(pid: u32, path: &Path) {
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap();
    let path = path.to_str().unwrap();
    // Of the lines with that path, one has the flag of listeners.
    let listener = sockets
        .lines()
        .find(|line| line.ends_with(path) && line.contains(" 00010000 "));
    let inode = listener.unwrap().split_whitespace().nth(6).unwrap();
    let link = format!("socket:[{inode}]");
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let named = entries.map(|entry| entry.unwrap().path());
    let number = named
        .filter(|path| fs::read_link(path).is_ok_and(|to| to.to_str() == Some(&link)))
        .map(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .parse::<libc::c_int>()
                .unwrap()
        })
        .next()
        .unwrap();
    let process = descriptor(&[libc::SYS_pidfd_open, i64::from(pid), 0, 0]);
    let socket = [
        libc::SYS_pidfd_getfd,
        i64::from(process.as_raw_fd()),
        i64::from(number),
        0,
    ];
    let socket = descriptor(&socket);
    // SAFETY: shutdown takes a descriptor, which is open, and a number.
    assert_eq!(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) }, 0);
}

/// The descriptor that a system call with these numbers returns.
fn descriptor(call: &[i64; 4]) -> OwnedFd {
    let [number, first, second, third] = *call;
    // SAFETY: both system calls that come here take numbers alone.
    let result = unsafe { libc::syscall(number, first, second, third) };
    assert!(result >= 0, "{}", io::Error::last_os_error());
    // SAFETY: they return a new descriptor, which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(libc::c_int::try_from(result).unwrap()) }
}

#[test]
fn an_api_that_nobody_reaches_any_more_begins_again() {
    let lab = lab(Forwarder::L2dsr, 0);
    let mut agent = Agent::start(&lab.balancer, &LbOptions::new(lb(), None)).unwrap();
    let socket = agent.socket();
    assert_eq!(
        agent
            .status()
            .unwrap()
            .warnings
            .iter()
            .filter(|warning| warning.contains("failed"))
            .count(),
        0
    );

    let pid = agent.process().id();
    break_listener(pid, &socket);
    answers_again(&agent, "cannot accept connections");

    // Somebody has tidied up.
    fs::remove_file(&socket).unwrap();
    fs::remove_file(format!("{}.lock", socket.display())).unwrap();
    answers_again(&agent, "removed or replaced");
    assert!(socket.exists());
    let stopped = agent.cli(&["stop"]).unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(agent.process().wait(LIMIT).unwrap().success());
    assert!(!socket.exists());
}

/// What cannot be helped ends the agent, so that whoever has started it can start it again; the dataplane goes on.
#[test]
fn an_agent_that_nobody_can_reach_ends() {
    let lab = lab(Forwarder::L2dsr, 0);
    let mut agent = Agent::start(&lab.balancer, &LbOptions::new(lb(), None)).unwrap();
    let socket = agent.socket();
    fs::remove_file(&socket).unwrap();
    // Somebody else answers there now.
    let _other = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let status = agent
        .process()
        .wait(lb_tests::patience::patient(5 * LIMIT))
        .unwrap();
    assert_eq!(status.code(), Some(1), "{}", agent.log_end());
    assert!(
        agent.log_end().contains("the API fails again and again"),
        "{}",
        agent.log_end()
    );
    assert_eq!(super::support::xdp_on(&lab.balancer.namespace, "eth0").len(), 1);
}
