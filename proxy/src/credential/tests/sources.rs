//! Sources that change, and sources that fail.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

fn parse(text: &str) -> CredentialSource {
    toml::from_str(text).unwrap()
}

fn file(path: &str) -> CredentialSource {
    CredentialSource::File { path: path.into() }
}

fn shell(script: &str, lifetime: u64, timeout: u64) -> CredentialSource {
    CredentialSource::Command {
        command: ["sh", "-c", script].map(str::to_owned).into(),
        lifetime: Duration::from_secs(lifetime),
        timeout: Duration::from_secs(timeout),
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text).unwrap()
}

async fn open(source: &CredentialSource, folder: &Path) -> Credential {
    let environment = Environment::new([("PATH", "/usr/bin:/bin")], folder);
    opened(&Credentials::new(environment, Handle::current()), source).await
}

/// Waits for a state that is as expected, with a deadline.
async fn until(credential: &Credential, is_it: impl Fn(&State) -> bool) {
    let mut state = credential.state.subscribe();
    let reached = state.wait_for(|state| is_it(state));
    tokio::time::timeout(Duration::from_secs(20), reached)
        .await
        .unwrap()
        .unwrap();
}

async fn becomes(credential: &Credential, text: &str) {
    let secret = secret(text);
    until(credential, |state| state.last() == Some(&secret)).await;
}

fn write(path: &Path, content: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn every_source_is_configured_by_its_name() {
    assert_eq!(
        parse("source = \"command\"\ncommand = [\"pass\", \"show\", \"key\"]\nlifetime = \"10m\""),
        CredentialSource::Command {
            command: ["pass", "show", "key"].map(str::to_owned).into(),
            lifetime: Duration::from_secs(600),
            timeout: Duration::from_secs(30),
        }
    );
    assert_eq!(
        parse("source = \"claude-login\""),
        CredentialSource::ClaudeLogin {
            path: None,
            token_endpoint: None
        }
    );
    assert_eq!(
        parse("source = \"dotenv\"\nvariable = \"A\""),
        CredentialSource::Dotenv {
            variable: "A".to_owned(),
            file: ".env".into()
        }
    );
    let oauth = "source = \"oauth\"\npath = \"~/x.json\"\ntoken-endpoint = \"https://i/t\"\nclient-id = \"c\"";
    assert!(matches!(parse(oauth), CredentialSource::Oauth { .. }));
}

#[test]
fn a_wrong_source_names_what_is_accepted() {
    let error = |text: &str| {
        toml::from_str::<CredentialSource>(text)
            .unwrap_err()
            .to_string()
    };
    let unknown = error("source = \"keychain\"");
    assert!(
        unknown.contains("`keychain`") && unknown.contains("`claude-login`"),
        "{unknown}"
    );
    let key = error("source = \"file\"\npath = \"a\"\nmode = 1");
    assert!(key.contains("`mode`"), "{key}");
    let time = error("source = \"command\"\ncommand = [\"a\"]\ntimeout = \"5 minutes\"");
    assert!(time.contains("from 1s to 30d"), "{time}");
}

#[tokio::test]
async fn a_changed_file_takes_effect_and_a_bad_change_keeps_the_old_value() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    write(&path, "first\n");
    let credential = open(&file("key"), folder.path()).await;
    assert_eq!(credential.current().await.unwrap(), secret("first"));

    write(&path, "second");
    becomes(&credential, "second").await;

    write(&path, "two\nlines");
    until(&credential, |state| state.problem().is_some()).await;
    assert_eq!(credential.try_current(), Some(secret("second")));
    assert_eq!(credential.problem().unwrap().reason(), Reason::Broken);

    std::fs::remove_file(&path).unwrap();
    until(&credential, |state| {
        state
            .problem()
            .is_some_and(|problem| problem.reason() == Reason::Missing)
    })
    .await;
    assert_eq!(credential.try_current(), Some(secret("second")));

    write(&path, "third");
    becomes(&credential, "third").await;
    assert!(credential.problem().is_none());
}

#[tokio::test]
async fn a_file_that_comes_later_needs_no_restart() {
    let folder = tempfile::tempdir().unwrap();
    let credential = open(&file("key"), folder.path()).await;
    let problem = credential.current().await.unwrap_err();
    assert_eq!(problem.reason(), Reason::Missing);
    write(&folder.path().join("key"), "there");
    becomes(&credential, "there").await;
}

#[tokio::test]
async fn an_edited_dotenv_takes_effect() {
    let (folder, environment) = environment(&[], "ANTHROPIC_API_KEY=first\n");
    let credential = Credential::open(&variable("ANTHROPIC_API_KEY"), &environment)
        .await
        .unwrap();
    assert_eq!(credential.current().await.unwrap(), secret("first"));
    // An editor that writes in place.
    std::fs::write(
        folder.path().join(".env"),
        "# new\nexport ANTHROPIC_API_KEY='second'\n",
    )
    .unwrap();
    becomes(&credential, "second").await;
}

#[tokio::test]
async fn reload_reads_all_sources_again_and_says_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    write(&good, "a");
    write(&bad, "b");
    let credentials = Credentials::new(
        Environment::new([("A", "b")], folder.path()),
        Handle::current(),
    );
    let first = opened(&credentials, &file("good")).await;
    opened(&credentials, &file("bad")).await;
    opened(&credentials, &variable("A")).await;
    credentials.reload().await.unwrap();
    write(&good, "a2");
    write(&bad, "");
    assert_eq!(
        credentials.reload().await.unwrap_err().reason(),
        Reason::Broken
    );
    assert_eq!(first.current().await.unwrap(), secret("a2"));
}

#[tokio::test]
async fn the_same_source_is_opened_once() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo run >> runs; echo key";
    let credentials = Credentials::new(
        Environment::new([("A", "b")], folder.path()),
        Handle::current(),
    );
    for _ in 0..3 {
        opened(&credentials, &shell(script, 60, 10)).await;
    }
    assert_eq!(
        std::fs::read_to_string(folder.path().join("runs")).unwrap(),
        "run\n"
    );
}

#[tokio::test]
async fn a_command_is_run_again_when_its_output_is_old_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo x >> runs; echo key-$(wc -l < runs)";
    let credential = open(&shell(script, 3600, 10), folder.path()).await;
    assert_eq!(credential.current().await.unwrap(), secret("key-1"));
    credential.refused(&secret("key-1"));
    assert_eq!(credential.current().await.unwrap(), secret("key-2"));

    let credential = open(&shell(script, 1, 10), folder.path()).await;
    let first = credential.current().await.unwrap();
    until(&credential, |state| state.last() != Some(&first)).await;
}

#[tokio::test]
async fn a_command_that_fails_says_how_and_never_what_it_printed() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (
            "echo CANARY; echo CANARY >&2; exit 3",
            "it ended with exit status: 3",
        ),
        ("kill -9 $$", "it ended with signal: 9 (SIGKILL)"),
        ("exec sleep 1000", "it did not end within 1 s"),
        ("yes CANARY", "it printed more than 65536 bytes"),
        ("true", "it is empty"),
        (
            "echo CANARY; echo CANARY",
            "character 7 is not a printable ASCII character",
        ),
    ];
    for (script, cause) in cases {
        let credential = open(&shell(script, 60, 1), folder.path()).await;
        let problem = credential.current().await.unwrap_err();
        assert_eq!(
            std::error::Error::source(&problem).unwrap().to_string(),
            cause
        );
        assert!(!format!("{problem:?} {problem}").contains("CANARY"));
    }
    let missing = CredentialSource::Command {
        command: vec!["/no/such/program".to_owned()],
        lifetime: Duration::from_secs(60),
        timeout: Duration::from_secs(1),
    };
    let problem = open(&missing, folder.path())
        .await
        .current()
        .await
        .unwrap_err();
    assert_eq!(
        crate::base::chain(&problem),
        "the credential command /no/such/program failed: it cannot be started: No such file or directory (os error 2)"
    );
}

#[tokio::test]
async fn a_command_at_its_deadline_leaves_no_process_behind() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo $$ > pid; sleep 1000 & echo $! > child; wait";
    let credential = open(&shell(script, 60, 1), folder.path()).await;
    assert!(credential.current().await.is_err());
    let pid = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let is_gone = |pid: &str| {
        // A zombie has been killed; its parent, not we, has to reap it.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    };
    assert!(
        !Path::new(&format!("/proc/{}", pid("pid").trim())).exists(),
        "killed and reaped"
    );
    tokio::time::timeout(Duration::from_secs(10), async {
        while !is_gone(&pid("child")) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_file_is_refused_that_is_no_small_regular_file() {
    let folder = tempfile::tempdir().unwrap();
    let problem = async |name| {
        open(&file(name), folder.path())
            .await
            .current()
            .await
            .unwrap_err()
    };
    let cause = |problem: &Unavailable| std::error::Error::source(problem).unwrap().to_string();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    assert_eq!(cause(&problem("folder").await), "it is not a regular file");
    assert_eq!(
        cause(&problem("/dev/zero").await),
        "it is not a regular file"
    );
    let big = std::fs::File::create(folder.path().join("big")).unwrap();
    big.set_len(2 * 1024 * 1024).unwrap();
    assert_eq!(
        cause(&problem("big").await),
        "it has 2097152 bytes, more than 1048576"
    );
}

#[tokio::test]
async fn paths_start_from_the_working_directory_or_the_home_folder() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("key"), "in-home");
    std::fs::set_permissions(
        folder.path().join("key"),
        std::fs::Permissions::from_mode(0o400),
    )
    .unwrap();
    let environment = Environment::new([("HOME", folder.path().to_str().unwrap())], "/");
    let credential = Credential::open(&file("~/key"), &environment)
        .await
        .unwrap();
    assert_eq!(credential.current().await.unwrap(), secret("in-home"));
}
