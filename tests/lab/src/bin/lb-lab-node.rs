//! `lb-lab-node`: the processes that the lab starts inside its namespaces.

use std::{net::SocketAddr, thread};

use anyhow::{Context, Result};
use clap::Parser;
use lb_lab::traffic::server::{self, Server};
use lb_lab::{Forwarder, Lab, LabOptions, Namespace};

/// A process of the lab; started by `lb-demo` and by the tests.
#[derive(Debug, Parser)]
enum Node {
    /// Serve HTTP (TCP) and echo (UDP) until killed.
    Serve {
        /// The name that every answer carries.
        #[arg(long)]
        name: String,
        /// An address and port to listen on; may be given several times.
        #[arg(long, required = true)]
        listen: Vec<SocketAddr>,
    },
    /// Build a lab with servers, print its processes and namespaces as JSON, and hold it until killed. For a look
    /// around: `nsenter --net=/proc/PID/ns/net`.
    Hold {
        /// How the backends are set up.
        #[arg(long, default_value = "ipip")]
        forwarder: Forwarder,
        /// The port that the servers listen on.
        #[arg(long, default_value_t = 80)]
        port: u16,
    },
}

fn main() -> Result<()> {
    match Node::parse() {
        Node::Serve { name, listen } => serve(&name, &listen),
        Node::Hold { forwarder, port } => hold(forwarder, port),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve(name: &str, listen: &[SocketAddr]) -> Result<()> {
    server::serve(name, listen).await
}

fn hold(forwarder: Forwarder, port: u16) -> Result<()> {
    let lab = Lab::new(LabOptions::new(forwarder))?;
    let mut servers = Vec::new();
    for backend in &lab.backends {
        let listen = lab.listen_addresses(backend, port);
        servers.push(Server::start(&backend.namespace, &backend.name, &listen)?);
    }
    let processes: Vec<u32> = servers.iter_mut().map(|server| server.process().id()).collect();
    let hosts = lab.clients.iter().chain([&lab.balancer]).chain(&lab.backends);
    let namespaces = hosts
        .map(|host| &host.namespace)
        .chain([&lab.wire])
        .map(Namespace::inode);
    let namespaces = namespaces
        .collect::<Result<Vec<u64>>>()
        .context("cannot describe the lab")?;
    println!(
        "{}",
        serde_json::json!({ "processes": processes, "namespaces": namespaces })
    );
    loop {
        thread::park();
    }
}
