//! The nearest of some words to one that is none of them.
//!
//! Owns: how alike two words have to be for one to be offered for the other.
//! Never: knows what the words are.
//! Holds: letter case does not count.

/// How alike two names have to be for one to be offered for the other.
const ALIKE_MIN: f64 = 0.5;

/// The candidate most like `word`, where one is alike enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            (strsim::normalized_damerau_levenshtein(&word, &candidate.to_ascii_lowercase()), candidate)
        })
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}
