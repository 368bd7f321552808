//! Who may have the socket, and with which permissions.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
};

use crate::agent::server::socket::{ApiSocket, SocketError};

#[tokio::test]
async fn has_its_mode_and_takes_the_name_along() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("run/lb/lb.sock");
    let socket = ApiSocket::bind(&path).expect("bound");
    let mode = |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o660);
    assert_eq!(mode(path.parent().expect("a parent")), 0o755);
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn is_not_taken_from_the_living() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lb.sock");
    let first = ApiSocket::bind(&path).expect("bound");
    assert!(matches!(ApiSocket::bind(&path), Err(SocketError::InUse(_))));
    assert!(path.exists(), "the refused one leaves it alone");
    drop(first);
    let _other_program = UnixListener::bind(&path).expect("bound");
    assert!(matches!(ApiSocket::bind(&path), Err(SocketError::InUse(_))));
}

#[tokio::test]
async fn is_taken_from_the_dead() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lb.sock");
    drop(UnixListener::bind(&path).expect("bound"));
    assert!(path.exists());
    ApiSocket::bind(&path).expect("nobody answers there");
}

#[tokio::test]
async fn does_not_replace_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lb.sock");
    fs::write(&path, "precious").expect("written");
    assert!(matches!(ApiSocket::bind(&path), Err(SocketError::NoSocket(_))));
    assert_eq!(fs::read_to_string(&path).expect("read"), "precious");
}
