//! Changes that are planned from the command line.

use serde_json::json;

use super::{WEB, lb, lb_json, parse};
use crate::agent::server::tests::actor::Lab;
use crate::cli::output::Failure;

#[tokio::test]
async fn the_plan_of_a_removal_reads_well_and_changes_nothing() {
    let lab = Lab::start();
    let backends = "--slots 64 --backend 10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8";
    lb(&lab, &format!("{WEB} {backends}")).await.expect("added");
    let before = lb_json(&lab, "list").await;
    let text = lb(&lab, "plan backend remove web 10.0.0.6")
        .await
        .expect("planned");
    let expected = "\
generation 1: nothing has been changed
Service  Change   Slots  Moved        At least     Flows moved  Flows cut
web      changed  64     16 (25.00%)  16 (25.00%)  about 100    0
  -> 10.0.0.6 drains: slots 16→0, flows about 100
";
    assert_eq!(text, expected);
    let text = lb(&lab, "plan backend remove web 10.0.0.6 --now")
        .await
        .expect("planned");
    assert!(
        text.contains("10.0.0.6 is cut: slots 16→0, flows about 100"),
        "{text}"
    );
    let text = lb(&lab, "plan service set web --affinity client-ip")
        .await
        .expect("planned");
    assert!(text.contains("  note: another affinity"), "{text}");
    let text = lb(&lab, "plan backend set web 10.0.0.6 --weight 1")
        .await
        .expect("planned");
    assert_eq!(text, "generation 1: nothing would change\n");
    assert_eq!(lb_json(&lab, "list").await, before);
}

#[tokio::test]
async fn a_reload_can_be_tried() {
    let lab = Lab::start();
    lb(&lab, &format!("{WEB} --backend 10.0.0.5"))
        .await
        .expect("added");
    std::fs::write(lab.directory.path().join("lb.toml"), "").expect("written");
    let tried = lb_json(&lab, "reload --dry-run").await;
    assert_eq!(tried["services"][0]["change"], "removed");
    assert_eq!(lb_json(&lab, "plan reload --if-generation 1").await, tried);
    assert_eq!(lb_json(&lab, "list").await["services"][0]["name"], "web");
    assert_eq!(lb_json(&lab, "reload").await["generation"], 2);
    assert_eq!(lb_json(&lab, "list").await["services"], json!([]));
}

#[tokio::test]
async fn a_plan_takes_what_the_change_takes() {
    let lab = Lab::start();
    lb(&lab, &format!("{WEB} --backend 10.0.0.5,10.0.0.6"))
        .await
        .expect("added");
    for line in [
        "service add dns --vip 192.0.2.53 --protocol udp --port 53 --forwarder l2dsr --backend 10.0.0.5",
        "service set web --scheduler maglev --slots 1024",
        "service remove web",
        "backend add web 10.0.0.7 --weight 3",
        "backend set web 10.0.0.5 --weight 3",
        "backend drain web 10.0.0.5 --deadline 5m",
        "backend maint web 10.0.0.5",
        "backend ready web 10.0.0.5",
        "drain 10.0.0.5 --service web",
        "ready 10.0.0.5",
    ] {
        let plan = lb_json(&lab, &format!("plan {line}")).await;
        assert_eq!(plan["generation"], 1, "{line}");
        let conflict = lb(&lab, &format!("plan {line} --if-generation 9")).await;
        assert!(
            matches!(conflict, Err(Failure::Conflict(_))),
            "{line}: {conflict:?}"
        );
    }
    for line in [
        "plan drain 10.0.0.5 --wait",
        "plan backend drain web 10.0.0.5 --wait",
    ] {
        assert!(parse(line).is_ok());
        let refused = lb(&lab, line).await;
        assert!(
            matches!(&refused, Err(Failure::BadInput(why)) if why.contains("leave out --wait")),
            "{line}: {refused:?}"
        );
    }
}
