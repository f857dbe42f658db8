//! Models of what has to survive crashes, explored exhaustively: every order of steps, every crash between two of them.
//!
//! A model is no test of the code. It says why the code's steps have their order, and the planted mutants show that the
//! model would notice another one. `docs/crash-testing.md` says which model speaks of which module.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "models/block_ratchet.rs"]
mod block_ratchet;
#[path = "models/epoch_switch.rs"]
mod epoch_switch;
#[path = "models/inbox.rs"]
mod inbox;
#[path = "models/receipts.rs"]
mod receipts;
#[path = "models/replay_floor.rs"]
mod replay_floor;
#[path = "models/reservation.rs"]
mod reservation;
#[path = "models/session_inbox.rs"]
mod session_inbox;
#[path = "models/session_replacement.rs"]
mod session_replacement;

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, Model};

/// How many steps a counterexample may take.
const DEEPEST: usize = 20;

/// Explores the whole model and demands that every property holds.
fn holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let checker = model.checker().spawn_bfs().join();
    println!("{name}: {} states, {} distinct", checker.state_count(), checker.unique_state_count());
    assert!(checker.unique_state_count() > 50, "{name} explored next to nothing");
    checker.assert_properties();
}

/// Explores a mutant, ever deeper, and demands a counterexample to this property: it prints the shortest.
fn breaks<M>(name: &str, property: &'static str, model: M)
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    for depth in 1..=DEEPEST {
        let checker = model.clone().checker().target_max_depth(depth).spawn_bfs().join();
        if let Some(path) = checker.discovery(property) {
            println!("mutant {name} breaks '{property}': {:?}", path.into_actions());
            return;
        }
    }
    panic!("the mutant {name} went unnoticed: {property}");
}
