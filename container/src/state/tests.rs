use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use drawbridge_shared::ids::RunId;
use drawbridge_shared::ipc::HostMessage;
use drawbridge_shared::protocol::AgentKind;

use super::*;

fn state() -> (tempfile::TempDir, State) {
    let folder = tempfile::tempdir().unwrap();
    let state = State::at(folder.path().join("state")).unwrap();
    (folder, state)
}

/// The dead runs, once there are some: a process that another test starts at this
/// moment holds the locks of this one until it executes its program.
fn first_dead_runs(state: &State) -> Vec<DeadRun> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let dead = state.dead_runs().unwrap();
        if !dead.is_empty() || Instant::now() >= deadline {
            return dead;
        }
        std::thread::yield_now();
    }
}

#[test]
fn the_install_id_stays() {
    let (_folder, state) = state();
    let again = State::at(state.root().to_owned()).unwrap();
    assert_eq!(again.install(), state.install());
}

#[test]
fn a_damaged_install_id_is_refused_not_replaced() {
    let (_folder, state) = state();
    fs::write(state.root().join("install-id"), "zzz").unwrap();
    let error = State::at(state.root().to_owned()).unwrap_err();
    assert!(error.one_line().contains("16 lower-case"), "{error:?}");
}

#[test]
fn a_live_run_is_not_dead_and_a_dropped_one_leaves_nothing() {
    let (_folder, state) = state();
    let id = RunId::random().unwrap();
    let run = state.new_run(&id).unwrap();
    assert!(run.socket_folder().is_dir());
    assert!(state.dead_runs().unwrap().is_empty());
    drop(run);
    assert_eq!(fs::read_dir(state.runs()).unwrap().count(), 0);
}

#[test]
fn a_run_without_its_launcher_is_found_once_with_what_it_started() {
    let (_folder, state) = state();
    let id = RunId::random().unwrap();
    let mut run = state.new_run(&id).unwrap();
    run.note_container("docker", "drawbridge-x").unwrap();
    drop(run);
    let dead = first_dead_runs(&state);
    assert_eq!(dead[0].id, id);
    assert_eq!(dead[0].record.container.as_deref(), Some("drawbridge-x"));
    assert!(state.dead_runs().unwrap().is_empty(), "it is being cleaned");
    dead.into_iter().for_each(DeadRun::remove);
    assert_eq!(fs::read_dir(state.runs()).unwrap().count(), 0);
}

#[test]
fn a_run_whose_end_is_known_leaves_nothing() {
    let (_folder, state) = state();
    let mut run = state.new_run(&RunId::random().unwrap()).unwrap();
    run.note_container("docker", "drawbridge-x").unwrap();
    run.release();
    drop(run);
    assert_eq!(fs::read_dir(state.runs()).unwrap().count(), 0);
}

/// As when this program has no file descriptor left.
#[test]
fn a_run_whose_files_cannot_be_opened_now_is_left_alone() {
    let (_folder, state) = state();
    let two_hours_ago = SystemTime::now() - Duration::from_secs(7200);
    for name in ["lock", "run.json"] {
        let id = RunId::random().unwrap();
        let mut run = state.new_run(&id).unwrap();
        run.keep();
        let path = state.runs().join(id.as_str());
        fs::remove_file(path.join(name)).unwrap();
        fs::create_dir(path.join(name)).unwrap();
        File::open(&path)
            .unwrap()
            .set_modified(two_hours_ago)
            .unwrap();
        assert!(state.dead_runs().unwrap().is_empty(), "{name}");
        assert!(path.exists(), "{name}");
    }
}

#[test]
fn a_long_state_folder_gets_a_short_socket_path() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::at(folder.path().join("x".repeat(100))).unwrap();
    let run = state.new_run(&RunId::random().unwrap()).unwrap();
    let socket = run.socket();
    assert!(socket.as_os_str().len() <= 107, "{socket:?}");
    std::os::unix::net::UnixListener::bind(&socket).unwrap();
    drop(run);
    let short = socket.parent().unwrap().parent().unwrap();
    assert!(!short.exists());
}

#[test]
fn a_group_serves_one_run_at_a_time() {
    let (_folder, state) = state();
    let name = "main".parse().unwrap();
    let group = state.group(&name).unwrap();
    let error = state.group(&name).unwrap_err();
    assert_eq!(error.to_string(), "group main is in use by another run");
    drop(group);
    state.group(&name).unwrap();
}

/// A process that is being started has it until it executes its program.
#[test]
fn a_group_that_is_let_go_in_a_moment_is_waited_for() {
    let (_folder, state) = state();
    let name = "main".parse().unwrap();
    let group = state.group(&name).unwrap();
    let (begin, begun) = std::sync::mpsc::channel();
    let holder = std::thread::spawn(move || {
        begun.recv().unwrap();
        drop(group);
    });
    begin.send(()).unwrap();
    state.group(&name).unwrap();
    holder.join().unwrap();
}

#[test]
fn conversations_are_kept_per_agent() {
    let (_folder, state) = state();
    let name = "main".parse().unwrap();
    let id = "abc-1".parse().unwrap();
    let group = state.group(&name).unwrap();
    group.store_session(AgentKind::Claude, &id).unwrap();
    drop(group);
    let group = state.group(&name).unwrap();
    assert_eq!(group.session(AgentKind::Claude), Some(id));
    assert_eq!(group.session(AgentKind::Builtin), None);
}

#[test]
fn messages_go_to_the_input_folder_and_a_stale_close_is_removed() {
    let (_folder, state) = state();
    let name = "main".parse().unwrap();
    let group = state.group(&name).unwrap();
    let text = "hi".to_owned();
    group.send(&HostMessage::text(text)).unwrap();
    group.close(&RunId::random().unwrap()).unwrap();
    let input = group.ipc().join("input");
    assert_eq!(fs::read_dir(&input).unwrap().count(), 2);
    drop(group);
    state.group(&name).unwrap();
    assert_eq!(fs::read_dir(&input).unwrap().count(), 1);
}

#[test]
fn folders_in_the_place_of_files_do_not_close_a_group_for_good() {
    let (_folder, state) = state();
    let name = "main".parse().unwrap();
    let group = state.group(&name).unwrap();
    for file in ["heartbeat.json", "input/_close"] {
        fs::create_dir_all(group.ipc().join(file).join("x/y")).unwrap();
    }
    drop(group);
    let group = state.group(&name).unwrap();
    assert!(!group.ipc().join("heartbeat.json").exists());
    group.close(&RunId::random().unwrap()).unwrap();
    assert!(group.ipc().join("input/_close").is_file());
}

#[test]
fn a_process_is_not_mistaken_for_a_later_one_with_its_id() {
    let pid = i32::try_from(std::process::id()).unwrap();
    let me = ProcessRef::of(pid).unwrap();
    assert!(me.is_alive());
    let started = me.started + 1;
    assert!(!ProcessRef { started, ..me }.is_alive());
}

/// Root can remove a folder whatever its mode, so the modes are looked at.
#[test]
fn what_an_agent_made_read_only_can_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("cache/module");
    fs::create_dir_all(&closed).unwrap();
    std::os::unix::fs::symlink("/", closed.join("link")).unwrap();
    for folder in [&closed, closed.parent().unwrap()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o500)).unwrap();
    }
    run_folder::open_folders(folder.path()).unwrap();
    assert_eq!(
        closed.metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_ne!(
        Path::new("/").metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );
}
