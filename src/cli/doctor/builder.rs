//! Whether the builder image of a definition is here or can be had, and whether a newer one exists.

use anyhow::Result;

use crate::cli::environment;
use crate::cli::source_options::load_definition;
use crate::container::engine::{Engine, EngineOptions};
use crate::doctor::{Finding, State};
use crate::lock::context::{BuildContext, Sources};
use ocinitrd_support::progress::Progress;

/// Judges the builder image of the definition `image`; `engine` is the one that was found, if any.
///
/// # Errors
/// Fails when there is no such definition, and when the store cannot be opened.
pub async fn examine(
    image: &str,
    surroundings: EngineOptions,
    engine: Option<&Engine>,
    progress: &Progress,
) -> Result<Finding> {
    let (host, registries) = (environment::host()?, environment::registries());
    let supply = Sources { surroundings, host, offline: false, rpm_directories: Vec::new(), registries };
    let context = BuildContext::open(load_definition(image)?, supply, progress)?;
    Ok(judge(&context, engine).await.unwrap_or_else(|error| problem(&format!("{error:#}"))))
}

async fn judge(context: &BuildContext<'_>, engine: Option<&Engine>) -> Result<Finding> {
    let reference = context.builder_reference()?;
    let in_engine = match engine {
        Some(engine) => engine.find_image(&reference).await?.is_some(),
        None => false,
    };
    let place = if in_engine {
        "the engine has it"
    } else if reference.is_local() {
        return Ok(problem(&format!(
            "{reference} is made on this machine, and the engine does not have it\n\
             hint: make or load it with this engine; root and every user have a storage of their own"
        )));
    } else {
        context.builder_sources(&reference)?.probe().await?
    };
    if reference.is_local() {
        return Ok(finding(State::Ok, format!("{reference}: {place}; it is made on this machine"), None));
    }
    Ok(match context.newest_builder().await {
        Ok(None) => finding(State::Ok, format!("{reference}: {place}, and its tag names no other"), None),
        Ok(Some(newest)) => finding(
            State::Warning,
            format!("{reference}: {place}, but its tag names {} now", newest.digest()),
            Some(format!("ocinitrd update {} --builder", context.definition.argument)),
        ),
        // A build does not depend on the tag.
        Err(error) => {
            let detail = format!("{reference}: {place}; whether its tag names another is not known: {error:#}");
            finding(State::Ok, detail, None)
        }
    })
}

/// A problem whose hint, if the text has one, becomes the cure.
fn problem(text: &str) -> Finding {
    let (detail, cure) = match text.split_once("\nhint: ") {
        Some((detail, hint)) => (detail, Some(hint.to_owned())),
        None => (text, None),
    };
    finding(State::Problem, detail.to_owned(), cure)
}

fn finding(state: State, detail: String, cure: Option<String>) -> Finding {
    Finding { subject: "builder", state, detail, cure }
}
