//! Arrays of JSON: all of it is read, and no more is kept than may be there, so that a small body costs little memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};

/// The first elements of an array, and how many there were.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct List<T> {
    pub(super) kept: Vec<T>,
    pub(super) count: usize,
}

impl<'a, T: Deserialize<'a>> List<T> {
    /// Reads an array and keeps at most `count_max` of its elements.
    pub(super) fn read(text: &'a str, count_max: usize) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let list = Keep {
            count_max,
            kind: PhantomData,
        }
        .deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(list)
    }
}

/// How much of an array is kept.
struct Keep<T> {
    count_max: usize,
    kind: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Keep<T> {
    type Value = List<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Keep<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < self.count_max {
            let Some(element) = elements.next_element()? else {
                let count = kept.len();
                return Ok(List { kept, count });
            };
            kept.push(element);
        }
        let mut count = kept.len();
        while elements.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(List { kept, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_some_are_kept() {
        let read = |text| List::<u8>::read(text, 2).map(|list| (list.kept, list.count)).ok();
        assert_eq!(read("[]"), Some((vec![], 0)));
        assert_eq!(read("[1,2]"), Some((vec![1, 2], 2)));
        assert_eq!(read("[1,2,3,\"x\"]"), Some((vec![1, 2], 4)));
        for wrong in ["[1,2,3", "[1]2", "[1,\"x\"]", "{}", "[1,2,3,]"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
