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
                Ok(script) => {
                    for line in &script.lines {
                        words.add_step(&line.step);
                    }
                }
                Err((number, failure)) => panic!("{}:{number}: {failure}", shown_path(&path)),
            }
        }
        words
    }

    fn add_step(&mut self, step: &Step) {
        if let Step::Send(_, Send::Text(text)) = step
            && let Ok(command) = serde_json::from_str::<Value>(text)
        {
            self.commands.extend(command["type"].as_str().map(str::to_owned));
        }
        let Step::Expect(_, expect) = step else { return };
        if let Expect::Json(json) | Expect::Event { data: json, .. } = expect {
            self.add_json(json);
        }
        if let Expect::Problem { code, .. } = expect {
            self.codes.insert(code.clone());
        }
        if let Expect::Close(code, _) = expect {
            self.closes.insert(code.to_string());
        }
    }

    fn add_json(&mut self, json: &Value) {
        for element in json.as_array().into_iter().flatten() {
            self.add_json(element);
        }
        let Some(fields) = json.as_object() else { return };
        let word = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        self.pushes.extend(word("type"));
        self.codes.extend(word("code"));
        self.resumes.extend(word("resume"));
        for field in fields.values() {
            self.add_json(field);
        }
    }
}

/// Those of the expected words that no transcript contains.
pub(crate) fn missing(expected: impl IntoIterator<Item = &'static str>, words: &BTreeSet<String>) -> Vec<&'static str> {
    let is_missing = |word: &&str| !words.contains(*word);
    expected.into_iter().filter(is_missing).collect()
}
