//! ProVerif over `models/*.pv`, each query's result against the one its file expects.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Workspace;
use crate::run::{command, output};

const INSTALL: &str = "apt-get install opam && opam init --auto-setup && opam install proverif";

/// What ProVerif says of a query. Of an event's reachability, "false" means that it is reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    True,
    False,
    /// Neither proved nor refuted.
    Unproved,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::True => "true",
            Self::False => "false",
            Self::Unproved => "cannot be proved",
        })
    }
}

/// `(* EXPECT true PART *)` before a query: its result, and a part of the line that ProVerif prints about it.
#[derive(Debug, PartialEq, Eq)]
struct Expectation {
    outcome: Outcome,
    part: String,
}

/// Runs every model and prints a table; an error if any query differs from what its file expects.
pub(crate) fn run(workspace: &Workspace, allow_missing: bool) -> Result<(), String> {
    let files = files(&workspace.root.join("models"), "pv")?;
    let mut expected = Vec::new();
    for file in &files {
        let source = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        expected.push(expectations(&source).map_err(|e| format!("{}: {e}", file.display()))?);
    }
    if !is_installed() {
        let message = format!("no ProVerif here, so no model was run; install it with\n  {INSTALL}");
        if !allow_missing {
            return Err(message);
        }
        println!("{message}");
        return Ok(());
    }

    println!("{:<22} {:<9} {:<16}  query", "model", "expected", "result");
    let mut differences = 0;
    for (file, expected) in files.iter().zip(&expected) {
        let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let results = results(&output(command("proverif", "").arg(file))?);
        for row in compare(expected, &results) {
            differences += usize::from(!row.agrees);
            let mark = if row.agrees { "" } else { "  <== DIFFERS" };
            println!("{name:<22} {:<9} {:<16}  {}{mark}", row.expected, row.result, row.query);
        }
    }
    let queries: usize = expected.iter().map(Vec::len).sum();
    println!("{queries} queries in {} models, {differences} differences", files.len());
    if differences == 0 { Ok(()) } else { Err(format!("{differences} results are not the expected ones")) }
}

/// The models in one tool's language, by name.
pub(crate) fn files(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    if files.is_empty() { Err(format!("no model in {}", directory.display())) } else { Ok(files) }
}

/// ProVerif has no option that only tells its version: asked for help, it exits with 0 and names itself.
fn is_installed() -> bool {
    command("proverif", "--help").output().is_ok()
}

/// What a model's file expects of its queries, in their order: there must be one expectation before each.
fn expectations(source: &str) -> Result<Vec<Expectation>, String> {
    let mut found = Vec::new();
    let mut waiting = false;
    for (number, line) in source.lines().enumerate() {
        let at = |what: &str| format!("line {}: {what}", number + 1);
        if let Some(text) = line.strip_prefix("(* EXPECT ") {
            let text = text.strip_suffix(" *)").ok_or_else(|| at("an expectation is one line"))?;
            let (word, part) = text.split_once(' ').ok_or_else(|| at("EXPECT needs a result and a part"))?;
            let outcome = match word {
                "true" => Outcome::True,
                "false" => Outcome::False,
                _ => return Err(at("EXPECT needs `true` or `false`")),
            };
            if std::mem::replace(&mut waiting, true) {
                return Err(at("an expectation without a query before it"));
            }
            found.push(Expectation { outcome, part: part.to_owned() });
        } else if line.starts_with("query ") && !std::mem::replace(&mut waiting, false) {
            return Err(at("a query without an expectation"));
        }
    }
    if waiting || found.is_empty() {
        Err("no query after the last expectation".to_owned())
    } else {
        Ok(found)
    }
}

/// The queries and results in ProVerif's output, in its order. Remarks on a result, "(even event …)" and "(but event …)",
/// are no results.
fn results(output: &str) -> Vec<(String, Outcome)> {
    let lines = output.lines().filter_map(|line| line.strip_prefix("RESULT "));
    lines.filter(|line| !line.starts_with('(')).filter_map(result).collect()
}

fn result(line: &str) -> Option<(String, Outcome)> {
    let line = line.trim_end();
    let endings = [
        (" is true.", Outcome::True),
        (" is false.", Outcome::False),
        (" cannot be proved.", Outcome::Unproved),
    ];
    endings.into_iter().find_map(|(ending, outcome)| Some((line.strip_suffix(ending)?.to_owned(), outcome)))
}

struct Row {
    query: String,
    expected: String,
    result: String,
    agrees: bool,
}

/// One row for each expectation and one for each result that none speaks of.
fn compare(expected: &[Expectation], results: &[(String, Outcome)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for index in 0..expected.len().max(results.len()) {
        let (expected, result) = (expected.get(index), results.get(index));
        let agrees = expected.zip(result).is_some_and(|(expected, (query, outcome))| {
            expected.outcome == *outcome && query.contains(&expected.part)
        });
        let query = match (expected, result) {
            // Not the query that was meant: show both.
            (Some(expected), Some((query, _))) if !query.contains(&expected.part) => {
                format!("{query} (expected one with {})", expected.part)
            }
            (_, Some((query, _))) => query.clone(),
            (Some(expected), None) => expected.part.clone(),
            (None, None) => String::new(),
        };
        rows.push(Row {
            query,
            expected: expected.map_or("-".to_owned(), |expected| expected.outcome.to_string()),
            result: result.map_or("none".to_owned(), |(_, outcome)| outcome.to_string()),
            agrees,
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    const OUTPUT: &str = "\
Linear part: No equation.
-- Query not attacker_p1(secretI[]) in process 1.
Completing...
Starting query not attacker_p1(secretI[])
RESULT not attacker_p1(secretI[]) is true.
-- Query inj-event(Done(i,k)) ==> inj-event(Answers(i,k)) in process 1.
A trace has been found.
RESULT inj-event(Done(i,k)) ==> inj-event(Answers(i,k)) is false.
RESULT (even event(Done(i,k)) ==> event(Answers(i,k)) is false.)
RESULT event(Opens(s)) ==> event(Seals(s)) cannot be proved.

--------------------------------------------------------------
Verification summary:

Query not attacker_p1(secretI[]) is true.

Query inj-event(Done(i,k)) ==> inj-event(Answers(i,k)) is false.

Query event(Opens(s)) ==> event(Seals(s)) cannot be proved.

--------------------------------------------------------------
";

    const SOURCE: &str = "\
(* What it means. *)
(* EXPECT true secretI *)
query attacker(secretI) phase 1.
(* EXPECT false inj-event(Done( *)
query i: bitstring, k: key;
  inj-event(Done(i, k)) ==> inj-event(Answers(i, k)).
";

    fn agreeing(expected: &[Expectation], results: &[(String, Outcome)]) -> Vec<bool> {
        compare(expected, results).iter().map(|row| row.agrees).collect()
    }

    #[test]
    fn results_are_read_once_each_and_without_remarks() {
        let read = results(OUTPUT);
        let outcomes: Vec<Outcome> = read.iter().map(|(_, outcome)| *outcome).collect();
        assert_eq!(outcomes, [Outcome::True, Outcome::False, Outcome::Unproved]);
        assert_eq!(read[0].0, "not attacker_p1(secretI[])");
        assert_eq!(results("Error: syntax error.\n"), []);
    }

    #[test]
    fn expectations_stand_before_their_queries() {
        let read = expectations(SOURCE).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1], Expectation { outcome: Outcome::False, part: "inj-event(Done(".to_owned() });

        let without = SOURCE.replacen("(* EXPECT true secretI *)\n", "", 1);
        assert_eq!(expectations(&without), Err("line 2: a query without an expectation".to_owned()));
        let misspelt = SOURCE.replace("EXPECT true", "EXPECT yes");
        assert_eq!(expectations(&misspelt), Err("line 2: EXPECT needs `true` or `false`".to_owned()));
        let orphaned = SOURCE.replace("query attacker(secretI) phase 1.\n", "");
        assert_eq!(
            expectations(&orphaned),
            Err("line 3: an expectation without a query before it".to_owned())
        );
        assert!(expectations("process 0\n").is_err());
    }

    #[test]
    fn every_difference_is_one() {
        let expected = expectations(SOURCE).unwrap();
        let all = results(OUTPUT);
        assert_eq!(agreeing(&expected, &all[..2]), [true, true]);
        // A result that nobody expects, one that is missing, another outcome, another query.
        assert_eq!(agreeing(&expected, &all), [true, true, false]);
        assert_eq!(agreeing(&expected, &all[..1]), [true, false]);
        let proved: Vec<_> = all[..2].iter().map(|(query, _)| (query.clone(), Outcome::True)).collect();
        assert_eq!(agreeing(&expected, &proved), [true, false]);
        let swapped = [all[1].clone(), all[0].clone()];
        assert_eq!(agreeing(&expected, &swapped), [false, false]);
    }

    /// Without ProVerif, too, the files are held to their form.
    #[test]
    fn every_query_of_every_model_has_an_expectation() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("models");
        for file in files(&directory, "pv").unwrap() {
            let source = fs::read_to_string(&file).unwrap();
            let expected = expectations(&source).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            assert!(source.contains("Last run: "), "{} does not say when it was run", file.display());
            println!("{}: {} queries", file.display(), expected.len());
        }
    }
}
