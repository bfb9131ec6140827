//! "Did you mean": the known word that is most similar to a misspelt one.

/// The nearest of `known`, if it is near enough: about one slip in three letters.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The number of slips (an extra, missing or wrong letter, or two swapped) between two words: the
/// optimal string alignment distance.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // `rows[i][j]`: the distance between the first `i` letters of `a` and the first `j` of `b`.
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let wrong = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = wrong.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised() {
        let known = ["prefix", "ttl", "version", "ttl_env", "keep_corrupt"];
        for (word, meant) in [
            ("perfix", "prefix"),
            ("Prefix", "prefix"),
            ("prefx", "prefix"),
            ("tll", "ttl"),
            ("tt", "ttl"),
            ("verison", "version"),
            ("ttlenv", "ttl_env"),
            ("keepcorupt", "keep_corrupt"),
        ] {
            assert_eq!(nearest(word, known), Some(meant), "{word}");
        }
    }

    #[test]
    fn another_word_is_not() {
        for word in ["", "x", "expires", "name", "größe"] {
            assert_eq!(
                nearest(word, ["prefix", "ttl", "version", "key"]),
                None,
                "{word}"
            );
        }
    }
}
