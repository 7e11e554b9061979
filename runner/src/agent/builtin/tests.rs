//! The agent as the supervisor sees it, against a scripted API.

pub(super) mod stand_in;

use drawbridge_shared::protocol::{AgentKind, AgentOptions, AuthMode, TranscriptLimits};
use tokio::time::timeout;

use super::*;
use crate::agent::Agent;
use crate::agent::host_tools::HostTools;
use crate::agent::types::{AgentCommand, ModelAccess};
use crate::host::message::{MessageId, UserMessage};
use crate::self_command::SelfCommand;
use stand_in::{Answer, StandIn};

pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// An agent in a home of its own.
struct Run {
    agent: Agent,
    home: tempfile::TempDir,
}

/// A stand-in for the runner's own program that only knows `tied`.
pub(super) fn untied() -> SelfCommand {
    let script = "while [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"";
    SelfCommand {
        program: "/bin/sh".into(),
        arguments: ["-c", script, "sh"].map(Into::into).to_vec(),
    }
}

pub(super) fn spec(home: &Path, base_url: &str) -> AgentSpec {
    AgentSpec {
        options: AgentOptions {
            model: Some("model-under-test".to_owned()),
            max_turns: Some(5),
            ..AgentOptions::new(AgentKind::Builtin)
        },
        resume: None,
        workspace: home.to_owned(),
        home: home.to_owned(),
        model_access: Some(ModelAccess {
            base_url: base_url.to_owned(),
            token: "session-token".to_owned(),
            auth_mode: AuthMode::ApiKey,
        }),
        host_tools: HostTools {
            program: String::new(),
            args: Vec::new(),
            env: Vec::new(),
        },
        self_command: untied(),
        append_system_prompt: None,
        extra_folders: Vec::new(),
        assistant_name: None,
        skills: None,
        transcripts: TranscriptLimits::default(),
    }
}

impl Run {
    fn start(api: &StandIn) -> Self {
        let home = tempfile::tempdir().unwrap();
        let agent = Agent::start(spec(home.path(), api.base_url()));
        Self { agent, home }
    }

    fn resume(self, api: &StandIn, id: &str) -> Self {
        let mut spec = spec(self.home.path(), api.base_url());
        spec.resume = Some(id.parse().unwrap());
        // The file is locked until the agent before has ended.
        drop(self.agent);
        Self {
            agent: Agent::start(spec),
            home: self.home,
        }
    }

    async fn say(&self, text: &str) -> MessageId {
        let id = MessageId::random();
        let text = text.to_owned();
        let message = AgentCommand::Send(UserMessage { id, text });
        self.agent.commands.send(message).await.unwrap();
        id
    }

    async fn tell(&self, command: AgentCommand) {
        self.agent.commands.send(command).await.unwrap();
    }

    /// The next event, except reports of activity.
    async fn event(&mut self) -> Option<AgentEvent> {
        loop {
            match timeout(DEADLINE, self.agent.events.recv()).await.unwrap() {
                Some(AgentEvent::Activity(_)) => {}
                other => return other,
            }
        }
    }

    async fn session(&mut self) -> AgentSessionId {
        let Some(AgentEvent::Session(id)) = self.event().await else {
            panic!("no session");
        };
        assert!(matches!(self.event().await, Some(AgentEvent::Version(_))));
        id
    }

    /// Waits until a tool has started.
    async fn tool_start(&mut self) {
        while !matches!(
            timeout(DEADLINE, self.agent.events.recv()).await.unwrap(),
            Some(AgentEvent::Activity(Activity::ToolStart { .. }))
        ) {}
    }

    async fn turn_end(&mut self) -> TurnEnd {
        loop {
            match self.event().await {
                Some(AgentEvent::TurnEnd(end)) => return end,
                Some(_) => {}
                None => panic!("the agent ended without the end of a turn"),
            }
        }
    }

    async fn answer(&mut self) -> String {
        match self.turn_end().await.outcome {
            Outcome::Answer(Some(text)) => text,
            other => panic!("no answer: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_message_is_received_and_answered() {
    let api = StandIn::start([Answer::text("pong")]).await;
    let mut run = Run::start(&api);
    run.session().await;
    let id = run.say("ping").await;
    assert_eq!(run.event().await, Some(AgentEvent::Busy));
    assert_eq!(run.event().await, Some(AgentEvent::Received(id)));
    let Some(AgentEvent::TurnEnd(end)) = run.event().await else {
        panic!("no end of the turn");
    };
    assert_eq!(end.outcome, Outcome::Answer(Some("pong".to_owned())));
    assert_eq!(end.model_calls, Some(1));
    let usage = end.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens), (10, 5));
    assert_eq!(run.event().await, Some(AgentEvent::Idle));

    let request = &api.requests()[0];
    assert!(
        request.head.starts_with("POST /v1/messages HTTP/1.1\r\n"),
        "{}",
        request.head
    );
    assert!(
        request.head.contains("\r\nx-api-key: session-token\r\n"),
        "{}",
        request.head
    );
    assert!(!request.head.contains("authorization"), "{}", request.head);
    assert_eq!(request.body["model"], "model-under-test");
    assert_eq!(request.body["messages"][0]["content"][0]["text"], "ping");
    run.tell(AgentCommand::Close).await;
    assert_eq!(run.event().await, None);
}

#[tokio::test]
async fn a_tool_is_run_and_its_result_sent_back() {
    let command = "printf %s \"$ANTHROPIC_API_KEY $ANTHROPIC_BASE_URL\" >&2; exit 3";
    let api = StandIn::start([Answer::tool(command), Answer::text("done")]).await;
    let mut run = Run::start(&api);
    run.say("go").await;
    assert_eq!(run.answer().await, "done");
    let messages = &api.requests()[1].body["messages"];
    assert_eq!(messages[1]["content"][0]["input"]["command"], command);
    let result = &messages[2]["content"][0];
    assert_eq!(result["tool_use_id"], "tool-1");
    assert_eq!(result["is_error"], true);
    let expected = format!("session-token {}\n[exit code 3]", api.base_url());
    assert_eq!(result["content"], expected);
}

#[tokio::test]
async fn what_is_said_while_a_tool_runs_joins_the_next_request() {
    let tool = Answer::tool("while [ ! -e go ]; do sleep 0.01; done");
    let api = StandIn::start([tool, Answer::text("both")]).await;
    let mut run = Run::start(&api);
    run.say("first").await;
    run.tool_start().await;
    let second = run.say("second").await;
    std::fs::write(run.home.path().join("go"), "").unwrap();
    assert_eq!(run.event().await, Some(AgentEvent::Received(second)));
    assert_eq!(run.answer().await, "both");
    let content = &api.requests()[1].body["messages"][2]["content"];
    assert_eq!(content[0]["type"], "tool_result");
    assert_eq!(content[1]["text"], "second");
}

#[tokio::test]
async fn a_conversation_goes_on_in_a_second_run() {
    let api = StandIn::start([Answer::text("one"), Answer::text("two")]).await;
    let mut run = Run::start(&api);
    let id = run.session().await;
    run.say("first").await;
    run.answer().await;
    run.tell(AgentCommand::Close).await;
    while run.event().await.is_some() {}
    let mut run = run.resume(&api, id.as_str());
    assert_eq!(run.session().await, id);
    run.say("second").await;
    assert_eq!(run.answer().await, "two");
    let messages = &api.requests()[1].body["messages"];
    let texts = [0, 1, 2].map(|at| messages[at]["content"][0]["text"].clone());
    assert_eq!(texts, ["first", "one", "second"]);
}

#[tokio::test]
async fn an_unknown_conversation_is_said_and_begun_anew() {
    let api = StandIn::start([Answer::text("new")]).await;
    let mut run = Run::start(&api).resume(&api, "lost");
    assert!(matches!(run.event().await, Some(AgentEvent::Warning(_))));
    let lost = "lost".parse().unwrap();
    assert_eq!(run.event().await, Some(AgentEvent::SessionLost(lost)));
    assert_ne!(run.session().await.as_str(), "lost");
    run.say("hello").await;
    assert_eq!(run.answer().await, "new");
}

#[tokio::test]
async fn an_interrupt_ends_the_turn_and_keeps_the_conversation() {
    let api = StandIn::start([Answer::silence(), Answer::text("back")]).await;
    let mut run = Run::start(&api);
    run.say("first").await;
    api.wait_for_requests(1).await;
    run.tell(AgentCommand::Interrupt).await;
    assert_eq!(run.turn_end().await.outcome, Outcome::Interrupted);
    run.say("second").await;
    assert_eq!(run.answer().await, "back");
    let content = &api.requests()[1].body["messages"][0]["content"];
    assert_eq!(content[0]["text"], "first");
    assert_eq!(content[1]["text"], "second");
}

#[tokio::test]
async fn an_interrupt_kills_the_tool_with_its_children_and_answers_the_call() {
    let tool = Answer::tool("sleep 1000 & echo $! > pid; mv pid child; wait");
    let api = StandIn::start([tool, Answer::text("back")]).await;
    let mut run = Run::start(&api);
    run.say("first").await;
    let child = stand_in::wait_for_file(&run.home.path().join("child")).await;
    run.tell(AgentCommand::Interrupt).await;
    assert_eq!(run.turn_end().await.outcome, Outcome::Interrupted);
    stand_in::wait_for_end(child.trim()).await;
    run.say("second").await;
    assert_eq!(run.answer().await, "back");
    let content = &api.requests()[1].body["messages"][2]["content"];
    assert_eq!(content[0]["is_error"], true);
    assert_eq!(content[1]["text"], "second");
}

#[tokio::test]
async fn a_turn_has_a_limit() {
    let api = StandIn::start((0..5).map(|_| Answer::tool("true"))).await;
    let mut run = Run::start(&api);
    run.say("loop").await;
    let Outcome::Failed(failure) = run.turn_end().await.outcome else {
        panic!("no failure");
    };
    assert_eq!(failure.kind, ErrorKind::Budget);
    assert_eq!(failure.message, "stopped after 5 model calls in one turn");
}

#[tokio::test]
async fn a_failed_turn_is_a_failure_and_not_an_answer() {
    let api = StandIn::start([
        Answer::status(
            401,
            "",
            r#"{"error":{"type":"authentication_error","message":"bad key"}}"#,
        ),
        Answer::text("now it works"),
    ])
    .await;
    let mut run = Run::start(&api);
    run.say("first").await;
    let Outcome::Failed(failure) = run.turn_end().await.outcome else {
        panic!("no failure");
    };
    assert_eq!(failure.kind, ErrorKind::Auth);
    assert_eq!(failure.message, "the model API answered 401: bad key");
    run.say("again").await;
    assert_eq!(run.answer().await, "now it works");
}

#[tokio::test]
async fn the_order_to_stop_ends_the_agent_in_mid_call() {
    let api = StandIn::start([Answer::silence()]).await;
    let mut run = Run::start(&api);
    run.say("first").await;
    api.wait_for_requests(1).await;
    run.agent.stop();
    assert_eq!(run.turn_end().await.outcome, Outcome::Interrupted);
    assert_eq!(run.event().await, None);
    run.agent.outcome().await.unwrap();
}

#[tokio::test]
async fn what_was_sent_before_the_close_is_answered() {
    let api = StandIn::start([Answer::text("one")]).await;
    let mut run = Run::start(&api);
    run.say("first").await;
    run.tell(AgentCommand::Close).await;
    assert_eq!(run.answer().await, "one");
    assert_eq!(run.event().await, Some(AgentEvent::Idle));
    assert_eq!(run.event().await, None);
}
