//! The flags that lead to a configuration, shared by the commands that need one.

use std::path::PathBuf;

use throughline::config::{self, Config, ConfigError, Loaded, Openness, Sources};

/// Which configuration.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ConfigFile {
    /// The configuration file (TOML), which must be there [default: throughline.toml here, then
    /// /etc/throughline/throughline.toml, then none]
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// Which configuration, and what `serve` lets flags change.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Configured {
    #[command(flatten)]
    file: ConfigFile,
    /// Where to listen, `ADDR:PORT` or `unix:/path`; port 0 takes any that is free; may be repeated [default:
    /// 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Listen beyond this machine although everybody may publish and subscribe
    #[arg(long)]
    insecure: bool,
}

impl ConfigFile {
    fn sources(self) -> Sources {
        let named = self.config.filter(|path| !path.as_os_str().is_empty());
        Sources {
            file: named.or_else(|| config::find(&config::PLACES)),
            environment: std::env::vars_os().collect(),
            flags: Vec::new(),
        }
    }

    /// Reads it, without the checks that only a server that starts needs.
    pub(crate) fn load(self) -> Result<Loaded<Config>, ConfigError> {
        Config::load(&self.sources())
    }
}

impl Configured {
    /// Whether it may be reached from elsewhere.
    pub(crate) fn openness(&self) -> Openness {
        if self.insecure {
            Openness::Insecure
        } else {
            Openness::LoopbackOnly
        }
    }

    /// Reads and checks all of it.
    pub(crate) fn load(self) -> Result<Loaded<Config>, ConfigError> {
        let openness = self.openness();
        let loaded = self.load_unchecked()?;
        let mut faults = loaded.config.faults();
        faults.extend(loaded.config.addresses(openness).err());
        faults.extend(loaded.config.operations_address(openness).err());
        faults.extend(loaded.config.operations_clash());
        loaded.unless(faults)
    }

    /// Reads and checks all of it but the addresses to listen on: sockets that are handed over come before them.
    pub(crate) fn load_but_addresses(self) -> Result<Loaded<Config>, ConfigError> {
        let loaded = self.load_unchecked()?;
        let faults = loaded.config.faults();
        loaded.unless(faults)
    }

    /// Reads it, to be looked at.
    pub(crate) fn load_unchecked(self) -> Result<Loaded<Config>, ConfigError> {
        let mut sources = self.file.sources();
        if !self.listen.is_empty() {
            // A text with a comma in it would be read as two.
            let texts = self.listen.iter().map(|text| toml::Value::from(text.as_str()));
            let list = toml::Value::Array(texts.collect());
            let text = match self.listen.as_slice() {
                [one] if !one.contains(',') => one.clone(),
                _ => list.to_string(),
            };
            sources.flags.push(("listen", "--listen", text));
        }
        Config::load(&sources)
    }
}
