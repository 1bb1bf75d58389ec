//! Which name was meant by one that there is not.

use strsim::osa_distance;

/// More edits than this and it is another word.
fn edits_max(name: &str) -> usize {
    (name.chars().count() / 2).max(2)
}

/// The nearest name; of those in other sections one whose last part is the nearest.
pub(super) fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let distance = |other: &str| osa_distance(name, other).min(1 + osa_distance(last(name), last(other)));
    let nearest = known.iter().map(|other| (distance(other), other)).min()?;
    (nearest.0 <= edits_max(last(name))).then_some(nearest.1)
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// What to say after the name of a key that there is not.
pub(super) fn advice(name: &str, known: &[String]) -> String {
    match nearest(name, known) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "`throughline init --stdout` prints all that there are".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_or_of_the_section_is_seen() {
        let known: Vec<String> = ["listen", "window", "window.count", "window.age_s", "drain.window_ms"]
            .map(str::to_owned)
            .to_vec();
        for (wrong, right) in [
            ("window.cuont", Some("window.count")),
            ("windows", Some("window")),
            ("count", Some("window.count")),
            ("drain.age_s", Some("window.age_s")),
            ("listn", Some("listen")),
            ("zebra_crossing", None),
        ] {
            assert_eq!(nearest(wrong, &known), right, "{wrong}");
        }
    }
}
