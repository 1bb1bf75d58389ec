//! What is wrong with a configuration that neither a type nor a range of one key can say.

use super::{Config, EngineKind, Fault};

impl Config {
    /// What neither a type nor a range of one key can say: each thing that is wrong, but for the addresses to listen on.
    pub fn faults(&self) -> Vec<Fault> {
        let connections = &self.connections;
        let mut faults = Vec::new();
        let mut unless = |is_well: bool, key: &str, why: String| {
            if !is_well {
                faults.push(Fault::of_key(key, why));
            }
        };
        unless(
            connections.speaks_proxy_protocol() != connections.proxy_protocol_from.is_empty(),
            "connections.proxy_protocol",
            "connections.proxy_protocol = \"v2\" and connections.proxy_protocol_from = [\"10.0.0.0/8\"], the networks of \
             the proxies, need each other"
                .to_owned(),
        );
        unless(
            self.tls.cert_file.is_some() == self.tls.key_file.is_some(),
            "tls.cert_file",
            "tls.cert_file and tls.key_file need each other".to_owned(),
        );
        unless(
            connections.unix_mode().is_some(),
            "connections.unix_mode",
            format!(
                "connections.unix_mode = {:?}: must be a file mode in octal, like \"660\"",
                connections.unix_mode
            ),
        );
        unless(
            self.engine.kind == EngineKind::Memory || self.engine.snapshot.is_none(),
            "engine.snapshot",
            "engine.snapshot is of the memory engine; with engine.kind = \"redis\" leave it out".to_owned(),
        );
        faults.extend(self.ack_fault());
        faults.extend(self.redis().err());
        faults.extend(self.origins().err().into_iter().flatten());
        faults.extend(self.auth.faults());
        faults.extend(self.hooks.faults());
        faults.extend(self.webhooks.settings().err());
        faults.extend(self.namespace_faults());
        faults
    }
}
