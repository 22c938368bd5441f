//! Names near one that does not exist.

/// How many names are suggested.
const MOST: usize = 4;

/// The names nearest to `name`, nearest first, if any is near.
pub(super) fn near<T: AsRef<str>>(name: &str, known: impl IntoIterator<Item = T>) -> Vec<String> {
    let wanted = name.to_lowercase();
    // A third of the letters may be wrong. Longer names than any event has cost time and are like none.
    let letters = wanted.chars().count();
    let worst = letters.div_ceil(3);
    if wanted.len() > 256 {
        return Vec::new();
    }
    let mut found: Vec<_> = known
        .into_iter()
        .filter_map(|known| {
            let known = known.as_ref();
            let lower = known.to_lowercase();
            // It is no less than the difference of the lengths; symbols of programs are many, and can be long.
            let least = lower.chars().count().abs_diff(letters);
            let distance = match if least > worst { least } else { distance(&wanted, &lower) } {
                // A word of it that was left out or added.
                far if far > worst && wanted.len() >= 4 && lower.contains(&wanted) => worst,
                near => near,
            };
            (distance <= worst).then(|| (distance, known.to_owned()))
        })
        .collect();
    found.sort();
    found.dedup();
    found.into_iter().map(|(_, name)| name).take(MOST).collect()
}

/// What the end of an error's message says of them.
pub(super) fn question(suggestions: &[String]) -> String {
    match suggestions {
        [] => String::new(),
        _ => format!("; did you mean {}?", suggestions.join(" or ")),
    }
}

/// Insertions, deletions, replacements, and swaps of neighbours that make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<_> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, apart) in [("", "", 0), ("", "abc", 3), ("abc", "acb", 1), ("kitten", "sitting", 3), ("ä", "a", 1)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (apart, apart), "{a} {b}");
        }
    }

    #[test]
    fn only_near_ones_nearest_first() {
        let known = ["page-faults", "page-faults-min", "cpu-clock", "dummy"];
        assert_eq!(near("page-fautls", known), ["page-faults"]);
        assert_eq!(near("page-faults-mn", known), ["page-faults-min", "page-faults"]);
        assert_eq!(near("clock", known), ["cpu-clock"]);
        assert_eq!(near("xyzzy", known), [""; 0]);
        assert_eq!(near("", known), [""; 0]);
        assert_eq!(near(&"x".repeat(1 << 20), known), [""; 0]);
        // Each of these would take seconds to compare letter by letter.
        assert_eq!(near(&"x".repeat(256), vec!["y".repeat(1 << 20); 64]), [""; 0]);
        assert_eq!(question(&near("dumy", known)), "; did you mean dummy?");
    }
}
