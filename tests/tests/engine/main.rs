//! Acceptance tests with a real container engine and the real Claude Code.
//!
//! Without an engine or an image these tests are left out, and the output says
//! which and why. Where they must run, `DRAWBRIDGE_TESTS_REQUIRE=engine,claude`
//! turns a missing one into a failure.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod conversation;
mod crash;
mod docs;
mod failures;
mod follow_ups;
mod hostile;
mod images;
mod isolation;
mod leak;
mod limits;
mod lost_engine;
mod nanoclaw;
mod requests;
mod sealed;
mod serve;

use std::process::ExitCode;

use drawbridge_testkit::launcher::Credential;
use drawbridge_testkit::{engine, requirement};
use libtest_mimic::{Arguments, Trial};

/// What a test runs in.
#[derive(Clone, Copy, Debug)]
struct Setting {
    agent: Agent,
    credential: Credential,
    network: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agent {
    Claude,
    Builtin,
}

impl Agent {
    const fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Builtin => "builtin",
        }
    }

    /// Name of its shell tool.
    const fn shell_tool(self) -> &'static str {
        match self {
            Self::Claude => "Bash",
            Self::Builtin => "bash",
        }
    }

    fn image(self) -> String {
        format!("drawbridge/{}:{}", self.name(), env!("CARGO_PKG_VERSION"))
    }

    /// What must be there for its tests, by the name that
    /// `DRAWBRIDGE_TESTS_REQUIRE` knows.
    const fn requirement(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Builtin => "engine",
        }
    }

    /// Why its tests cannot run here, if so.
    fn availability(self) -> Result<(), String> {
        engine::availability()?;
        let (image, name) = (self.image(), self.name());
        if engine::has_image(&image) {
            Ok(())
        } else {
            Err(format!(
                "image {image} is missing; hint: drawbridge build-image {name}"
            ))
        }
    }
}

impl Setting {
    fn all_of(agent: Agent) -> Vec<Self> {
        let networks = ["sealed", "bridge"];
        let credentials = [Credential::ApiKey, Credential::Oauth];
        let pairs = networks
            .into_iter()
            .flat_map(|n| credentials.map(|c| (n, c)));
        pairs
            .map(|(network, credential)| Self {
                agent,
                credential,
                network,
            })
            .collect()
    }

    /// The usual setting, for what does not depend on network and credential.
    const fn usual(agent: Agent) -> Self {
        Self {
            agent,
            credential: Credential::ApiKey,
            network: "sealed",
        }
    }

    /// The flags that choose it.
    fn flags(&self) -> [&'static str; 6] {
        let agent = self.agent.name();
        [
            "--runtime",
            "docker",
            "--agent",
            agent,
            "--network",
            self.network,
        ]
    }

    fn name(&self) -> String {
        let credential = match self.credential {
            Credential::ApiKey => "api_key",
            Credential::Oauth => "oauth",
            Credential::Openai => "openai",
            Credential::Gemini => "gemini",
        };
        format!("{}::{}::{credential}", self.agent.name(), self.network)
    }

    fn trial(self, name: &str, test: fn(Self)) -> Trial {
        Trial::test(format!("{}::{name}", self.name()), move || {
            test(self);
            Ok(())
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = [Agent::Builtin, Agent::Claude].map(|agent| {
        requirement::trials(agent.requirement(), agent.availability(), trials_of(agent))
    });
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trials_of(agent: Agent) -> Vec<Trial> {
    let usual = Setting::usual(agent);
    let mut trials = Vec::new();
    for setting in Setting::all_of(agent) {
        trials.extend(
            conversation::TESTS
                .iter()
                .map(|(name, test)| setting.trial(name, *test)),
        );
    }
    let groups = [
        failures::TESTS,
        crash::TESTS,
        leak::TESTS,
        sealed::TESTS,
        hostile::TESTS,
        follow_ups::TESTS,
    ];
    for tests in groups {
        trials.extend(tests.iter().map(|(name, test)| usual.trial(name, *test)));
    }
    trials.extend(leak::IN_EVERY_SETTING.iter().flat_map(|(name, test)| {
        Setting::all_of(agent)
            .into_iter()
            .map(|setting| setting.trial(name, *test))
    }));
    let own = match agent {
        Agent::Builtin => [
            images::TESTS,
            docs::TESTS,
            limits::TESTS,
            isolation::TESTS,
            requests::BY_SHELL,
            serve::TESTS,
            lost_engine::TESTS,
        ]
        .concat(),
        Agent::Claude => [nanoclaw::TESTS, requests::BY_TOOL].concat(),
    };
    trials.extend(own.iter().map(|(name, test)| usual.trial(name, *test)));
    trials
}

/// A test and its name.
type Test = (&'static str, fn(Setting));
