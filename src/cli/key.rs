//! `throughline key`: makes an API key, and the lines that let it in.

use std::process::ExitCode;

use throughline::session::identity::{ChannelPattern, NewApiKey, Scope};

use super::client::terminal::print;
use super::exit::{Exit, fail};

/// The scope that no channels bound.
const OPERATOR: &str = "operator";

#[derive(Debug, clap::Args)]
pub(crate) struct Key {
    /// Whose key it is
    #[arg(long, value_name = "NAME", default_value = "backend")]
    name: String,
    /// What it is for: publish, history, presence, operator; repeat for several [default: publish]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// On which channels: a name, or with a trailing * what they begin with; repeat for several; the scope operator is
    /// for all of them, whatever stands here [default: *, and none for operator alone]
    #[arg(long = "channel", value_name = "PATTERN")]
    channels: Vec<String>,
}

pub(crate) fn run(mut asked: Key) -> ExitCode {
    if asked.scopes.is_empty() {
        asked.scopes.push("publish".to_owned());
    }
    let is_for_channels = asked.scopes.iter().any(|scope| scope != OPERATOR);
    if !is_for_channels && !asked.channels.is_empty() {
        let why = "--channel: the scope operator is for the whole node, so a key for nothing else has no channels";
        return fail(Exit::Usage, why);
    }
    if is_for_channels && asked.channels.is_empty() {
        asked.channels.push("*".to_owned());
    }
    match made(&asked) {
        Ok(text) => print(text.trim_end()).break_value().unwrap_or(Exit::Done.into()),
        Err(error) => fail(Exit::Usage, error),
    }
}

fn made(asked: &Key) -> Result<String, String> {
    if let Some(word) = asked.scopes.iter().find(|word| Scope::parse(word).is_none()) {
        return Err(format!(
            "--scope {word}: must be publish, history, presence or operator"
        ));
    }
    for pattern in &asked.channels {
        ChannelPattern::parse(pattern).map_err(|error| format!("--channel {pattern}: {error}"))?;
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| format!("no randomness can be had: {error}"))?;
    let new = NewApiKey::from_random(&random);
    let text = |value: &str| toml::Value::from(value).to_string();
    let list = |values: &[String]| toml::Value::from(values.to_vec()).to_string();
    Ok(format!(
        "# The key, which is shown only now. Send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`:\n\
         # {}\n\n\
         [[auth.api_keys]]\nname = {}\nhash = {}\nscopes = {}\nchannels = {}\n",
        new.key,
        text(&asked.name),
        text(&new.hash),
        list(&asked.scopes),
        list(&asked.channels)
    ))
}
