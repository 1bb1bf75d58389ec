//! A configuration file: where it is found, and what it gives.

use std::path::{Path, PathBuf};

use toml::Table;
use toml::de::{DeTable, DeValue};

use super::keys::Found;
use super::setting::Collector;
use super::{Fault, Source};

/// Where a file is looked for when none is named; the first that is there counts.
pub const PLACES: [&str; 2] = ["throughline.toml", "/etc/throughline/throughline.toml"];

/// The most bytes that are read of a file: more is no configuration.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The first of these files that is there. One that cannot be looked at counts as there, and is then an error.
pub fn find<P: AsRef<Path>>(places: &[P]) -> Option<PathBuf> {
    let is_there = |place: &&Path| place.try_exists().unwrap_or(true);
    places.iter().map(AsRef::as_ref).find(is_there).map(Path::to_owned)
}

/// Takes all that the file gives.
pub(super) fn read(path: &Path, into: &mut Collector<'_>) {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(fault) => return into.faults.push(fault),
    };
    let (spans, errors) = DeTable::parse_recoverable(&text);
    let wrong = |error: &toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        Fault::at(Source::in_file(path, &text, at), error.message())
    };
    into.faults.extend(errors.iter().map(wrong));
    match toml::from_str::<Table>(&text) {
        Ok(table) => {
            let mut file = File {
                path,
                text: &text,
                into,
            };
            file.walk(&table, spans.get_ref(), &[]);
        }
        // A syntax that is wrong has been told; a value that cannot be read has not.
        Err(error) if errors.is_empty() => into.faults.push(wrong(&error)),
        Err(_) => {}
    }
}

fn read_text(path: &Path) -> Result<String, Fault> {
    let unreadable =
        |error: std::io::Error| Fault::of_file(path, format!("{error}; it must be a file that can be read"));
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        let why = format!("{size} bytes; a configuration has at most {FILE_BYTES_MAX}");
        return Err(Fault::of_file(path, why));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// A file whose text was read, on its way into the layers.
struct File<'a, 'keys> {
    path: &'a Path,
    text: &'a str,
    into: &'a mut Collector<'keys>,
}

impl File<'_, '_> {
    /// Every key of a table, and of the sections in it.
    fn walk(&mut self, table: &Table, spans: &DeTable<'_>, above: &[String]) {
        for (name, span) in spans {
            let Some(value) = table.get(name.get_ref().as_ref()) else {
                continue;
            };
            let mut path = above.to_vec();
            path.push(name.get_ref().to_string());
            // A name that is wrong is shown where it stands; a value that may be wrong, where that stands.
            let at = match self.into.keys.find(&path) {
                Found::Key(_) | Found::FileOf(_) => span.span().start,
                Found::Section | Found::Nothing => name.span().start,
            };
            let is_key = matches!(self.into.keys.find(&path), Found::Key(_));
            let section = self.into.take(&path, value, Source::in_file(self.path, self.text, at));
            match (section, span.get_ref()) {
                (Some(section), DeValue::Table(spans)) => self.walk(&section, spans, &path),
                (None, DeValue::Array(spans)) if is_key => {
                    let starts = spans.iter().map(|span| span.span().start);
                    let places = starts.map(|at| Source::in_file(self.path, self.text, at)).collect();
                    self.into.note_places(places);
                }
                _ => {}
            }
        }
    }
}
