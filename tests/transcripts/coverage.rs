//! Which of the protocol's words the transcripts contain.

use std::collections::BTreeSet;

use serde_json::Value;

use super::script::{Expect, Script, Send, Step};
use super::{entries, files_in, root, shown_path};

/// The words of all transcripts.
#[derive(Debug, Default)]
pub(crate) struct Words {
    pub(crate) codes: BTreeSet<String>,
    pub(crate) pushes: BTreeSet<String>,
    pub(crate) closes: BTreeSet<String>,
    pub(crate) commands: BTreeSet<String>,
    pub(crate) resumes: BTreeSet<String>,
}

/// The folders that hold transcripts.
pub(crate) fn folders() -> Vec<String> {
    let folders = entries(&root()).into_iter().filter(|path| path.is_dir());
    let name = |path: std::path::PathBuf| Some(path.file_name()?.to_str()?.to_owned());
    folders.filter_map(name).collect()
}

impl Words {
    pub(crate) fn of_all_transcripts() -> Self {
        let mut words = Self::default();
        for path in folders().iter().flat_map(|folder| files_in(&root().join(folder))) {
            match Script::read(&path) {
                Ok(script) => script.lines.iter().for_each(|line| words.add_step(&line.step)),
                Err((number, failure)) => panic!("{}:{number}: {failure}", shown_path(&path)),
            }
        }
        words
    }

    fn add_step(&mut self, step: &Step) {
        match step {
            Step::Send(_, Send::Text(text)) => {
                if let Ok(command) = serde_json::from_str::<Value>(text) {
                    self.commands.extend(command["type"].as_str().map(str::to_owned));
                }
            }
            Step::Expect(_, Expect::Json(json)) => self.add_json(json),
            Step::Expect(_, Expect::Event { kind, data, .. }) => {
                if data["type"] == kind.replace("message", "publication") {
                    self.add_json(data);
                }
            }
            Step::Expect(_, Expect::Problem { code, .. }) => {
                self.codes.insert(code.clone());
            }
            Step::Expect(_, Expect::Close(code, _)) => {
                self.closes.insert(code.to_string());
            }
            _ => {}
        }
    }

    fn add_json(&mut self, json: &Value) {
        match json {
            Value::Object(fields) => {
                let word = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
                self.pushes.extend(word("type"));
                self.codes.extend(word("code"));
                self.resumes.extend(word("resume"));
                fields.values().for_each(|field| self.add_json(field));
            }
            Value::Array(elements) => elements.iter().for_each(|element| self.add_json(element)),
            _ => {}
        }
    }
}

/// Those of the expected words that no transcript contains.
pub(crate) fn missing(expected: impl IntoIterator<Item = &'static str>, words: &BTreeSet<String>) -> Vec<&'static str> {
    let is_missing = |word: &&str| !words.contains(*word);
    expected.into_iter().filter(is_missing).collect()
}
