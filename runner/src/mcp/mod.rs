//! `agent-runner mcp`: the tools through which the agent reaches the host, as an
//! MCP server on standard input and output.
//!
//! Names, parameters and files are NanoClaw's. The answers to the agent are
//! not: a request that the host has not confirmed is "queued", and where the
//! host answers, the agent reads its answer. This is the only module that knows
//! `rmcp`.

mod group_file;
mod outbox;
mod params;
mod schedule;
mod tasks;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use drawbridge_shared::chain::chain;
use drawbridge_shared::exit::Exit;
use drawbridge_shared::protocol::{AgentRequest, Claims};
use jiff::Timestamp;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::service::ServerInitializeError;
use rmcp::{ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use tokio::runtime;
use tokio::task::JoinError;

use group_file::GroupFile;
use outbox::{Delivery, Outbox, task_id};
use params::{
    FileParams, GroupParams, MessageParams, QuestionParams, ScheduleParams, TaskParams,
    UpdateParams,
};
pub use schedule::ScheduleType;

/// Time for a user to answer when the agent gives none.
const DEFAULT_QUESTION_TIMEOUT: u64 = 300;
/// Longest time a user may be given.
const MAX_QUESTION_TIMEOUT: u64 = 24 * 60 * 60;

/// Arguments of `mcp`.
#[derive(Clone, Debug, Args)]
pub(crate) struct McpArgs {
    /// The IPC folder.
    #[arg(long, default_value = "/workspace/ipc")]
    pub(crate) ipc: PathBuf,
    /// The group's folder.
    #[arg(long, default_value = "/workspace/group")]
    pub(crate) workspace: PathBuf,
}

/// `agent-runner mcp`: serves until the agent closes standard input.
pub(crate) fn main(args: McpArgs) -> Exit {
    match serve(args) {
        Ok(()) => Exit::Success,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            Exit::AgentFailed
        }
    }
}

/// The failure to serve the tools.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Runtime(#[from] io::Error),
    #[error("{0} is not set")]
    MissingVariable(&'static str),
    #[error("the MCP client did not begin")]
    Begin(#[from] Box<ServerInitializeError>),
    #[error(transparent)]
    Ended(#[from] JoinError),
}

fn serve(args: McpArgs) -> Result<(), ServeError> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let server = Server::from_environment(args, |name| std::env::var(name).ok())?;
        let running = server.serve(rmcp::transport::stdio()).await;
        running.map_err(Box::new)?.waiting().await?;
        Ok(())
    });
    // Standard input is read on a thread that may never return.
    runtime.shutdown_background();
    served
}

/// The tools, and for whom they work.
#[derive(Clone, Debug)]
struct Server {
    outbox: Outbox,
    ipc: PathBuf,
    workspace: PathBuf,
    chat_jid: String,
    group_folder: String,
    is_main: bool,
}

/// A tool's answer to the model, or the reason why there is none.
type Reply = Result<String, String>;

impl Server {
    fn from_environment(
        args: McpArgs,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ServeError> {
        let required = |name| variable(name).ok_or(ServeError::MissingVariable(name));
        Ok(Self {
            outbox: Outbox::new(args.ipc.clone()),
            ipc: args.ipc,
            workspace: args.workspace,
            chat_jid: required(CHAT_JID)?,
            group_folder: required(GROUP_FOLDER)?,
            is_main: variable(IS_MAIN).is_some_and(|value| value == "1"),
        })
    }

    /// Sends a request; `done` is what the agent reads when the host accepts it
    /// without a text of its own.
    async fn request(&self, request: AgentRequest, done: &str) -> Reply {
        match self.outbox.send(&request).await.map_err(unwritable)? {
            Delivery::Accepted(text) => Ok(text.unwrap_or_else(|| done.to_owned())),
            Delivery::Refused(reason) => Err(format!("The host refused: {reason}")),
            Delivery::Queued => Ok("Queued for the host; it has not confirmed this.".to_owned()),
        }
    }

    /// The claims of a message, a file or a question.
    fn sender(&self) -> Claims {
        Claims {
            group_folder: Some(self.group_folder.clone()),
            ..now()
        }
    }

    /// The claims of a request about a task.
    fn task_owner(&self) -> Claims {
        Claims {
            is_main: Some(self.is_main),
            ..self.sender()
        }
    }

    /// The kind of schedule that a changed value has to fit.
    fn schedule_type_of(&self, task_id: &str) -> Option<ScheduleType> {
        let tasks = tasks::read(&self.ipc).unwrap_or_default();
        let task = tasks.iter().find(|task| task.id == task_id)?;
        ScheduleType::parse(&task.schedule_type)
    }
}

/// The present, as JavaScript's `toISOString` writes it.
fn now() -> Claims {
    Claims {
        timestamp: Some(format!("{:.3}", Timestamp::now())),
        ..Claims::default()
    }
}

fn unwritable(error: io::Error) -> String {
    format!("The request could not be handed to the host: {error}")
}

/// Variables that describe the chat, as NanoClaw names them.
pub(crate) const CHAT_JID: &str = "NANOCLAW_CHAT_JID";
/// Folder name of the group.
pub(crate) const GROUP_FOLDER: &str = "NANOCLAW_GROUP_FOLDER";
/// `1` in the privileged group.
pub(crate) const IS_MAIN: &str = "NANOCLAW_IS_MAIN";

#[tool_router]
impl Server {
    #[tool(
        description = "Send a message to the user or group immediately, while you are still \
        running. Use it for progress updates or to send several messages. In a scheduled task \
        your final output is not sent to the user, so use this tool if they should hear of it."
    )]
    async fn send_message(&self, Parameters(params): Parameters<MessageParams>) -> Reply {
        if params.text.trim().is_empty() {
            return Err("The text is empty; there is nothing to send.".to_owned());
        }
        let request = AgentRequest::Message {
            chat_jid: self.chat_jid.clone(),
            text: params.text,
            sender: params.sender.filter(|sender| !sender.is_empty()),
            claims: self.sender(),
        };
        self.request(request, "Message sent.").await
    }

    #[tool(description = "Send a file from the group's folder to the user or group.")]
    async fn send_file(&self, Parameters(params): Parameters<FileParams>) -> Reply {
        let file = GroupFile::find(&self.workspace, &params.path)?;
        let own_name = file
            .path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let request = AgentRequest::File {
            chat_jid: self.chat_jid.clone(),
            filename: params.filename.or(own_name).unwrap_or_default(),
            path: file.path.to_string_lossy().into_owned(),
            text: params.text,
            claims: self.sender(),
        };
        self.request(request, "File sent.").await
    }

    #[tool(
        description = "Ask the user a question and wait for the answer. Use it only when you \
        cannot go on without one."
    )]
    async fn ask_user(&self, Parameters(params): Parameters<QuestionParams>) -> Reply {
        if !self.outbox.host_answers() {
            return Err(
                "This host cannot ask the user; decide yourself, or end your turn with \
                        the question."
                    .to_owned(),
            );
        }
        let seconds = params.timeout_seconds.unwrap_or(DEFAULT_QUESTION_TIMEOUT);
        if !(1..=MAX_QUESTION_TIMEOUT).contains(&seconds) {
            return Err(format!(
                "timeout_seconds must be 1 to {MAX_QUESTION_TIMEOUT}."
            ));
        }
        let request = AgentRequest::AskUser {
            chat_jid: self.chat_jid.clone(),
            question: params.question,
            options: params.options,
            timeout_seconds: seconds,
            claims: self.sender(),
        };
        let deadline = Duration::from_secs(seconds);
        let delivery = self
            .outbox
            .send_and_wait(&request, deadline)
            .await
            .map_err(unwritable)?;
        match delivery {
            Delivery::Accepted(text) => Ok(text.unwrap_or_default()),
            Delivery::Refused(reason) => Err(format!("The host refused: {reason}")),
            Delivery::Queued => Err(format!("No answer within {seconds} seconds.")),
        }
    }

    #[tool(
        description = "Schedule a recurring or one-time task. It runs as a full agent with access \
        to all tools."
    )]
    async fn schedule_task(&self, Parameters(params): Parameters<ScheduleParams>) -> Reply {
        params.schedule_type.check(&params.schedule_value)?;
        let target = params.target_group_jid.filter(|_| self.is_main);
        let task_id = task_id();
        let (kind, value) = (params.schedule_type.name(), params.schedule_value);
        let done = format!("Task {task_id} scheduled: {kind} - {value}");
        let request = AgentRequest::ScheduleTask {
            task_id: Some(task_id.clone()),
            prompt: params.prompt,
            script: params.script.filter(|script| !script.is_empty()),
            schedule_type: kind.to_owned(),
            schedule_value: value,
            context_mode: params.context_mode.into(),
            target_jid: target.unwrap_or_else(|| self.chat_jid.clone()),
            claims: Claims {
                created_by: Some(self.group_folder.clone()),
                ..now()
            },
        };
        let reply = self.request(request, &done).await?;
        Ok(if reply.contains(&task_id) {
            reply
        } else {
            format!("Task {task_id}: {reply}")
        })
    }

    #[tool(
        description = "List scheduled tasks. The main group sees the tasks of all groups, other \
        groups see their own."
    )]
    async fn list_tasks(&self) -> Reply {
        let mut tasks = tasks::read(&self.ipc)
            .map_err(|error| format!("The host's list of tasks cannot be read: {error}"))?;
        tasks.retain(|task| self.is_main || task.group_folder == self.group_folder);
        if tasks.is_empty() {
            return Ok("No scheduled tasks found.".to_owned());
        }
        let lines: Vec<_> = tasks.iter().map(tasks::Task::line).collect();
        Ok(format!("Scheduled tasks:\n{}", lines.join("\n")))
    }

    #[tool(description = "Pause a scheduled task. It does not run until it is resumed.")]
    async fn pause_task(&self, Parameters(params): Parameters<TaskParams>) -> Reply {
        let done = format!("Task {} paused.", params.task_id);
        let request = AgentRequest::PauseTask {
            task_id: params.task_id,
            claims: self.task_owner(),
        };
        self.request(request, &done).await
    }

    #[tool(description = "Resume a paused task.")]
    async fn resume_task(&self, Parameters(params): Parameters<TaskParams>) -> Reply {
        let done = format!("Task {} resumed.", params.task_id);
        let request = AgentRequest::ResumeTask {
            task_id: params.task_id,
            claims: self.task_owner(),
        };
        self.request(request, &done).await
    }

    #[tool(description = "Cancel and delete a scheduled task.")]
    async fn cancel_task(&self, Parameters(params): Parameters<TaskParams>) -> Reply {
        let done = format!("Task {} cancelled.", params.task_id);
        let request = AgentRequest::CancelTask {
            task_id: params.task_id,
            claims: self.task_owner(),
        };
        self.request(request, &done).await
    }

    #[tool(description = "Change a scheduled task. Only the given fields change.")]
    async fn update_task(&self, Parameters(params): Parameters<UpdateParams>) -> Reply {
        match (params.schedule_type, &params.schedule_value) {
            (Some(kind), Some(value)) => kind.check(value)?,
            (Some(_), None) => return Err("schedule_type needs schedule_value too.".to_owned()),
            (None, Some(value)) => match self.schedule_type_of(&params.task_id) {
                Some(kind) => kind.check(value)?,
                None => {
                    let text =
                        "The kind of this task's schedule is not known; give schedule_type too.";
                    return Err(text.to_owned());
                }
            },
            (None, None) => {}
        }
        let done = format!("Task {} updated.", params.task_id);
        let request = AgentRequest::UpdateTask {
            task_id: params.task_id,
            claims: self.task_owner(),
            prompt: params.prompt,
            script: params.script,
            schedule_type: params.schedule_type.map(|kind| kind.name().to_owned()),
            schedule_value: params.schedule_value,
        };
        self.request(request, &done).await
    }

    #[tool(
        description = "Register a new group, so that the agent can answer there. Main group only."
    )]
    async fn register_group(&self, Parameters(params): Parameters<GroupParams>) -> Reply {
        if !self.is_main {
            return Err("Only the main group can register new groups.".to_owned());
        }
        if let Err(error) = params.folder.parse::<drawbridge_shared::ids::GroupName>() {
            return Err(error.to_string());
        }
        let done = format!("Group \"{}\" registered.", params.name);
        let request = AgentRequest::RegisterGroup {
            jid: params.jid,
            name: params.name,
            folder: params.folder,
            trigger: params.trigger,
            requires_trigger: params.requires_trigger,
            container_config: None,
            claims: now(),
        };
        self.request(request, &done).await
    }
}

#[tool_handler(name = "nanoclaw", version = "1.0.0")]
impl ServerHandler for Server {}
