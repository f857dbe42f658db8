//! What README.md shows is what is compiled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[test]
fn the_readme_shows_the_example_as_it_is() {
    let readme = include_str!("../../../README.md");
    let example = include_str!("../examples/two_devices.rs");
    let (_, shown) = readme.split_once("```rust\n").expect("a Rust example");
    let (shown, rest) = shown.split_once("```").unwrap();
    let (_, code) = example.split_once("\n\n").expect("a comment, then the code");
    assert_eq!(shown, code, "copy crates/mqtt/examples/two_devices.rs into README.md");
    assert!(!rest.contains("```rust"), "an example that nothing compiles");
}
