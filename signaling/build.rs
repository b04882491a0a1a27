//! Builds the crate anew when a file of the embedded page comes or goes.

fn main() {
    for folder in ["../client-demo/web", "../client-demo/sdk"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
