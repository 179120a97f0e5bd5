//! Runs the shapes of picante's benchmarks with the Rust crates `picante` and `salsa`, and prints JSON.
//!
//! `benchmarks/rust.py` builds and runs it, adds what is known of the machine, and says what each shape is.

mod measure;
mod with_picante;
mod with_salsa;

use measure::Times;
use std::collections::BTreeMap;

/// What a library does of each shape, by name.
pub type Shapes = Vec<(&'static str, Times)>;

fn main() {
    let rounds = match std::env::args().nth(1).map(|text| text.parse()) {
        None => 50,
        Some(Ok(rounds)) if rounds > 0 => rounds,
        _ => {
            eprintln!("usage: picante-peers [ROUNDS]");
            std::process::exit(2);
        }
    };
    // A chain of queries is a recursion: its depth needs more stack than a program begins with.
    let measuring = std::thread::Builder::new().stack_size(1 << 30).spawn(move || measured(rounds));
    print!("{}", measuring.expect("a thread").join().expect("no panic"));
}

fn measured(rounds: usize) -> String {
    let mut shapes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (library, found) in
        [("picante", with_picante::shapes(rounds)), ("salsa", with_salsa::shapes(rounds))]
    {
        for (shape, times) in found {
            shapes.entry(shape).or_default().push(format!("      \"{library}\": {}", times.json()));
        }
    }
    let shapes: Vec<_> = shapes
        .iter()
        .map(|(shape, libraries)| format!("    \"{shape}\": {{\n{}\n    }}", libraries.join(",\n")))
        .collect();
    format!("{{\n  \"shapes\": {{\n{}\n  }}\n}}\n", shapes.join(",\n"))
}
