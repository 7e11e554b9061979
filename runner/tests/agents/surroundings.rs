//! What Claude Code is started with: tools, folders, instructions, settings,
//! skills and transcripts.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::harness::Group;

crate::tests![
    tools_are_configurable,
    added_arguments_are_the_last_and_never_ours,
    the_global_instructions_are_for_groups_that_are_not_main,
    extra_folders_are_added,
    settings_are_written_once,
    skills_are_copied_without_links,
    old_transcripts_go_and_the_live_one_stays,
    a_conversation_that_is_too_large_is_archived_and_begun_anew,
];

const SESSION: &str = "3385aa4e-1111-4f6d-9e1a-000000000001";

fn flags(group: &Group, document: &Value) -> Vec<String> {
    let (record, _) = group.run_once(document);
    record.result.unwrap().lines().map(str::to_owned).collect()
}

fn flag(flags: &[String], name: &str) -> Option<String> {
    let value = |flag: &String| {
        flag.strip_prefix(name)?
            .strip_prefix('=')
            .map(str::to_owned)
    };
    flags.iter().find_map(value)
}

fn tools_are_configurable() {
    let group = Group::new();
    let mut document = group.claude("x", "flags");
    let usual = flags(&group, &document);
    let allowed = flag(&usual, "--allowedTools").unwrap();
    assert!(allowed.starts_with("Bash,Read,Write,Edit,"), "{allowed}");
    assert!(allowed.ends_with(",mcp__nanoclaw__*"), "{allowed}");
    assert_eq!(flag(&usual, "--tools"), None);
    assert!(flag(&usual, "--mcp-config").is_some());

    let agent = &mut document["drawbridge"]["agent"];
    agent["allowedTools"] = json!(["Read", "Bash(git *)", "mcp__nanoclaw__send_message"]);
    agent["disallowedTools"] = json!(["WebFetch"]);
    agent["effort"] = "high".into();
    let flags_ = flags(&group, &document);
    let allowed = flag(&flags_, "--allowedTools");
    assert_eq!(
        allowed.as_deref(),
        Some("Read,Bash(git *),mcp__nanoclaw__send_message")
    );
    assert_eq!(flag(&flags_, "--tools").as_deref(), Some("Read,Bash"));
    assert_eq!(
        flag(&flags_, "--disallowedTools").as_deref(),
        Some("WebFetch")
    );
    assert_eq!(flag(&flags_, "--effort").as_deref(), Some("high"));

    document["drawbridge"]["agent"]["allowedTools"] = json!([]);
    let none = flags(&group, &document);
    assert_eq!(flag(&none, "--tools").as_deref(), Some(""));
    assert_eq!(
        flag(&none, "--mcp-config"),
        None,
        "no tool of the host either"
    );
}

fn added_arguments_are_the_last_and_never_ours() {
    let group = Group::new();
    let mut document = group.claude("x", "flags");
    document["drawbridge"]["agent"]["extraArgs"] = json!(["--fallback-model", "small"]);
    let flags_ = flags(&group, &document);
    assert!(flags_.ends_with(&["--fallback-model".to_owned(), "small".to_owned()]));
    // Whatever flag of ours is given is refused.
    for flag in flags_.iter().filter(|flag| flag.starts_with('-')) {
        if flag != "--fallback-model" {
            document["drawbridge"]["agent"]["extraArgs"] = json!([flag]);
            let run = group.run(&document);
            assert!(run.error().contains("is set by drawbridge"), "{flag}");
            assert_eq!(run.exit().0, 1);
        }
    }
}

fn the_global_instructions_are_for_groups_that_are_not_main() {
    let group = Group::new();
    fs::create_dir(group.path("global")).unwrap();
    fs::write(group.path("global/CLAUDE.md"), "be kind").unwrap();
    let mut document = group.claude("x", "initialize");
    document["drawbridge"]["paths"]["global"] = json!(group.path("global"));
    for (is_main, expected) in [(true, Value::Null), (false, json!("be kind"))] {
        document["isMain"] = is_main.into();
        let (record, _) = group.run_once(&document);
        let request: Value = serde_json::from_str(&record.result.unwrap()).unwrap();
        assert_eq!(request["appendSystemPrompt"], expected);
        assert_eq!(
            request["systemPrompt"],
            Value::Null,
            "Claude Code's own prompt"
        );
    }
}

fn extra_folders_are_added() {
    let group = Group::new();
    for name in ["extra/b", "extra/a"] {
        fs::create_dir_all(group.path(name)).unwrap();
    }
    fs::write(group.path("extra/file"), "").unwrap();
    let mut document = group.claude("x", "flags");
    document["drawbridge"]["paths"]["extra"] = json!(group.path("extra"));
    let flags = flags(&group, &document);
    let added: Vec<_> = flags
        .iter()
        .filter(|flag| flag.starts_with("--add-dir="))
        .collect();
    let expected =
        ["extra/a", "extra/b"].map(|name| format!("--add-dir={}", group.path(name).display()));
    assert_eq!(added, expected.iter().collect::<Vec<_>>());
}

fn settings_are_written_once() {
    let group = Group::new();
    group.run_once(&group.claude("x", "polite"));
    let path = group.path("home/.claude/settings.json");
    let settings: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (name, value) in [
        ("CLAUDE_CODE_EXPERIMENTAL_AGENT_TEAMS", "1"),
        ("CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD", "1"),
        ("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "0"),
        ("CLAUDE_CODE_AUTO_COMPACT_WINDOW", "165000"),
    ] {
        assert_eq!(settings["env"][name], value, "{name}");
    }
    fs::write(&path, "{\"mine\":1}").unwrap();
    group.run_once(&group.claude("x", "polite"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"mine\":1}");
}

fn skills_are_copied_without_links() {
    let group = Group::new();
    fs::create_dir_all(group.path("skills/browse/sub")).unwrap();
    fs::write(group.path("skills/browse/SKILL.md"), "new").unwrap();
    fs::write(group.path("skills/browse/sub/x"), "x").unwrap();
    symlink("/etc/passwd", group.path("skills/browse/link")).unwrap();
    for stale in ["browse/stale", "own/SKILL.md"] {
        let path = group.path("home/.claude/skills").join(stale);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "old").unwrap();
    }
    let mut document = group.claude("x", "polite");
    document["drawbridge"]["paths"]["skills"] = json!(group.path("skills"));
    group.run_once(&document);
    let skills = group.path("home/.claude/skills");
    assert_eq!(
        fs::read_to_string(skills.join("browse/SKILL.md")).unwrap(),
        "new"
    );
    assert!(skills.join("browse/sub/x").exists());
    assert!(
        skills.join("own/SKILL.md").exists(),
        "the group's own are left alone"
    );
    for gone in ["browse/stale", "browse/link"] {
        assert!(skills.join(gone).symlink_metadata().is_err(), "{gone}");
    }
}

/// Writes transcripts of different ages, the resumed one the oldest.
fn transcripts(group: &Group) -> Value {
    let folder = group.path("home/.claude/projects/-workspace");
    fs::create_dir_all(folder.join("old")).unwrap();
    let line = json!({ "type": "user", "message": { "content": "long ago" } });
    for (name, days) in [(SESSION, 300), ("old", 40), ("young", 1)] {
        let path = folder.join(format!("{name}.jsonl"));
        fs::write(&path, format!("{line}\n")).unwrap();
        let age = Duration::from_secs(days * 24 * 3600);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
    let mut document = group.claude("x", "flags");
    document["sessionId"] = SESSION.into();
    document
}

fn old_transcripts_go_and_the_live_one_stays() {
    let group = Group::new();
    let mut document = transcripts(&group);
    let folder = group.path("home/.claude/projects/-workspace");
    group.run_once(&document);
    assert!(
        folder.join("old.jsonl").exists(),
        "nothing goes unless it is asked for"
    );
    document["drawbridge"]["transcripts"] = json!({ "maxAgeDays": 30 });
    let flags = flags(&group, &document);
    assert!(flags.contains(&format!("--resume={SESSION}")));
    assert!(folder.join(format!("{SESSION}.jsonl")).exists());
    assert!(folder.join("young.jsonl").exists());
    assert!(!folder.join("old.jsonl").exists());
    assert!(!folder.join("old").exists());
}

fn a_conversation_that_is_too_large_is_archived_and_begun_anew() {
    let group = Group::new();
    let mut document = transcripts(&group);
    document["drawbridge"]["transcripts"] = json!({ "maxBytes": 10 });
    let (record, _) = group.run_once(&document);
    assert!(!record.result.unwrap().contains("--resume="));
    let notice = record.details.notice.unwrap();
    assert!(notice.contains("too large"), "{notice}");
    let live = group.path("home/.claude/projects/-workspace");
    assert!(
        live.join(format!("{SESSION}.jsonl")).exists(),
        "it is never removed"
    );
    let archives = fs::read_dir(group.path("workspace/conversations")).unwrap();
    assert_eq!(archives.count(), 1);
}
