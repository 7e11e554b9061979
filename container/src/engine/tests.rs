use super::*;
use crate::spec::{Access, ByteSize, Cpus, Limits, Mount, Scratch};

fn spec() -> RunSpec {
    RunSpec {
        run: "run-00112233".parse().unwrap(),
        install: "00112233445566aa".parse().unwrap(),
        name: "drawbridge-main-run-00112233".to_owned(),
        image: "drawbridge/claude:0.1.0".parse().unwrap(),
        user: User { uid: 501, gid: 20 },
        network: Network::Sealed,
        mounts: vec![
            Mount::new(
                "/state/groups/main/workspace",
                "/workspace/group",
                Access::Write,
            )
            .unwrap(),
            Mount::new(
                "/state/runs/run-00112233/socket",
                "/run/drawbridge",
                Access::Read,
            )
            .unwrap(),
        ],
        limits: Limits {
            memory: ByteSize::mib(4096),
            cpus: Cpus::whole(2),
            pids: 512.try_into().unwrap(),
            open_files: 20_000,
            processes: 32_768,
            file_size: Some(ByteSize::mib(1024)),
        },
        scratch: Scratch {
            size: ByteSize::mib(512),
            exec: true,
        },
        time_zone: Some("Europe/Berlin".parse().unwrap()),
    }
}

/// One flag with its value per line.
fn shown(engine: Engine, facts: &Facts, spec: &RunSpec) -> String {
    let mut lines = String::new();
    for arg in run_args(engine, facts, spec) {
        let arg = arg.into_string().unwrap();
        lines.push(if arg.starts_with("--") { '\n' } else { ' ' });
        lines.push_str(&arg);
    }
    lines.trim_start().to_owned()
}

#[test]
fn a_sealed_run_on_docker() {
    insta::assert_snapshot!(shown(Engine::Docker, &Facts::default(), &spec()), @r#"
    run
    --rm
    --interactive
    --pull=never
    --log-driver=none
    --name drawbridge-main-run-00112233
    --label drawbridge.install=00112233445566aa
    --label drawbridge.run=run-00112233
    --network none
    --read-only
    --cap-drop=ALL
    --security-opt no-new-privileges
    --user 501:20
    --pids-limit 512
    --memory 4g
    --memory-swap 4g
    --cpus 2
    --ulimit core=0
    --ulimit nofile=20000:20000
    --ulimit fsize=1073741824:1073741824
    --tmpfs /tmp:rw,exec,nosuid,nodev,size=536870912,mode=1777
    --mount type=bind,"source=/state/groups/main/workspace","target=/workspace/group"
    --mount type=bind,"source=/state/runs/run-00112233/socket","target=/run/drawbridge",readonly
    --workdir /workspace/group
    --env HOME=/home/agent
    --env TZ=Europe/Berlin drawbridge/claude:0.1.0
    "#);
}

#[test]
fn a_bridge_run_names_the_host() {
    let host = Some("172.17.0.1".parse().unwrap());
    let mut spec = spec();
    spec.network = Network::Bridge {
        name: "drawbridge-run-00112233".to_owned(),
        host,
    };
    let text = shown(Engine::Docker, &Facts::default(), &spec);
    assert!(text.contains(
        "--network drawbridge-run-00112233\n--add-host host.docker.internal:172.17.0.1\n"
    ));
}

#[test]
fn scratch_without_exec_says_so() {
    let mut spec = spec();
    spec.scratch.exec = false;
    let text = shown(Engine::Docker, &Facts::default(), &spec);
    assert!(text.contains("/tmp:rw,noexec,nosuid"), "{text}");
}

#[test]
fn labels_and_user_namespaces_follow_the_engine() {
    let mut facts = Facts {
        has_selinux: true,
        maps_users: true,
        ..Facts::default()
    };
    let text = shown(Engine::Docker, &facts, &spec());
    assert!(text.contains("--volume /state/runs/run-00112233/socket:/run/drawbridge:ro,z"));
    assert!(text.contains("--userns host"));
    facts.is_rootless = true;
    let text = shown(Engine::Podman, &facts, &spec());
    let mount = r#""target=/run/drawbridge",readonly,relabel=shared"#;
    assert!(text.contains(mount), "{text}");
    assert!(text.contains("--userns keep-id"));
    assert!(text.contains("--read-only-tmpfs=false"));
    assert!(text.contains("--ulimit nproc=32768:32768"));
}

#[test]
fn a_mount_cannot_smuggle_in_options() {
    for bad in ["relative", "/a,b", "/a:b", "/a\"b", "/a\nb", "/a/../b"] {
        Mount::new(bad, "/x", Access::Read).unwrap_err();
        Mount::new("/x", bad, Access::Read).unwrap_err();
    }
}

#[test]
fn a_bridge_run_on_apples_container() {
    let mut spec = spec();
    spec.network = Network::Bridge {
        name: "drawbridge-run-00112233".to_owned(),
        host: None,
    };
    insta::assert_snapshot!(shown(Engine::Apple, &Facts::of_apple(), &spec), @r#"
    run
    --rm
    --interactive
    --progress none
    --name drawbridge-main-run-00112233
    --label drawbridge.install=00112233445566aa
    --label drawbridge.run=run-00112233
    --network drawbridge-run-00112233
    --read-only
    --cap-drop ALL
    --user 501:20
    --ulimit nproc=512
    --ulimit core=0
    --ulimit nofile=20000
    --ulimit fsize=1073741824
    --memory 4096M
    --cpus 2
    --mount type=tmpfs,destination=/tmp,size=512M,mode=1777
    --mount type=bind,source=/state/groups/main/workspace,target=/workspace/group
    --mount type=bind,source=/state/runs/run-00112233/socket,target=/run/drawbridge,readonly
    --workdir /workspace/group
    --env HOME=/home/agent
    --env TZ=Europe/Berlin drawbridge/claude:0.1.0
    "#);
}

#[test]
fn docker_desktop_resolves_the_hosts_name_itself() {
    let desktop = Facts::from_docker(
        r#"{"OperatingSystem":"Docker Desktop","MemoryLimit":true,"PidsLimit":true,
            "CpuCfsQuota":true,"SecurityOptions":["name=seccomp,profile=unconfined","name=cgroupns"]}"#,
    )
    .unwrap();
    let mut spec = spec();
    spec.network = Network::Bridge {
        name: "drawbridge-run-00112233".to_owned(),
        host: None,
    };
    let text = shown(Engine::Docker, &desktop, &spec);
    assert!(!text.contains("--add-host"), "{text}");
    // Its daemon filters nothing by itself, so the default filter is asked for.
    assert!(text.contains("--security-opt seccomp=builtin"), "{text}");
}

#[test]
fn what_an_engine_lacks_has_to_be_waived_and_is_said() {
    let runtime = Runtime::Container(Engine::Apple, Facts::of_apple());
    let settings = |waive| {
        let network = (crate::config::Key::Network, "bridge");
        RunSettings::fixed(&[network, (crate::config::Key::Waive, waive)]).unwrap()
    };
    let error = runtime.require(&settings("seccomp")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the container engine cannot enforce no-new-privileges"
    );
    runtime
        .require(&settings("seccomp,no-new-privileges"))
        .unwrap();

    let isolation = Isolation::of_container(&spec(), &Facts::of_apple());
    let text = isolation.to_string();
    assert!(
        text.ends_with("WITHOUT seccomp and no-new-privileges, which is waived"),
        "{text}"
    );
    assert_eq!(isolation.container.unwrap().seccomp, "none");
}

#[test]
fn an_image_label_is_found_in_apples_answer() {
    let answer = serde_json::json!([{"variants": [{"config": {"config":
        {"Labels": {"drawbridge.version": "0.1.0"}}}}]}]);
    assert_eq!(
        apple::image_label(&answer, "drawbridge.version").as_deref(),
        Some("0.1.0")
    );
    assert_eq!(apple::image_label(&answer, "other"), None);
}
