//! `drawbridge demo`: the whole promise in a few seconds, with nothing but this
//! program.
//!
//! Only the model is a stand-in. The proxy, the runner, the agent and, where an
//! engine and the image are there, the sealed container are those of every run.

mod facts;
mod script;

use drawbridge_shared::env::ANTHROPIC_API_KEY;
use drawbridge_shared::exit::Exit;
use drawbridge_shared::ipc::HostMessage;
use drawbridge_shared::protocol::{AgentKind, RunRecord};
use tokio::sync::mpsc;

use crate::config::{Key, NetworkChoice, RunSettings, SandboxChoice, default_image};
use crate::engine::orphans;
use crate::engine::sandbox;
use crate::engine::{Engine, Facts, Runtime};
use crate::error::{Error, Result};
use crate::events::{Event, Listener, channel};
use crate::fake_api::FakeApi;
use crate::process::block_on;
use crate::run::RunControl;
use crate::run::follow_ups::Source;
use crate::run::{Request, launch};
use crate::state::State;
use crate::terminal::colour::Paint;
use crate::terminal::output::data_line;
use facts::{Observed, mask};
use script::Inspection;

/// Obviously not a key, and the only one here: the caller's is never read.
const FAKE_KEY: &str = "sk-ant-fake-CANARY-0123456789";

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Where the agent runs; sealed in a container if that can be.
    #[arg(long, value_name = "docker|podman|apple|host")]
    runtime: Option<String>,
}

/// `drawbridge demo`.
pub(crate) fn command(args: &DemoArgs) -> Result<Exit> {
    block_on(async {
        let state = State::open()?;
        orphans::clean_up(&state).await?;
        run(args.runtime.as_deref(), &state).await
    })
}

/// Runs the demonstration and checks what it claims.
async fn run(runtime: Option<&str>, state: &State) -> Result<Exit> {
    let story = Scenario {
        paint: Paint::for_stdout(),
    };
    let fake_api = FakeApi::start(script::reply).await?;
    let place = Place::choose(runtime).await?;
    story.introduce(&fake_api, &place);

    let (reporter, events) = channel();
    let (sender, follow_ups) = mpsc::channel(1);
    let request = Request {
        prompt: script::QUESTION.to_owned(),
        follow_ups: Source::Given(follow_ups),
        ..Request::new(
            place.settings.clone(),
            fake_api.proxy_config(FAKE_KEY, state)?,
        )
    };
    let (ended, answers) = tokio::join!(
        launch(request, state, reporter),
        story.follow(events, sender, &fake_api),
    );
    let ended = ended?;

    let received = fake_api.received();
    story.show_upstream(&received);
    let observed = Observed {
        key: FAKE_KEY.to_owned(),
        inspection: Inspection::find(&received),
        received,
        answers,
        is_sealed: place.is_sealed,
    };
    let broken = story.check(&observed);
    if broken > 0 || ended != Exit::Success {
        let message = format!("the demonstration failed: {broken} of its claims do not hold");
        return Err(Error::infrastructure(message).hint("`drawbridge doctor` looks for the cause"));
    }
    story.print_next_steps(&place);
    Ok(Exit::Success)
}

/// Where the agent runs.
struct Place {
    settings: RunSettings,
    is_sealed: bool,
    /// Its description for the person.
    description: String,
}

impl Place {
    /// A sealed container if that can be, otherwise this machine.
    async fn choose(runtime: Option<&str>) -> Result<Self> {
        let asked = settings(runtime.unwrap_or("auto"))?;
        match Runtime::choose(asked.runtime, &asked.image).await {
            Ok(Runtime::Container(engine, facts)) => Ok(Self::in_container(engine, &facts, asked)),
            Ok(Runtime::Host) => Self::on_this_machine("as asked for"),
            // The demonstration has to work everywhere; a run never does this.
            Err(error) if runtime.is_none() => Self::on_this_machine(&error.to_string()),
            Err(error) => Err(error),
        }
    }

    /// An engine in a virtual machine cannot share the proxy's socket.
    fn in_container(engine: Engine, facts: &Facts, mut settings: RunSettings) -> Self {
        let network = if facts.is_in_vm {
            settings.network = NetworkChoice::Bridge;
            "on a network of its own"
        } else {
            "sealed: no network but the proxy's socket"
        };
        settings.waive.clone_from(&facts.lacks);
        let (program, image) = (engine.program(), &settings.image);
        Self {
            description: format!("in a {program} container of {image}, {network}"),
            is_sealed: !facts.is_in_vm,
            settings,
        }
    }

    fn on_this_machine(reason: &str) -> Result<Self> {
        let mut settings = settings("host")?;
        // The demonstration's own agent is harmless, and it has to work on
        // systems without Landlock too.
        if sandbox::require().is_err() {
            settings.sandbox = SandboxChoice::Off;
        }
        Ok(Self {
            settings,
            is_sealed: false,
            description: format!("a process on this machine, NOT isolated ({reason})"),
        })
    }
}

/// The settings of the demonstration; the caller's configuration has no say.
fn settings(runtime: &str) -> Result<RunSettings> {
    RunSettings::fixed(&[
        (Key::Runtime, runtime),
        (Key::Agent, AgentKind::Builtin.name()),
        (Key::Image, &default_image(AgentKind::Builtin)),
        (Key::Timeout, "60s"),
        (Key::IdleTimeout, "30s"),
    ])
}

/// Tells what happens, on standard output.
#[derive(Clone, Copy)]
struct Scenario {
    paint: Paint,
}

impl Scenario {
    fn introduce(self, fake_api: &FakeApi, place: &Place) {
        data_line(
            &self
                .paint
                .bold("Drawbridge: an agent at work without a key"),
        );
        data_line("");
        self.line(
            "model API",
            &format!("a stand-in inside this program, {}", fake_api.url()),
        );
        self.line(
            "the key",
            &format!("{}, a fake that only the proxy knows", mask(FAKE_KEY)),
        );
        let place = if place.is_sealed {
            self.paint.green(&place.description)
        } else {
            self.paint.yellow(&place.description)
        };
        self.line("the agent", &place);
        data_line("");
    }

    fn line(self, who: &str, what: &str) {
        data_line(&format!(
            "{}  {what}",
            self.paint.dim(&format!("{who:>10}"))
        ));
    }

    /// Shows the conversation as it goes on, and asks the second question once
    /// the first is answered. Returns the answers.
    async fn follow(
        self,
        mut events: Listener,
        sender: mpsc::Sender<RunControl>,
        fake_api: &FakeApi,
    ) -> Vec<String> {
        self.line("you", script::QUESTION);
        let mut sender = Some(sender);
        let mut answers = Vec::new();
        while let Some(told) = events.recv().await {
            match told.event {
                Event::Result(RunRecord {
                    result: Some(text), ..
                }) => {
                    if answers.is_empty() {
                        self.show_inspection(fake_api);
                    }
                    self.line("agent", &text);
                    answers.push(text);
                    if let (1, Some(sender)) = (answers.len(), &sender) {
                        self.line(
                            "you",
                            &format!(
                                "{} {}",
                                script::FOLLOW_UP,
                                self.paint.dim("(the agent is still running)")
                            ),
                        );
                        let text = script::FOLLOW_UP.to_owned();
                        // It fails when the run is over, which the claims show.
                        let _ = sender
                            .send(RunControl::Message(HostMessage::text(text)))
                            .await;
                    } else {
                        sender = None;
                    }
                }
                Event::Result(RunRecord {
                    error: Some(error), ..
                }) => {
                    self.line("agent", &self.paint.red(&error));
                    sender = None;
                }
                Event::Warning { message } => self.line("warning", &message),
                Event::Progress(_)
                | Event::Start { .. }
                | Event::Stopped { .. }
                | Event::Request(_)
                | Event::Result(_)
                | Event::Exit { .. } => {}
            }
        }
        answers
    }

    fn show_inspection(self, fake_api: &FakeApi) {
        let Some(seen) = Inspection::find(&fake_api.received()) else {
            return;
        };
        self.line("agent", "uses its tool to look at its own environment:");
        for (name, value) in &seen.variables {
            let shown = if name == ANTHROPIC_API_KEY {
                format!(
                    "{} {}",
                    mask(value),
                    self.paint.dim("(a session token, masked)")
                )
            } else {
                value.clone()
            };
            self.line("", &format!("  {name}={shown}"));
        }
        self.line(
            "",
            &format!("  network: {}; routes: {}", seen.interfaces, seen.routes),
        );
    }

    fn show_upstream(self, received: &[crate::fake_api::Received]) {
        data_line("");
        self.line("model API", "received:");
        for request in received {
            let credentials: Vec<_> = request
                .credentials
                .iter()
                .map(|(name, value)| format!("{name}: {}", mask(value)))
                .collect();
            self.line(
                "",
                &format!("  {}  {}", request.line, credentials.join(", ")),
            );
        }
        data_line("");
    }

    /// Shows each claim and returns how many do not hold.
    fn check(self, observed: &Observed) -> usize {
        let mut broken = 0;
        for claim in observed.claims() {
            let mark = if claim.holds {
                self.paint.green("        ok")
            } else {
                broken += 1;
                self.paint.red("    BROKEN")
            };
            data_line(&format!("{mark}  {}", claim.text));
        }
        broken
    }

    fn print_next_steps(self, place: &Place) {
        data_line("");
        if !place.is_sealed {
            self.line(
                "next",
                "drawbridge build-image builtin   then this demo runs sealed in a container",
            );
        }
        self.line(
            "next",
            "drawbridge build-image claude    an image with Claude Code in it",
        );
        self.line(
            "",
            "drawbridge run --prompt \"...\"     with your key in ANTHROPIC_API_KEY or .env",
        );
    }
}
