//! From an SLA to a running instance, and away again.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Root, hello_sla, sla, wait_until};

#[tokio::test]
async fn an_sla_becomes_a_running_instance_and_goes_when_deleted() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    let instance = root.api.wait_for(&service, number, "RUNNING").await;
    assert_eq!(instance["worker_id"], Value::Null, "the root knows no worker");
    assert_eq!(instance["published_at"], "127.0.0.1");
    let containers = worker.runtime.containers();
    assert_eq!(containers.len(), 1);

    let shown = root.api.get(&format!("/api/service/{service}")).await.ok();
    assert_eq!(shown["status"], "RUNNING");
    let application = shown["applicationID"].as_str().expect("an id");
    root.api.delete(&format!("/api/application/{application}")).await.ok();
    assert_eq!(root.api.get("/api/applications/").await.ok(), json!([]));
    assert_eq!(root.api.get(&format!("/api/service/{service}")).await.status, 404);
    wait_until("the container to go", async || {
        let left = worker.runtime.containers();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn hosts_without_ipv4_are_as_good_as_others() {
    let root = Root::start_at(std::net::Ipv6Addr::LOCALHOST.into()).await;
    let cluster = root.cluster("one").await;
    let mut worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    let instance = root.api.wait_for(&service, number, "RUNNING").await;
    assert_eq!(instance["published_at"], "::1");
    // Its beats come to the same address.
    worker.kill();
    worker.start_again().await;
    root.api.wait_for(&service, number, "RUNNING").await;
    assert_eq!(worker.starts(), [1]);
}

#[tokio::test]
async fn what_a_worker_is_given_is_what_the_sla_says() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    let service = sla(
        "shop",
        json!({
            "microservice_name": "full", "microservice_namespace": "test", "virtualization": "container",
            "code": "image:1", "memory": 64, "vcpu": 1, "cmd": ["serve", "--all"], "one_shot": true,
            "environment": ["KEY=VALUE"], "port": "8080:80/tcp;53/udp", "privileged": true,
            "added_files": [{"path": "/etc/app.conf", "content": "on", "mode": "0600"}],
        }),
    );
    let service = root.api.create(&service).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    let (_, container) = worker.runtime.containers().remove(0);
    let spec = format!("{:?}", container.order);
    for part in [
        "image:1",
        "Mebibytes(64)",
        "Millicores(1000)",
        "\"serve\", \"--all\"",
        "\"KEY\": \"VALUE\"",
        "host: 8080, container: 80, protocol: Tcp",
        "host: 53, container: 53, protocol: Udp",
        "/etc/app.conf",
        "privileged: true",
    ] {
        assert!(spec.contains(part), "{part} is missing in {spec}");
    }
    worker.runtime.exit(container.order.instance, 0);
    root.api.wait_for(&service, number, "COMPLETED").await;
}

#[tokio::test]
async fn a_crashed_instance_is_started_again_and_a_log_is_read_before_and_after() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    let instance = worker.runtime.containers()[0].1.order.instance;
    worker.runtime.write(instance, "first words\n");
    let logs = format!("/api/service/{service}/instance/{number}/logs");
    assert_eq!(root.api.get(&logs).await.ok(), json!("first words\n"));
    assert_eq!(root.api.instance(&service, number).await["logs"], "first words\n");

    worker.runtime.exit(instance, 1);
    wait_until("the restart to be reported", async || {
        let instance = root.api.instance(&service, number).await;
        let restarted = instance["restarts"] == 1 && instance["status"] == "RUNNING";
        if restarted { Ok(()) } else { Err(instance.to_string()) }
    })
    .await;
    assert_eq!(worker.starts(), [2]);
    assert_eq!(root.api.get(&logs).await.ok(), json!("first words\n"));
}

#[tokio::test]
async fn what_cannot_be_placed_says_why_and_is_placed_when_it_can() {
    let root = Root::start().await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    let refused = root.api.wait_for(&service, number, "TargetClusterNotFound").await;
    assert_eq!(refused["reason"]["code"], "NoTargetCluster");

    let cluster = root.cluster("one").await;
    wait_until("the cluster to be named", async || {
        let instance = root.api.instance(&service, number).await;
        let candidate = &instance["reason"]["candidates"][0];
        if *candidate == json!({"candidate": "one", "reason": "no worker has joined it yet"}) {
            Ok(())
        } else {
            Err(instance.to_string())
        }
    })
    .await;
    let _worker = cluster.worker(&root.api, "device").await;
    root.api.wait_for(&service, number, "RUNNING").await;
}

#[tokio::test]
async fn a_service_too_large_for_any_worker_is_refused_with_figures() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let _worker = cluster.worker(&root.api, "device").await;
    let mut large = hello_sla("shop");
    large["applications"][0]["microservices"][0]["memory"] = json!(100_000_000);
    let service = root.api.create(&large).await;
    let number = root.api.deploy(&service).await;
    let refused = root.api.wait_for(&service, number, "NoActiveClusterWithCapacity").await;
    assert_eq!(refused["reason"]["code"], "NoResourcesAvailable");
    let reason = refused["reason"]["candidates"][0]["reason"].as_str().expect("a text");
    assert!(reason.starts_with("needs 100000000 MiB of memory"), "{reason}");
}

#[tokio::test]
async fn direct_constraints_choose_cluster_and_worker_and_a_declined_one_moves_on() {
    let root = Root::start().await;
    let one = root.cluster("one").await;
    let two = root.cluster("two").await;
    let in_one = one.worker(&root.api, "alpha").await;
    let in_two = two.worker(&root.api, "beta").await;
    let place = |application: &str, cluster: &str, node: &str| {
        let mut placed = hello_sla(application);
        placed["applications"][0]["microservices"][0]["constraints"] =
            json!([{"type": "direct", "cluster": cluster, "node": node}]);
        placed
    };
    let service = root.api.create(&place("a", "two", "")).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    assert_eq!((in_one.runtime.containers().len(), in_two.runtime.containers().len()), (0, 1));

    // Only beta will do and only its cluster knows: whichever is asked first, two ends up with it.
    let service = root.api.create(&place("b", "", "gamma;beta")).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    assert_eq!((in_one.runtime.containers().len(), in_two.runtime.containers().len()), (0, 2));

    let service = root.api.create(&place("c", "one", "beta")).await;
    let number = root.api.deploy(&service).await;
    wait_until("the only allowed cluster to decline", async || {
        let instance = root.api.instance(&service, number).await;
        let text = instance["reason"]["candidates"].to_string();
        if text.contains("not among the names the service asks for") && text.contains("two") {
            Ok(())
        } else {
            Err(instance.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn constraints_hold_or_say_why_not() {
    let root = Root::start().await;
    // Around 48.137 north, 11.575 east, a kilometre.
    let one = root.cluster("one").await;
    let two = root.cluster("two").await;
    let _in_one = one.worker(&root.api, "alpha").await;
    let in_two = two.worker(&root.api, "beta").await;
    let with = |application: &str, field: &str, value: Value| {
        let mut placed = hello_sla(application);
        placed["applications"][0]["microservices"][0][field] = value;
        placed
    };
    let near =
        |kilometres: f64| json!([{"type": "geo", "location": "11.575;48.137", "threshold": kilometres}]);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    for (application, field, value) in [
        ("near", "constraints", near(1.0)),
        ("here", "arch", json!(["s390x", architecture])),
        ("two", "constraints", json!([{"type": "clusters", "allowed": ["two", "three"]}])),
    ] {
        let service = root.api.create(&with(application, field, value)).await;
        let number = root.api.deploy(&service).await;
        root.api.wait_for(&service, number, "RUNNING").await;
    }
    assert!(in_two.running() > 0, "the last one is allowed in `two` alone");
    for (application, field, value, reason) in [
        ("far", "constraints", near(0.9), "not within 0.9 km of 11.575;48.137 with all that it covers"),
        ("else", "arch", json!(["s390x"]), "s390x is needed"),
        ("none", "constraints", json!([{"type": "clusters", "allowed": ["three"]}]), "not among the names"),
    ] {
        let service = root.api.create(&with(application, field, value)).await;
        let number = root.api.deploy(&service).await;
        wait_until("a reason", async || {
            let told = root.api.instance(&service, number).await["reason"]["candidates"].to_string();
            if told.contains(reason) { Ok(()) } else { Err(told) }
        })
        .await;
    }
}

#[tokio::test]
async fn an_instance_whose_image_cannot_be_had_says_so_and_recovers() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    worker.runtime.miss_image("mangrove/hello:latest");
    worker.runtime.refuse_pull("mangrove/hello:latest", "the registry is on fire");
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    let failed = root.api.wait_for(&service, number, "FAILED").await;
    let detail = failed["status_detail"].as_str().expect("a text");
    assert!(detail.contains("the registry is on fire"), "{detail}");
    worker.runtime.allow_pull("mangrove/hello:latest");
    root.api.wait_for(&service, number, "RUNNING").await;
}

#[tokio::test]
async fn twenty_at_once_are_all_placed_and_all_removed() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let mut numbers = Vec::new();
    for _ in 0..20 {
        numbers.push(root.api.deploy(&service).await);
    }
    assert_eq!(numbers, (0..20).collect::<Vec<u64>>());
    for number in numbers {
        root.api.wait_for(&service, number, "RUNNING").await;
    }
    assert_eq!(worker.runtime.containers().len(), 20);
    root.api.send(Method::DELETE, &format!("/api/service/{service}/instance/-1"), None).await.ok();
    wait_until("all of them to go", async || {
        let left = root.api.get(&format!("/api/service/{service}")).await.ok()["instance_list"].clone();
        if left == json!([]) && worker.runtime.containers().is_empty() {
            Ok(())
        } else {
            Err(left.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn the_root_stores_neither_name_nor_id_of_a_worker() {
    let root = Root::start().await;
    let cluster = root.cluster("one").await;
    let worker = cluster.worker(&root.api, "device-with-a-name").await;
    let service = root.api.create(&hello_sla("shop")).await;
    let number = root.api.deploy(&service).await;
    root.api.wait_for(&service, number, "RUNNING").await;
    let holds =
        |stored: &[u8], text: &str| stored.windows(text.len()).any(|window| window == text.as_bytes());
    let (stored, id) = (root.stored(), worker.id());
    assert!(holds(&stored, &service), "this looks at the store");
    assert!(!holds(&stored, &id) && !holds(&stored, &id.replace('-', "")), "the id {id} is stored");
    assert!(!holds(&stored, "device-with-a-name"), "the name is stored");
}
