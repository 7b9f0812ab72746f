//! Embeds spec/, schemas/ and docs/reasons/ in the binary, so that `check spec` and `explain` need
//! no files.
//!
//! Owns: the list of what is embedded, made from what is in the tree.
//! Never: fetches or runs anything.
//! Holds: the list is in order of path, so the same tree gives the same binary.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the crate's directory"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names the output directory"));
    let mut list = String::from("&[\n");
    for (folder, endings) in [
        ("docs/reasons", &["md"][..]),
        ("schemas", &["json"][..]),
        ("spec", &["yaml", "toml", "md", "json"][..]),
    ] {
        println!("cargo:rerun-if-changed={folder}");
        for name in names(&root.join(folder), endings) {
            let path = format!("{folder}/{name}");
            println!("cargo:rerun-if-changed={path}");
            let _ = writeln!(
                list,
                "    ({path:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {:?}))),",
                format!("/{path}")
            );
        }
    }
    list.push_str("]\n");
    fs::write(out.join("embedded.rs"), list).expect("cargo's output directory can be written");
}

/// The files of a folder with one of those endings, sorted; none where there is no such folder.
fn names(folder: &Path, endings: &[&str]) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending)))
        .collect();
    names.sort_unstable();
    names
}
