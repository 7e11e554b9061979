use serde_json::{Value, json};

use super::*;
use crate::config::Key;

/// What a probe reports from a sealed container that is as it has to be.
fn sealed() -> Value {
    let blocked = |why: &str| json!({ "blocked": why });
    json!({
        "runner_version": env!("CARGO_PKG_VERSION"),
        "identity": {"uid": 1000, "gid": 1000, "groups": [1000]},
        "isolation": {
            "capabilities": 0, "no_new_privileges": true, "seccomp": 2, "read_only_root": true,
            "writable_mounts": ["/tmp", "/workspace/group", "/workspace/ipc", "/home/agent"],
            "engine_sockets": [],
        },
        "limits": {"memory_bytes": 4_294_967_296_u64, "pids": 512, "cpu_millis": 1000},
        "network": {"interfaces": ["lo"], "routes": [], "name_servers": []},
        "attempts": {
            "dns": blocked("Network is unreachable"),
            "raw-socket": blocked("Operation not permitted"),
            "metadata": blocked("Network is unreachable"),
            "dial 172.19.0.2:4711": blocked("timed out"),
        },
        "proxy": {"without_token": {"Ok": 401}, "with_token": {"Ok": 200}},
        "credential_variables": [],
    })
}

fn judge(report: Value, network: &str) -> Vec<Check> {
    let mut report: Report = serde_json::from_value(report).unwrap();
    // Root's agents run as another user; everybody else's as themselves.
    let user = crate::spec::User::of_agent(crate::spec::UserChoice::Caller).unwrap();
    if report.identity.uid == 1000 {
        (report.identity.uid, report.identity.gid) = (user.uid, user.gid);
    }
    let settings = RunSettings::fixed(&[(Key::Network, network), (Key::Cpus, "1")]).unwrap();
    let key_arrived = Received {
        line: "POST /v1/messages".to_owned(),
        credentials: vec![("x-api-key".to_owned(), FAKE_KEY.to_owned())],
        body: Value::Null,
    };
    let mut checks = inside::judge(&report, &settings, Some("172.19.0.2:4711"));
    checks.push(inside::proxy(&report, &[key_arrived], FAKE_KEY));
    checks
}

fn failures(report: Value, network: &str) -> Vec<&'static str> {
    let checks = judge(report, network).into_iter();
    checks
        .filter(Check::is_failure)
        .map(|check| check.name)
        .collect()
}

#[test]
fn a_container_as_promised_passes() {
    assert_eq!(failures(sealed(), "sealed"), Vec::<&str>::new());
}

#[test]
fn each_broken_promise_is_a_failure() {
    let reached = || json!({"reached": "x"});
    let cases = [
        ("/runner_version", json!("0.0.1"), "runner"),
        ("/identity/uid", json!(0), "user"),
        ("/isolation/capabilities", json!(1), "privileges"),
        ("/isolation/no_new_privileges", json!(false), "privileges"),
        ("/isolation/seccomp", json!(0), "privileges"),
        ("/isolation/read_only_root", json!(false), "file system"),
        ("/isolation/writable_mounts", json!(["/etc"]), "file system"),
        (
            "/isolation/engine_sockets",
            json!(["/run/docker.sock"]),
            "engine socket",
        ),
        (
            "/credential_variables",
            json!(["GITHUB_TOKEN"]),
            "environment",
        ),
        ("/limits/memory_bytes", Value::Null, "memory limit"),
        ("/limits/pids", json!(99), "process limit"),
        ("/limits/cpu_millis", json!(8000), "processor limit"),
        ("/network/interfaces", json!(["eth0", "lo"]), "interfaces"),
        (
            "/network/routes",
            json!(["00000000 via eth0"]),
            "interfaces",
        ),
        ("/attempts/dns", reached(), "DNS"),
        ("/attempts/metadata", reached(), "metadata address"),
        ("/attempts/raw-socket", reached(), "raw socket"),
        (
            "/attempts/dial 172.19.0.2:4711",
            reached(),
            "other containers",
        ),
        ("/proxy/without_token", json!({"Ok": 200}), "proxy"),
        ("/proxy/with_token", json!({"Ok": 401}), "proxy"),
        (
            "/proxy/with_token",
            json!({"Err": "Connection refused"}),
            "proxy",
        ),
        ("/proxy", Value::Null, "proxy"),
    ];
    for (field, value, name) in cases {
        let mut report = sealed();
        *report.pointer_mut(field).unwrap() = value;
        assert_eq!(failures(report, "sealed"), [name], "{field}");
    }
}

#[test]
fn a_bridge_opens_the_network_and_nothing_else() {
    let mut report = sealed();
    report["network"] = json!({
        "interfaces": ["eth0", "lo"], "routes": ["00000000 via eth0"], "name_servers": ["10.0.0.1"],
    });
    report["attempts"]["dns"] = json!({"reached": "10.0.0.1 answered"});
    assert_eq!(failures(report.clone(), "bridge"), Vec::<&str>::new());
    report["attempts"]["raw-socket"] = json!({"reached": "a raw socket was opened"});
    report["attempts"]["dial 172.19.0.2:4711"] = json!({"reached": "connected"});
    assert_eq!(
        failures(report, "bridge"),
        ["other containers", "raw socket"]
    );
}

#[test]
fn a_key_that_does_not_arrive_is_a_failure() {
    let report: Report = serde_json::from_value(sealed()).unwrap();
    assert!(inside::proxy(&report, &[], FAKE_KEY).is_failure());
}

#[test]
fn failures_are_shown_with_their_hint() {
    let error = Error::not_started("docker has no image x").hint("drawbridge build-image x");
    let checks = [
        Check::pass("engine", "docker 20.10"),
        Check::fail("image", &error),
        Check::new(Place::Inside, "probe", Status::Skipped, "not started"),
    ];
    insta::assert_snapshot!(check::show(&checks, Paint::off()), @r"
    on this machine
      ok    engine             docker 20.10
      FAIL  image              docker has no image x
                               hint: drawbridge build-image x
    inside, with the flags of a real run
      --    probe              not started
    1 check failed: a run would not work as promised
    ");
}
