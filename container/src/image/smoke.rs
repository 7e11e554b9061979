//! The test of a fresh image: a real turn against the stand-in, sealed where
//! the engine can do that.

use drawbridge_shared::exit::Exit;

use super::ImageKind;
use super::builder::Builder;
use crate::config::{Key, RunSettings};
use crate::error::{Error, Result};
use crate::events::channel;
use crate::fake_api::{FakeApi, Reply};
use crate::run::{Request, launch};
use crate::spec::ImageRef;
use crate::state::State;

const FAKE_KEY: &str = "sk-ant-fake-SMOKE-TEST-0123456789";
const ANSWER: &str = "The image works.";

/// Tests the image and says what was proved.
pub(super) async fn test(
    builder: &Builder,
    kind: ImageKind,
    image: &ImageRef,
    state: &State,
) -> Result<&'static str> {
    match kind {
        ImageKind::Builtin | ImageKind::Claude | ImageKind::Opencode => {
            run_a_turn(builder, kind, image, state).await?;
            Ok("a test turn in it succeeded")
        }
        // The stand-in does not speak its model's API.
        ImageKind::Codex => {
            start_the_agent(builder, kind, image).await?;
            Ok("its agent starts in it; no turn was tried")
        }
    }
}

async fn start_the_agent(builder: &Builder, kind: ImageKind, image: &ImageRef) -> Result<()> {
    let script = format!(
        "{} --version && agent-runner --version",
        kind.agent().name()
    );
    if builder.succeeds_in(&image.to_string(), &script).await? {
        return Ok(());
    }
    Err(
        Error::not_started(format!("{image} was built, but its agent does not start")).hint(
            format!(
                "try `{} run --rm --entrypoint sh {image} -c '{script}'`",
                builder.program()
            ),
        ),
    )
}

/// Runs one turn in the image, exactly as `run` would.
async fn run_a_turn(
    builder: &Builder,
    kind: ImageKind,
    image: &ImageRef,
    state: &State,
) -> Result<()> {
    let fake_api = FakeApi::start(|_| Reply::Text(ANSWER.to_owned())).await?;
    let settings = RunSettings::fixed(&[
        (Key::Runtime, builder.engine().choice()),
        (Key::Network, builder.test_network()),
        (Key::Agent, kind.agent().name()),
        (Key::Image, &image.to_string()),
        (Key::Timeout, "120s"),
        (Key::IdleTimeout, "90s"),
    ])?;
    let request = Request {
        prompt: "Say that the image works.".to_owned(),
        ..Request::new(settings, fake_api.proxy_config(FAKE_KEY, state)?)
    };
    let (reporter, events) = channel();
    let failed = |why: &str| {
        Error::not_started(format!(
            "{image} was built, but its test turn failed: {why}"
        ))
        .hint("`drawbridge doctor` looks for the cause")
    };
    let (ended, answer) = tokio::join!(launch(request, state, reporter), events.last_answer());
    let ended = ended.map_err(|error| failed(&error.one_line()))?;
    let received = fake_api.received();
    let has_key = |(name, value): &(String, String)| name == "x-api-key" && value == FAKE_KEY;
    match answer {
        Some(text) if text == ANSWER && ended == Exit::Success => {}
        other => return Err(failed(other.as_deref().unwrap_or("there was no answer"))),
    }
    if !received
        .iter()
        .all(|request| request.credentials.iter().all(has_key))
    {
        return Err(failed("the model API received something else than the key"));
    }
    Ok(())
}
