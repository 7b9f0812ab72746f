//! The specification inside the binary.
//!
//! Owns: the texts of spec/, schemas/ and docs/reasons/ as they were when this release was built.
//! Never: reads a file.
//! Holds: every such file of the tree is here (a test compares them).

/// (path, text), in order of path.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The specification: spec/ and schemas/.
pub fn specification() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().copied().filter(|(path, _)| !path.starts_with("docs/"))
}

/// The page of a reason code.
pub fn page(code: &str) -> Option<(&'static str, &'static str)> {
    let wanted = format!("docs/reasons/{code}.md");
    FILES.iter().copied().find(|(path, _)| *path == wanted)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    #[test]
    fn every_file_of_the_tree_is_here() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeSet::new();
        for folder in ["spec", "schemas", "docs/reasons"] {
            let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
            for entry in entries {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let text = std::fs::read_to_string(root.join(folder).join(&name)).unwrap();
                found.insert((format!("{folder}/{name}"), text));
            }
        }
        let here = FILES.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        assert!(found.len() >= 2 && found == here);
    }
}
