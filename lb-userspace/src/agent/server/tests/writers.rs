//! Many writers at once, and writers that have not seen the last change.

use std::collections::HashSet;

use super::actor::Lab;
use lb_api::client::ClientError;
use lb_core::desired::{Backend, BackendPatch, Change, Removal, Service, ServiceName, ServicePatch};

fn service(name: &str) -> Service {
    serde_json::from_value(serde_json::json!({
        "name": name, "vips": ["10.0.0.1"], "protocol": "tcp", "port": 80, "forwarder": "ipip",
    }))
    .expect("a service")
}

fn backend(text: &str) -> Backend {
    Backend::new(text.parse().expect("a backend"))
}

fn add_backend(service: &ServiceName, backend: Backend) -> Change {
    Change::AddBackend {
        service: service.clone(),
        backend,
    }
}

#[tokio::test]
async fn fifty_writers_lose_nothing() {
    let lab = Lab::start();
    lab.client
        .write(&Change::AddService(service("web")), None)
        .await
        .expect("added");
    let name: ServiceName = "web".parse().expect("a name");
    let writer = |w: u32| {
        let (client, name) = (lab.client.clone(), ServiceName::clone(&name));
        async move {
            let mut generations = Vec::new();
            for i in 0..20 {
                let add = add_backend(&name, backend(&format!("10.1.{w}.{i}")));
                let added = client.write(&add, None).await;
                generations.push(added.expect("added").generation);
            }
            generations
        }
    };
    let writers: Vec<_> = (0..50).map(|w| tokio::spawn(writer(w))).collect();
    let mut generations = HashSet::new();
    for task in writers {
        generations.extend(task.await.expect("a writer that ends"));
    }
    let view = lab.client.services().await.expect("the services");
    let addresses: HashSet<_> = view.services[0].backends.iter().map(|b| b.address).collect();
    assert_eq!(
        (addresses.len(), generations.len(), view.generation),
        (1_000, 1_000, 1_001)
    );
}

#[tokio::test]
async fn only_one_of_two_writers_of_a_generation_wins() {
    let lab = Lab::start();
    lab.client
        .write(&Change::AddService(service("web")), None)
        .await
        .expect("added");
    let name = "web".parse().expect("a name");
    let seen = lab.client.services().await.expect("the services").generation;
    lab.client
        .write(&add_backend(&name, backend("10.1.0.1")), Some(seen))
        .await
        .expect("the first one wins");
    let late = lab
        .client
        .write(&add_backend(&name, backend("10.1.0.2")), Some(seen))
        .await;
    let Err(ClientError::Conflict(message)) = late else {
        panic!("{late:?}")
    };
    assert!(
        message.contains("generation 1 was expected, but it is 2 by now"),
        "{message}"
    );
    let reload = Change::Reload {
        removal: Removal::Drain,
        force: false,
    };
    let reloaded = lab.client.write(&reload, Some(seen)).await;
    assert!(
        matches!(reloaded, Err(ClientError::Refused { ref code, .. }) if code == "config"),
        "{reloaded:?}"
    );
    std::fs::write(lab.directory.path().join("lb.toml"), "").expect("written");
    assert!(matches!(
        lab.client.write(&reload, Some(seen)).await,
        Err(ClientError::Conflict(_))
    ));
    assert_eq!(
        lab.client.services().await.expect("the services").services[0]
            .backends
            .len(),
        1
    );
}

#[tokio::test]
async fn every_kind_of_write_arrives() {
    let lab = Lab::start();
    let client = &lab.client;
    let mut nat = service("web");
    let service: ServiceName = nat.name.clone();
    nat.forwarder = lb_core::desired::Forwarder::Nat;
    nat.vips.push("2001:db8::1".parse().expect("an address"));
    client.write(&Change::AddService(nat), None).await.expect("added");
    let new = backend("[2001:db8::5]:8080");
    let backend = new.id();
    client
        .write(&add_backend(&service, new), None)
        .await
        .expect("added");
    let heavier = BackendPatch {
        weight: Some(7),
        ..BackendPatch::default()
    };
    let set = Change::SetBackend {
        service: service.clone(),
        backend,
        patch: heavier,
    };
    client.write(&set, None).await.expect("set");
    let patch = ServicePatch {
        slots: Some(Some(64)),
        ..ServicePatch::default()
    };
    let set = Change::SetService {
        service: service.clone(),
        patch,
    };
    client.write(&set, None).await.expect("set");
    let view = client.services().await.expect("the services");
    assert_eq!(
        (view.services[0].slots, view.services[0].backends[0].weight),
        (64, 7)
    );
    let remove = Change::RemoveBackend {
        service: service.clone(),
        backend,
        removal: Removal::Now,
    };
    client.write(&remove, None).await.expect("removed");
    let missing = client.write(&remove, None).await;
    assert!(
        matches!(missing, Err(ClientError::Refused { ref code, .. }) if code == "not_found"),
        "{missing:?}"
    );
    let last = client
        .write(&Change::RemoveService { service }, None)
        .await
        .expect("removed");
    let view = client.services().await.expect("the services");
    assert_eq!((view.services.len(), view.generation), (0, last.generation));
}

#[tokio::test]
async fn says_what_to_do_when_nobody_answers() {
    let directory = tempfile::tempdir().expect("a directory");
    let client = lb_api::client::Client::new(&directory.path().join("lb.sock"));
    let Err(ClientError::NoAgent(message)) = client.status().await else {
        panic!("somebody answered")
    };
    assert!(
        message.contains("lb run --iface") && message.contains("--socket"),
        "{message}"
    );
}
