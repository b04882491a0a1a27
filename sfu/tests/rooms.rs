//! The rooms of `sfu/src` stand on floors: each imports only from those below it.
//!
//! Read from the source, so that a room that moves, or an import that points upwards, fails here with the
//! two files that it is between. Tests may look anywhere.

#![allow(clippy::unwrap_used, reason = "a test ends where it is wrong")]

use std::fs;
use std::path::{Path, PathBuf};

/// From top to bottom: a packet comes in at the top and walks down.
const ROOMS: [&str; 20] = [
    "sfu",
    "net",
    "worker",
    "control",
    "peer",
    "subscribe",
    "send",
    "srtp",
    "publish",
    "bandwidth",
    "negotiated",
    "rtp",
    "api",
    "config",
    "media",
    "clock",
    "path",
    "types",
    "units",
    "lib",
];

/// An import of one room from another.
#[derive(Debug)]
struct Import {
    from: PathBuf,
    room: String,
    imported: String,
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file but those of tests.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if ["tests", "testing"].contains(&name.as_str()) {
            continue;
        }
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// What is compiled into the library: no comments, no tests.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let body = text.split("\nmod tests {").next().unwrap();
    let lines = body.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The names of the modules that a file is in, itself included.
fn modules(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(source()).unwrap().with_extension("");
    let names = inside.iter().map(|name| name.to_str().unwrap().to_owned());
    names.filter(|name| name != "mod").collect()
}

/// The paths that a file names, from the root of the crate.
fn paths(file: &Path, code: &str) -> Vec<String> {
    let own = modules(file);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c| is_word(c) || c == ':' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        assert!(
            !rest.starts_with('{'),
            "{}: write one `use crate::…` for each room",
            file.display()
        );
        let end = rest.find(|c| !is_word(c) && c != ':').unwrap_or(rest.len());
        found.push(rest[..end].to_owned());
    }
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with(|c| is_word(c) || c == ':') {
            continue;
        }
        let chain = &code[at..];
        let ups = chain
            .split("::")
            .take_while(|part| *part == "super")
            .count();
        // Modules within a file go up less far.
        if ups == own.len() {
            let rest = &chain[ups * "super::".len()..];
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            found.push(rest[..end].to_owned());
        }
    }
    found
}

fn imports() -> Vec<Import> {
    let mut all = Vec::new();
    files(&source(), &mut all);
    let mut found = Vec::new();
    for file in all {
        let room = modules(&file)[0].clone();
        if room == "lib" {
            continue;
        }
        for imported in paths(&file, &code(&file)) {
            if imported.split("::").next() != Some(&room) {
                found.push(Import {
                    from: file.clone(),
                    room: room.clone(),
                    imported,
                });
            }
        }
    }
    found
}

/// The file that has a module, or the folder.
fn home(path: &str) -> PathBuf {
    let mut file = source();
    for name in path.split("::") {
        let next = file.join(name);
        if next.is_dir() || next.with_extension("rs").is_file() {
            file = next;
        }
    }
    match file.is_dir() {
        true => file.join("mod.rs"),
        false => file.with_extension("rs"),
    }
}

#[test]
fn no_room_imports_from_a_higher_floor() {
    let floor = |room: &str| {
        let floor = ROOMS.iter().position(|known| *known == room);
        floor.unwrap_or_else(|| panic!("say in {} on which floor {room} is", file!()))
    };
    let imports = imports();
    assert!(imports.len() > 200, "the imports are not found any more");
    let mut wrong = Vec::new();
    for import in imports {
        let Import {
            from,
            room,
            imported,
        } = import;
        let other = imported.split("::").next().unwrap();
        if floor(other) <= floor(&room) {
            wrong.push(format!(
                "{} imports crate::{imported} of {}: {room} is below {other}",
                from.display(),
                home(&imported).display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_floor_is_there() {
    for room in ROOMS {
        let place = source().join(room);
        assert!(
            place.is_dir() || place.with_extension("rs").is_file(),
            "{room} is gone: take it out of {}",
            file!()
        );
    }
}
