//! A sealed container reaches the proxy's socket and nothing else.

use drawbridge_testkit::{Answer, Launcher, Model};

use crate::{Agent, Setting, Test};

pub(crate) const TESTS: &[Test] = &[(
    "reaches_nothing_but_the_socket",
    reaches_nothing_but_the_socket,
)];

const PROBE: &str = r#"
echo "interfaces: $(ls /sys/class/net | tr '\n' ' ')"
echo "routes: $(tail -n +2 /proc/net/route | wc -l)"
echo "user: $(id -u)"
for host in 172.17.0.1 169.254.169.254 1.1.1.1 10.0.0.1; do
    TRY_HTTP "http://$host/" && echo "REACHED $host"
done
TRY_HTTP http://example.com/ && echo REACHED by name
TRY_NAME example.com && echo RESOLVED
touch /etc/touched 2>/dev/null && echo WROTE to the root file system
[ -e /var/run/docker.sock ] && echo ENGINE socket
grep CapEff /proc/self/status
grep NoNewPrivs /proc/self/status
grep Seccomp: /proc/self/status
TRY_SOCKET
echo probe-is-over
"#;

fn reaches_nothing_but_the_socket(setting: Setting) {
    let (http, name, socket) = match setting.agent {
        Agent::Claude => (
            "curl -s -m 3 -o /dev/null",
            "getent hosts",
            "curl -s -o /dev/null -w 'without a session: %{http_code}\\n' --unix-socket /run/drawbridge/proxy.sock http://x/v1/models",
        ),
        Agent::Builtin => (
            "wget -q -T 3 -O /dev/null",
            "nslookup",
            "[ -S /run/drawbridge/proxy.sock ] && echo the socket is there",
        ),
    };
    let probe = PROBE
        .replace("TRY_HTTP", http)
        .replace("TRY_NAME", name)
        .replace("TRY_SOCKET", socket);
    let tool = setting.agent.shell_tool();
    let model = Model::start(move |turn| {
        if turn.has_tool_result() {
            Answer::Text("probed".into())
        } else {
            Answer::bash(tool, &probe)
        }
    });
    let launcher = Launcher::new(setting.credential, &model);
    let ended = launcher.run(&[&["run"][..], &setting.flags(), &["--prompt", "probe"]].concat());
    assert_eq!(ended.out.trim_end(), "probed", "{}", ended.err);

    let report = model.wait_for("the probe's report", |request| {
        request.text().contains("probe-is-over") && request.text().contains("tool_result")
    });
    let report = report.text();
    let has = |text: &str| report.contains(text);
    assert!(has("interfaces: lo \\n") && has("routes: 0"), "{report}");
    for forbidden in [
        "REACHED 1",
        "REACHED by",
        "RESOLVED\\n",
        "WROTE to",
        "ENGINE socket\\n",
    ] {
        // The script is in the request too, after an echo; the report is not.
        let count = report.matches(forbidden).count();
        let quoted = report.matches(&format!("echo {forbidden}")).count()
            + report.matches(&format!("echo \\\"{forbidden}")).count();
        assert_eq!(count, quoted, "{forbidden}: {report}");
    }
    assert!(
        has("CapEff:\\t0000000000000000") && has("NoNewPrivs:\\t1") && has("Seccomp:\\t2"),
        "{report}"
    );
    assert!(!has("user: 0\\n"), "{report}");
    match setting.agent {
        Agent::Claude => assert!(has("without a session: 401"), "{report}"),
        Agent::Builtin => assert!(has("the socket is there\\n"), "{report}"),
    }
}
