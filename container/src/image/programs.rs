//! The programs that go into an image: where each is found or made.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::builder::Builder;
use super::elf::require_static;
use super::package::Package;
use super::stage::Context;
use super::versions::Versions;
use super::{BuildArgs, tool};
use crate::error::{Context as _, Error, Result};
use crate::process::{Argv, capture};
use crate::state::State;
use crate::terminal::progress::Progress;

/// A full build with link-time optimisation, or a download of 170 MB.
const LONG: Duration = Duration::from_secs(30 * 60);
const SHORT: Duration = Duration::from_secs(10);

/// Stages the static runner: the one given, the one beside this program, or
/// one built from the source checkout around us.
pub(super) async fn stage_runner(
    request: &BuildArgs,
    context: &Context,
    builder: &Builder,
    versions: &Versions,
    progress: &Progress,
) -> Result<()> {
    const NAME: &str = "agent-runner";
    progress.step("finding the runner");
    if let Some(given) = &request.runner {
        require_static(given).context(|| {
            Error::usage(format!(
                "--runner {} cannot run in the image",
                given.display()
            ))
            .hint("build one with `-C target-feature=+crt-static`, or leave --runner out")
        })?;
        return context.add_program(given, NAME);
    }
    let beside = env::current_exe().ok().map(|exe| exe.with_file_name(NAME));
    if let Some(beside) = beside.filter(|path| require_static(path).is_ok()) {
        return context.add_program(&beside, NAME);
    }
    let Some(checkout) = source_checkout() else {
        return Err(
            Error::not_started("there is no static agent-runner beside this program").hint(
                "give one with --runner, or run this inside a checkout of Drawbridge's source",
            ),
        );
    };
    if !cfg!(target_os = "linux") {
        progress.step("compiling the runner in a container, which uses the network");
        copy_source(&checkout, &context.path().join("source"))?;
        let output = format!("type=local,dest={}", context.path().display());
        let options = ["--target", "linux-programs", "--output", &output];
        let arguments = [("RUST", versions.rust.as_str()), ("BASE", &versions.base)];
        return builder.build(context, &options, &arguments, progress).await;
    }
    progress.step("compiling the runner");
    let built = compile(&checkout, progress).await?;
    context.add_program(&built, NAME)
}

/// The checkout that holds the working directory or this program.
fn source_checkout() -> Option<PathBuf> {
    let places = [env::current_dir().ok(), env::current_exe().ok()];
    let is_checkout = |folder: &&Path| {
        folder.join("runner/Cargo.toml").is_file() && folder.join("Cargo.lock").is_file()
    };
    places
        .iter()
        .flatten()
        .find_map(|place| place.ancestors().find(is_checkout).map(Path::to_owned))
}

async fn compile(checkout: &Path, progress: &Progress) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let target_dir = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| checkout.join("target"), |dir| checkout.join(dir));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let package = ["--package", "drawbridge-runner", "--bin", "agent-runner"];
    let profile = ["--profile", "runner", "--target", &target, "--target-dir"];
    let mut argv = Argv::new(cargo, ["build", "--locked"]);
    argv.args
        .extend(package.iter().chain(&profile).map(OsString::from));
    argv.args.push(target_dir.clone().into());
    let mut command = argv.tied().tool_command();
    command
        .current_dir(checkout)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    tool::run("cargo", command, LONG, progress).await?;
    Ok(target_dir.join(target).join("runner/agent-runner"))
}

/// Copies what the compiler needs: the packages, without what they were built to.
fn copy_source(from: &Path, to: &Path) -> Result<()> {
    let failed = || Error::infrastructure(format!("cannot copy the source {}", from.display()));
    fs::create_dir(to).context(failed)?;
    for entry in fs::read_dir(from).context(failed)? {
        let entry = entry.context(failed)?;
        let (name, source) = (entry.file_name(), entry.path());
        let is_unwanted = name == OsStr::new("target") || name.as_encoded_bytes().starts_with(b".");
        let kind = entry.file_type().context(failed)?;
        if kind.is_dir() && !is_unwanted {
            copy_source(&source, &to.join(&name))?;
        } else if kind.is_file() {
            fs::copy(&source, to.join(&name)).context(failed)?;
        }
    }
    Ok(())
}

/// Stages the host's static busybox and links its applets.
pub(super) async fn stage_busybox(context: &Context, progress: &Progress) -> Result<()> {
    progress.step("staging busybox");
    let exported = context.path().join("busybox");
    let places = [exported, "/bin/busybox".into(), "/usr/bin/busybox".into()];
    let Some(busybox) = places.iter().find(|path| require_static(path).is_ok()) else {
        return Err(
            Error::not_started("there is no static busybox on this machine")
                .hint("install it, on Debian and Ubuntu with `apt install busybox-static`"),
        );
    };
    context.add_program(busybox, "rootfs/bin/busybox")?;
    let list = Argv::new(busybox, ["--list"]).tool_command();
    let failed = || Error::not_started("busybox does not list its applets");
    let list = capture(list, SHORT).await.context(failed)?;
    if !list.status.success() {
        return Err(failed().caused_by(list.stderr_summary()));
    }
    context.link_applets(list.stdout.lines())
}

/// Stages the agent's program: the one given, or that of the pinned npm
/// package, which stays in the state folder for the next build.
pub(super) async fn stage_agent(
    request: &BuildArgs,
    package: &Package,
    context: &Context,
    state: &State,
    progress: &Progress,
) -> Result<()> {
    let Package {
        program, version, ..
    } = package;
    progress.step(&format!("staging {program} {version}"));
    let staged = format!("programs/{program}");
    if let Some(given) = &request.agent_binary {
        if !given.is_file() {
            let given = given.display();
            return Err(Error::usage(format!(
                "--agent-binary {given} is not a file"
            )));
        }
        context.add_program(given, &staged)?;
        return stage_companions(given, package, context);
    }
    let folder = state.root().join("agents").join(program).join(version);
    let binary = folder.join("node_modules").join(&package.path);
    if !binary.is_file() {
        if request.offline {
            let message = format!("{program} {version} is not here, and --offline is given");
            return Err(Error::not_started(message)
                .hint("give its program with --agent-binary, or leave --offline out"));
        }
        let spec = &package.spec;
        progress.step(&format!(
            "installing {spec} with npm, which uses the network"
        ));
        install(spec, &folder, progress).await?;
    }
    context.add_program(&binary, &staged)?;
    stage_companions(&binary, package, context)
}

/// Stages what stands beside the agent's program and belongs to it.
fn stage_companions(binary: &Path, package: &Package, context: &Context) -> Result<()> {
    let failed = || Error::infrastructure(format!("cannot read {}", binary.display()));
    // The folder of a link holds nothing that belongs to the program.
    let binary = fs::canonicalize(binary).context(failed)?;
    for name in package.companions {
        let companion = binary.with_file_name(name);
        if !companion.is_file() {
            let (program, companion) = (package.program, companion.display());
            return Err(
                Error::usage(format!("{companion} is missing, which {program} starts"))
                    .hint("keep the program in the folder that its package installed it to"),
            );
        }
        context.add_program(&companion, &format!("programs/{name}"))?;
    }
    Ok(())
}

async fn install(spec: &str, folder: &Path, progress: &Progress) -> Result<()> {
    fs::create_dir_all(folder)
        .context(|| Error::infrastructure(format!("cannot create {}", folder.display())))?;
    let cpu = if cfg!(target_arch = "aarch64") {
        "--cpu=arm64"
    } else {
        "--cpu=x64"
    };
    let quietly = [
        "install",
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ];
    let what = ["--os=linux", cpu, "--libc=glibc", spec, "--prefix"];
    let mut argv = Argv::new("npm", quietly.iter().chain(&what).map(OsString::from));
    argv.args.push(folder.into());
    tool::run("npm", argv.tied().tool_command(), LONG, progress).await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::ImageKind;
    use super::*;

    #[test]
    fn the_checkout_is_found_from_inside_it() {
        let checkout = source_checkout().unwrap();
        assert!(checkout.join("container/image/Dockerfile").is_file());
    }

    #[test]
    fn the_source_is_copied_without_what_was_built() {
        let from = tempfile::tempdir().unwrap();
        for folder in ["runner/src", "target/debug", ".git"] {
            fs::create_dir_all(from.path().join(folder)).unwrap();
            fs::write(from.path().join(folder).join("file"), "x").unwrap();
        }
        let to = from.path().join("target/copy");
        copy_source(from.path(), &to).unwrap();
        assert!(to.join("runner/src/file").is_file());
        assert!(!to.join("target").exists() && !to.join(".git").exists());
    }

    #[test]
    fn what_an_agent_starts_is_found_beside_the_program_behind_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (package, links) = (folder.path().join("package"), folder.path().join("links"));
        for folder in [&package, &links] {
            fs::create_dir(folder).unwrap();
        }
        for name in ["codex", "codex-code-mode-host"] {
            fs::write(package.join(name), name).unwrap();
        }
        let link = links.join("codex");
        symlink("../package/codex", &link).unwrap();
        let state = State::at(folder.path().join("state")).unwrap();
        let context = Context::create(&state).unwrap();
        let codex = Package::of(ImageKind::Codex, &Versions::pinned().unwrap()).unwrap();
        stage_companions(&link, &codex, &context).unwrap();
        let staged = context.path().join("programs/codex-code-mode-host");
        assert_eq!(fs::read(staged).unwrap(), b"codex-code-mode-host");
    }
}
