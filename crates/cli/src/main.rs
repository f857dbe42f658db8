//! The `pqc-iiot` command.

fn main() {}
