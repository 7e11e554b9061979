//! JSON-RPC with a child process, one object per line: what Codex and agents of
//! the Agent Client Protocol have in common.

use std::time::Duration;

use drawbridge_io::lines::Line;
use drawbridge_shared::json::from_slice_lossy;
use drawbridge_shared::protocol::ErrorKind;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::types::Failure;
use crate::process::child::{
    ChildEvent, ChildSpec, ExitReport, LineChild, StopLadder, Stopping, program_name,
};
use crate::self_command::SelfCommand;

/// Notifications that are kept from before the conversation.
const MAX_OTHERS: usize = 100;

/// The agent's process, and the ids of our requests to it.
pub(super) struct Peer {
    child: LineChild,
    program: String,
    /// Whether messages carry `"jsonrpc":"2.0"`; Codex leaves it out.
    says_version: bool,
    last_id: u64,
}

/// A message of the agent.
#[derive(Debug)]
pub(super) enum Incoming {
    /// The answer to the request of this id.
    Response(u64, Result<Value, RpcError>),
    /// A request; it has to be answered.
    Request {
        id: Value,
        method: String,
        params: Value,
    },
    Notification {
        method: String,
        params: Value,
    },
    /// It has ended.
    Exited(ExitReport),
}

/// An error answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RpcError {
    pub(super) code: i64,
    pub(super) message: String,
    pub(super) data: Value,
}

impl RpcError {
    /// The message, with the agent's own words for it where it has some.
    pub(super) fn describe(&self) -> String {
        let details = ["details", "message", "error"]
            .iter()
            .find_map(|key| self.data[key].as_str());
        let details = details.or_else(|| self.data.as_str());
        match details.filter(|details| *details != self.message) {
            Some(details) => format!("{}: {details}", self.message),
            None => self.message.clone(),
        }
    }
}

impl Peer {
    /// Starts the agent's process.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(
        self_command: &SelfCommand,
        spec: &ChildSpec,
        says_version: bool,
    ) -> Result<Self, Failure> {
        let program = program_name(&spec.program);
        let child = LineChild::spawn(self_command, spec).map_err(|error| {
            Failure::new(
                ErrorKind::StartUp,
                format!("cannot start {program}: {error}"),
            )
        })?;
        Ok(Self {
            child,
            program,
            says_version,
            last_id: 0,
        })
    }

    /// Sends a request; its answer comes under the returned id.
    ///
    /// # Errors
    /// The agent does not read its input.
    pub(super) fn request(&mut self, method: &str, params: Value) -> Result<u64, Failure> {
        self.last_id += 1;
        self.write(json!({"id": self.last_id, "method": method, "params": params}))?;
        Ok(self.last_id)
    }

    /// # Errors
    /// The agent does not read its input.
    pub(super) fn notify(&self, method: &str, params: Value) -> Result<(), Failure> {
        self.write(json!({"method": method, "params": params}))
    }

    /// Answers a request.
    ///
    /// # Errors
    /// The agent does not read its input.
    pub(super) fn answer(&self, id: &Value, result: &Value) -> Result<(), Failure> {
        self.write(json!({"id": id, "result": result}))
    }

    /// Answers a request that we cannot serve; the agent would wait otherwise.
    ///
    /// # Errors
    /// The agent does not read its input.
    pub(super) fn refuse(&self, id: &Value, method: &str) -> Result<(), Failure> {
        let error = json!({"code": -32601, "message": format!("{method} is not supported")});
        self.write(json!({"id": id, "error": error}))
    }

    fn write(&self, mut message: Value) -> Result<(), Failure> {
        if self.says_version {
            message["jsonrpc"] = "2.0".into();
        }
        let line = message.to_string().into_bytes();
        self.child
            .write_line(line)
            .map_err(|error| Failure::crash(error.to_string()))
    }

    /// The agent's next message; lines that are not valid messages are skipped.
    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Incoming {
        loop {
            let event = self.child.next().await;
            if let Some(incoming) = self.understand(event) {
                return incoming;
            }
        }
    }

    /// The message in an event of the process; `None` when it is not a valid
    /// one.
    fn understand(&self, event: ChildEvent) -> Option<Incoming> {
        match event {
            ChildEvent::Exited(report) => Some(Incoming::Exited(report)),
            ChildEvent::Line(Line::Whole(line)) => parse(&line),
            ChildEvent::Line(Line::TooLong { length, .. }) => {
                tracing::warn!(
                    "{} wrote a line of {length} bytes; it is left out",
                    self.program
                );
                None
            }
        }
    }

    /// Sends a request and waits for its answer, before the conversation has
    /// begun. Other notifications go to `others`; its requests are refused.
    ///
    /// # Errors
    /// The agent ended, or did not answer in time.
    pub(super) async fn call(
        &mut self,
        method: &str,
        params: Value,
        deadline: Duration,
        others: &mut Vec<(String, Value)>,
    ) -> Result<Result<Value, RpcError>, Failure> {
        let id = self.request(method, params)?;
        let answer = timeout(deadline, self.answer_to(id, others)).await;
        answer.unwrap_or_else(|_| {
            let text = format!(
                "{} did not answer {method} within {deadline:?}",
                self.program
            );
            Err(Failure::new(ErrorKind::Timeout, text))
        })
    }

    async fn answer_to(
        &mut self,
        wanted: u64,
        others: &mut Vec<(String, Value)>,
    ) -> Result<Result<Value, RpcError>, Failure> {
        loop {
            match self.next().await {
                Incoming::Response(id, result) if id == wanted => return Ok(result),
                Incoming::Response(..) => {}
                Incoming::Request { id, method, .. } => self.refuse(&id, &method)?,
                Incoming::Notification { method, params } if others.len() < MAX_OTHERS => {
                    others.push((method, params));
                }
                Incoming::Notification { .. } => {}
                Incoming::Exited(report) => {
                    let text = report.describe(&self.program);
                    return Err(Failure::new(ErrorKind::StartUp, text));
                }
            }
        }
    }

    /// Begins to end the agent, step by step.
    pub(super) fn begin_stop(&mut self, ladder: StopLadder) -> Stopping {
        self.child.begin_stop(ladder)
    }

    /// The agent's next message while it is being stopped.
    pub(super) async fn next_while(&mut self, stopping: &mut Stopping) -> Incoming {
        loop {
            let event = self.child.next_while(stopping).await;
            if let Some(incoming) = self.understand(event) {
                return incoming;
            }
        }
    }

    /// Closes the agent's input.
    pub(super) fn close(&mut self) {
        self.child.close_stdin();
    }

    /// Ends the agent, step by step.
    pub(super) async fn stop(&mut self, ladder: StopLadder) {
        self.child.stop(ladder).await;
    }

    /// Describes the agent's end.
    pub(super) fn describe(&self, report: &ExitReport) -> String {
        report.describe(&self.program)
    }
}

/// Reads one line; `None` when it is no message, such as a log line.
fn parse(line: &[u8]) -> Option<Incoming> {
    let mut message: Value = from_slice_lossy(line).ok()?;
    let method = message["method"].as_str().map(ToOwned::to_owned);
    let id = message
        .get_mut("id")
        .map(Value::take)
        .filter(|id| !id.is_null());
    match (method, id) {
        (Some(method), Some(id)) => Some(Incoming::Request {
            id,
            method,
            params: message["params"].take(),
        }),
        (Some(method), None) => Some(Incoming::Notification {
            method,
            params: message["params"].take(),
        }),
        (None, Some(id)) => {
            let result = match message.get_mut("error").filter(|error| !error.is_null()) {
                None => Ok(message["result"].take()),
                Some(error) => Err(RpcError {
                    code: error["code"].as_i64().unwrap_or_default(),
                    message: error["message"]
                        .as_str()
                        .unwrap_or("no reason given")
                        .to_owned(),
                    data: error["data"].take(),
                }),
            };
            Some(Incoming::Response(id.as_u64()?, result))
        }
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let parsed = |text: &str| format!("{:?}", parse(text.as_bytes()));
        insta::assert_snapshot!(parsed(r#"{"id":1,"result":{}}"#), @"Some(Response(1, Ok(Object {})))");
        insta::assert_snapshot!(
            parsed(r#"{"id":1,"error":{"code":-1,"message":"no"}}"#),
            @r#"Some(Response(1, Err(RpcError { code: -1, message: "no", data: Null })))"#
        );
        insta::assert_snapshot!(
            parsed(r#"{"id":"a","method":"m","params":{}}"#),
            @r#"Some(Request { id: String("a"), method: "m", params: Object {} })"#
        );
        insta::assert_snapshot!(
            parsed(r#"{"jsonrpc":"2.0","method":"m"}"#),
            @r#"Some(Notification { method: "m", params: Null })"#
        );
        for noise in ["", "log line", "[]", "{}", "1", "{\"id\":null}"] {
            assert_eq!(parsed(noise), "None", "{noise}");
        }
    }
}
