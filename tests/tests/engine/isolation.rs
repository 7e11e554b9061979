//! What an agent cannot do, however it tries, inside a real container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use drawbridge_testkit::launcher::events;
use drawbridge_testkit::{Answer, Launcher, Model, Program, Upstream};

use crate::{Setting, Test};

pub(crate) const TESTS: &[Test] = &[
    (
        "tampering_from_inside_opens_nothing",
        tampering_from_inside_opens_nothing,
    ),
    (
        "secrets_are_covered_and_stay_covered",
        secrets_are_covered_and_stay_covered,
    ),
    (
        "an_exchanged_mount_stops_the_run",
        an_exchanged_mount_stops_the_run,
    ),
];

/// A model that runs one script and answers with what it printed.
fn echo_of(setting: Setting, script: String) -> Upstream {
    let tool = setting.agent.shell_tool();
    Model::start(move |turn| {
        if turn.has_tool_result() {
            Answer::Text(turn.news())
        } else {
            Answer::bash(tool, &script)
        }
    })
}

/// Each line tries something, and says so if it worked.
const TAMPER: &str = r#"
exec 2>/dev/null
cd /workspace/group
did() { echo "DID $*"; }
socket=/run/drawbridge/proxy.sock
rm -f $socket && did remove the socket
mv $socket /tmp/moved && did move the socket
ln -sf /workspace/group/fake $socket && did replace the socket
rm -rf /run/drawbridge && did remove its folder
touch /run/drawbridge/beside && did write beside it
chmod 777 /run/drawbridge && did change the mode of its folder
mount -t tmpfs none /run/drawbridge && did mount over it
mount -o remount,rw / && did remount the root
mount --bind /tmp /etc && did bind a folder
umount /workspace/group && did unmount a folder
ip link set lo down && did stop an interface
ip link add own type dummy && did add an interface
ip addr add 172.17.0.9/16 dev lo && did add an address
ip route add default dev lo && did add a route
ifconfig lo 172.17.0.9 && did set an address
ping -c 1 -W 1 127.0.0.1 && did open a raw socket
unshare -U true && did make a user namespace
unshare -n true && did make a network namespace
mknod /tmp/disk b 8 0 && did make a device
chroot / true && did change the root
chown 0:0 /workspace/group && did give a folder to root
echo 1 > /proc/sys/net/ipv4/ip_forward && did change the kernel
echo 0 > /proc/self/oom_score_adj && echo -1000 > /proc/self/oom_score_adj && did avoid the memory limit
kill -9 1
cat /proc/1/environ && did read the environment of process 1
cat /proc/1/mem && did read the memory of process 1
su -c true && did become root
wget -q -T 2 -O /dev/null http://172.17.0.1/ && did reach the host
nslookup -timeout=1 example.com && did resolve a name
[ "$(grep -c . /proc/net/route)" -gt 1 ] && did find a route
[ -S $socket ] && echo socket-is-there
echo tampering-is-over
"#;

fn tampering_from_inside_opens_nothing(setting: Setting) {
    let model = echo_of(setting, TAMPER.to_owned());
    let launcher = Launcher::new(setting.credential, &model);
    let ended = launcher.run(&[&["run"][..], &setting.flags(), &["--prompt", "tamper"]].concat());
    // The answer itself came through the socket, after all of it.
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.contains("tampering-is-over"), "{}", ended.out);
    assert!(ended.out.contains("socket-is-there"), "{}", ended.out);
    assert!(!ended.out.contains("DID "), "{}", ended.out);
    launcher.assert_nothing_left();
}

/// A folder that may be mounted, with secrets in it.
fn project(launcher: &Launcher) -> PathBuf {
    let source = launcher.home().join("src");
    let app = source.join("app");
    for folder in ["app/sub", "app/.aws"] {
        fs::create_dir_all(source.join(folder)).unwrap();
    }
    for file in [".env", "sub/.env.local", ".aws/config"] {
        fs::write(app.join(file), "TOP-SECRET").unwrap();
    }
    fs::write(app.join("plain"), "plain-text").unwrap();
    for folder in [&app, &app.join("sub")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let config = launcher.home().join(".config/drawbridge");
    fs::create_dir_all(&config).unwrap();
    let list = serde_json::json!({
        "allowedRoots": [{"path": "~/src", "allowReadWrite": true}],
        "blockedPatterns": [], "nonMainReadOnly": false,
    });
    fs::write(config.join("mount-allowlist.json"), list.to_string()).unwrap();
    app
}

const UNCOVER: &str = r#"
exec 2>/dev/null
cd /workspace/extra/app
cat plain; echo
for file in .env sub/.env.local .aws/config; do
    cat $file
    rm -f $file
    mv $file /workspace/group/
    ln $file /workspace/group/link; cat /workspace/group/link
    umount $file
    cat $file
done
mv sub other; cat other/.env.local
rm -rf .aws; mv .aws elsewhere; cat elsewhere/config
nc local:host.sock < /dev/null && echo REACHED the socket
[ -S host.sock ] && echo FOUND the socket
echo mine > written && cat written
grep -r TOP-SECRET / --include=.env* 2>/dev/null
echo all-tried
"#;

fn secrets_are_covered_and_stay_covered(setting: Setting) {
    let model = echo_of(setting, UNCOVER.to_owned());
    let launcher = Launcher::new(setting.credential, &model);
    let app = project(&launcher);
    let _listener = UnixListener::bind(app.join("host.sock")).unwrap();
    let run = launcher.start(
        &[
            &setting.flags()[..],
            &["--mount", "~/src/app:rw", "--prompt", "go"],
        ]
        .concat(),
    );
    let answer = run.wait_for_answers(1).remove(0);
    let ended = run.finish();
    for word in ["plain-text", "mine", "all-tried"] {
        assert!(answer.contains(word), "{word}: {answer}");
    }
    for word in ["TOP-SECRET", "REACHED", "FOUND"] {
        assert!(!answer.contains(word), "{word}: {answer}");
    }
    let isolation = &events(&ended.out)[0]["isolation"];
    assert_eq!(isolation["masked"], 4, "{isolation}");
    assert_eq!(isolation["mounts"][0]["target"], "/workspace/extra/app");
    assert_eq!(fs::read_to_string(app.join(".env")).unwrap(), "TOP-SECRET");
    launcher.assert_nothing_left();
}

/// The launcher checks a name, and the engine mounts by name a moment later.
/// Here the folder is exchanged in that moment.
fn an_exchanged_mount_stops_the_run(setting: Setting) {
    let model = echo_of(setting, "cat /workspace/extra/app/*".to_owned());
    let launcher = Launcher::new(setting.credential, &model);
    // Without a secret in it there is no cover that would fail first.
    let app = project(&launcher).join("sub");
    fs::remove_file(app.join(".env.local")).unwrap();
    let secret = launcher.home().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "TOP-SECRET").unwrap();
    let bin = launcher.home().join("bin");
    fs::create_dir(&bin).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join("docker"));
    let docker = places.find(|program| program.is_file()).unwrap();
    let script = exchange(&app, &secret, &docker);
    fs::write(bin.join("docker"), script).unwrap();
    fs::set_permissions(bin.join("docker"), fs::Permissions::from_mode(0o755)).unwrap();

    let args = [
        &["run"][..],
        &setting.flags(),
        &["--mount", "~/src/app/sub:app", "--prompt", "go"],
    ];
    let mut command = launcher.command(&args.concat());
    let ended = Program::run(command.env("PATH", format!("{}:{path}", bin.display())));
    assert_ne!(ended.code, 0, "{}", ended.out);
    assert!(
        ended.err.contains("is not what was checked"),
        "{}",
        ended.err
    );
    assert!(app.is_symlink(), "the folder was exchanged");
    assert_eq!(model.requests().len(), 0, "no agent was started");
    launcher.assert_nothing_left();
}

/// An engine in whose way somebody is quick.
fn exchange(app: &Path, secret: &Path, docker: &Path) -> String {
    let (app, secret, docker) = (app.display(), secret.display(), docker.display());
    format!(
        "#!/bin/sh\nif [ \"$1\" = run ]; then\n    mv {app} {app}.away && ln -s {secret} {app}\nfi\n\
         exec {docker} \"$@\"\n"
    )
}
