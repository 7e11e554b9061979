//! The base of the `claude` image: it has to hold what the agent's tools use.

use super::builder::Builder;
use super::stage::Context;
use crate::error::{Error, Result};
use crate::terminal::progress::Progress;

/// Succeeds in a base that needs nothing added.
const HAS_TOOLS: &str = "command -v git && command -v rg && command -v curl \
    && { test -s /etc/ssl/certs/ca-certificates.crt || test -s /etc/pki/tls/certs/ca-bundle.crt \
         || test -s /etc/ssl/ca-bundle.pem; }";

/// The base itself when it has the tools, otherwise one derived from it.
pub(super) async fn with_tools(
    builder: &Builder,
    base: &str,
    offline: bool,
    progress: &Progress,
) -> Result<String> {
    progress.step(&format!("checking the base {base}"));
    if !builder.has_image(base).await? {
        if offline {
            return Err(Error::not_started(format!(
                "the base {base} is not here, and --offline is given"
            ))
            .hint(format!(
                "run `{} pull {base}`, or name another one with --base",
                builder.program()
            )));
        }
        progress.print_line(&format!(
            "{base} is not here; downloading it, which uses the network"
        ));
        builder.pull(base, progress).await?;
    }
    if builder.succeeds_in(base, HAS_TOOLS).await? {
        return Ok(base.to_owned());
    }
    let derived = derived_name(base);
    if builder.has_image(&derived).await? && builder.succeeds_in(&derived, HAS_TOOLS).await? {
        return Ok(derived);
    }
    if offline {
        return Err(Error::not_started(format!(
            "the base {base} lacks git, ripgrep, curl or CA certificates, and --offline is given"
        ))
        .hint("leave --offline out to add them by its package manager, or name another --base"));
    }
    progress.print_line(&format!(
        "{base} lacks git, ripgrep, curl or CA certificates; adding them as {derived} by its \
         package manager, which uses the network"
    ));
    progress.step(&format!("making {derived}"));
    let context = Context::for_tools()?;
    let options = ["--tag", &derived];
    builder
        .build(&context, &options, &[("BASE", base)], progress)
        .await?;
    Ok(derived)
}

/// A name of its own for each base: `drawbridge/base:debian-bookworm-slim`.
fn derived_name(base: &str) -> String {
    let tag: String = base
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .take(120)
        .collect();
    format!("drawbridge/base:{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ImageRef;

    #[test]
    fn a_derived_base_has_a_valid_name() {
        let name = derived_name("reg.io:5000/a/b@sha256:00ff");
        assert_eq!(name, "drawbridge/base:reg.io-5000-a-b-sha256-00ff");
        name.parse::<ImageRef>().unwrap();
    }
}
