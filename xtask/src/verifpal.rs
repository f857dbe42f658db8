//! Verifpal over `models/*.vp`: each case of a model, with what is stolen in it, against the results that its line expects.

use std::fs;

use crate::Workspace;
use crate::models::files;
use crate::run::{command, output};

const INSTALL: &str = "cargo install verifpal --version 1.6.7 --locked";
/// Where a case's thefts stand in its model.
const EARLY: &str = "\n// EARLY\n";
const LATER: &str = "\n// LATER\n";

/// `// CASE attacker [sessions]; EARLY; LATER; results; what that says`.
#[derive(Debug, PartialEq, Eq)]
struct Case {
    attacker: String,
    /// How often each principal plays its role, at once.
    sessions: u8,
    early: String,
    later: String,
    /// A letter for each query's kind, and 1 if an attack was found.
    expected: String,
    says: String,
}

/// Runs every case and prints a table; an error if any result differs from the expected one.
pub(crate) fn run(workspace: &Workspace, allow_missing: bool) -> Result<(), String> {
    let mut models = Vec::new();
    for file in files(&workspace.root.join("models"), "vp")? {
        let source = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let cases = cases(&source).map_err(|e| format!("{}: {e}", file.display()))?;
        models.push((file, source, cases));
    }
    if command("verifpal", "--version").output().is_err() {
        let message = format!("no Verifpal here, so no model of its was run; install it with\n  {INSTALL}");
        if !allow_missing {
            return Err(message);
        }
        println!("{message}");
        return Ok(());
    }
    let directory = workspace.target.join("models");
    fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    println!("{:<16} {:<13} {:<13}  case", "model", "expected", "result");
    let mut differences = 0;
    for (file, source, cases) in &models {
        let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let instance = directory.join(&*name);
        for case in cases {
            fs::write(&instance, case.of(source)).map_err(|e| format!("{}: {e}", instance.display()))?;
            let arguments = format!("verify --result-code --quiet --sessions {}", case.sessions);
            let printed = output(command("verifpal", &arguments).arg(&instance))?;
            let result = printed.lines().last().unwrap_or_default().trim();
            differences += usize::from(result != case.expected);
            let mark = if result == case.expected { "" } else { "  <== DIFFERS" };
            println!("{name:<16} {:<13} {result:<13}  {}{mark}", case.expected, case.says);
        }
    }
    if differences == 0 { Ok(()) } else { Err(format!("{differences} results are not the expected ones")) }
}

impl Case {
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(5, ';').map(|part| part.trim().to_owned());
        let (attacker, early, later) = (parts.next()?, parts.next()?, parts.next()?);
        let (expected, says) = (parts.next()?, parts.next()?);
        let mut words = attacker.split(' ');
        let attacker = words.next().filter(|word| ["active", "passive"].contains(word))?.to_owned();
        let sessions = words.next().map_or(Some(2), |count| count.parse().ok())?;
        let case = Self { attacker, sessions, early, later, expected, says };
        let well_formed = words.next().is_none() && !case.expected.is_empty() && !case.says.is_empty();
        well_formed.then_some(case)
    }

    /// The model of this case.
    fn of(&self, source: &str) -> String {
        let attacker = format!("attacker[{}]", self.attacker);
        let stolen = |what: &str| format!("\n{what}\n");
        let source = source.replace("attacker[active]", &attacker).replace("attacker[passive]", &attacker);
        source.replace(EARLY, &stolen(&self.early)).replace(LATER, &stolen(&self.later))
    }
}

fn cases(source: &str) -> Result<Vec<Case>, String> {
    for marker in [EARLY, LATER] {
        if source.matches(marker).count() != 1 {
            return Err(format!("needs one line `{}`", marker.trim()));
        }
    }
    let mut found = Vec::new();
    for (number, line) in source.lines().enumerate() {
        if let Some(line) = line.strip_prefix("// CASE ") {
            let case = Case::parse(line).ok_or_else(|| format!("line {}: no case", number + 1))?;
            let queries = source.lines().filter(|line| line.trim_end().contains("? ")).count();
            if case.expected.len() != 2 * queries {
                return Err(format!("line {}: not one result for each query", number + 1));
            }
            found.push(case);
        }
    }
    if found.is_empty() { Err("no case".to_owned()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::path::Path;

    use super::*;

    const SOURCE: &str = "\
// CASE active; ; principal A[leaks k]; c0a0; later
// CASE passive 1; principal A[leaks k]; ; c1a0; early

attacker[active]

// EARLY

phase[1]

// LATER

queries[
\tconfidentiality? m
\tauthentication? A -> B: e
]
";

    #[test]
    fn a_case_is_its_model_with_what_is_stolen() {
        let cases = cases(SOURCE).unwrap();
        assert_eq!((cases.len(), cases[0].sessions, cases[1].sessions), (2, 2, 1));
        let early = cases[1].of(SOURCE);
        assert!(early.contains("attacker[passive]\n\nprincipal A[leaks k]\n\nphase[1]"));
        let later = cases[0].of(SOURCE);
        assert!(
            later.contains("attacker[active]")
                && later.contains("phase[1]\n\nprincipal A[leaks k]\n\nqueries")
        );
    }

    #[test]
    fn what_is_no_case_is_said() {
        assert_eq!(cases(&SOURCE.replace("active; ;", "lazy; ;")), Err("line 1: no case".to_owned()));
        let fewer = cases(&SOURCE.replace("c1a0", "c1"));
        assert_eq!(fewer, Err("line 2: not one result for each query".to_owned()));
        assert!(cases(&SOURCE.replace("// EARLY", "")).is_err());
        assert!(cases(&SOURCE.replace("// CASE ", "// ")).is_err());
    }

    /// Without Verifpal, too, the files are held to their form.
    #[test]
    fn every_model_has_cases() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("models");
        for file in files(&directory, "vp").unwrap() {
            let source = fs::read_to_string(&file).unwrap();
            let cases = cases(&source).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            println!("{}: {} cases", file.display(), cases.len());
        }
    }
}
