//! One file, many runs: every combination of a matrix's values.

use serde::{Deserialize, Serialize};

use super::node::{Fields, Node, Value, unknown};
use super::problem::Problems;

/// More runs than this are a mistake in the matrix.
const MAX_RUNS: usize = 10_000;

/// A name in the matrix and the value that a run has for it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Parameter {
    /// The name, without braces.
    pub name: String,
    /// The value, as written.
    pub value: String,
}

/// A name and all its values.
#[derive(Debug)]
struct Axis {
    name: String,
    line: usize,
    values: Vec<String>,
}

/// Takes the matrix out of a file: every combination, and the file as it reads with it. Without a
/// matrix there is one.
pub(super) fn expand(mut root: Node, problems: &mut Problems) -> Vec<(Vec<Parameter>, Node)> {
    let matrix = match &mut root.value {
        Value::Table(table) => table.remove("matrix"),
        _ => None,
    };
    let axes = matrix.map_or_else(Vec::new, |matrix| read_axes(matrix, problems));
    let count = axes
        .iter()
        .try_fold(1, |n: usize, axis| n.checked_mul(axis.values.len()));
    if count.is_none_or(|count| count > MAX_RUNS) {
        let what = format!("makes more than {MAX_RUNS} runs; use fewer values, or several files");
        problems.add(axes.first().map_or(0, |axis| axis.line), "matrix", what);
        return Vec::new();
    }
    let mut runs = vec![(Vec::new(), root)];
    for axis in &axes {
        runs = runs
            .iter()
            .flat_map(|(parameters, node)| {
                axis.values
                    .iter()
                    .map(|value| with(parameters, node, axis, value, problems))
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    for (_, node) in &runs {
        refuse_unknown(node, &axes, problems);
    }
    runs
}

fn with(
    parameters: &[Parameter],
    node: &Node,
    axis: &Axis,
    value: &str,
    problems: &mut Problems,
) -> (Vec<Parameter>, Node) {
    let mut node = node.clone();
    if !node.substitute(&axis.name, value) {
        let what = format!(
            "nothing uses it: write \"{{{}}}\" where it belongs",
            axis.name
        );
        problems.add(axis.line, format!("matrix.{}", axis.name), what);
    }
    let mut parameters = parameters.to_vec();
    parameters.push(Parameter {
        name: axis.name.clone(),
        value: value.to_owned(),
    });
    (parameters, node)
}

fn read_axes(matrix: Node, problems: &mut Problems) -> Vec<Axis> {
    // Its keys are the author's own.
    let Some(mut fields) = Fields::of(matrix, "matrix", &[], problems) else {
        return Vec::new();
    };
    let mut axes = Vec::new();
    for (name, node) in fields.take_rest() {
        let line = node.line;
        let key = format!("matrix.{name}");
        let values = match node.value {
            Value::List(items) => items
                .into_iter()
                .map(|item| match item.value {
                    Value::Text(text) => Some(text),
                    _ => None,
                })
                .collect::<Option<Vec<String>>>(),
            _ => None,
        };
        let Some(values) = values.filter(|values| !values.is_empty()) else {
            let what = "a list of values belongs here, like [\"0%\", \"10%\"]";
            problems.add(line, key, what);
            continue;
        };
        let mut sorted = values.clone();
        sorted.sort();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            problems.add(line, key, format!("\"{}\" is in it twice", twice[0]));
        }
        axes.push(Axis { name, line, values });
    }
    axes
}

/// Refuses names in braces that the matrix does not have.
fn refuse_unknown(node: &Node, axes: &[Axis], problems: &mut Problems) {
    match &node.value {
        Value::Text(text) => {
            let name = text
                .split_once('{')
                .and_then(|(_, rest)| Some(rest.split_once('}')?.0));
            if let Some(name) = name {
                let what = if axes.is_empty() {
                    format!("\"{{{name}}}\" stands for nothing: there is no [matrix]")
                } else {
                    let known = unknown(name, axes.iter().map(|axis| axis.name.as_str()));
                    format!("in [matrix], {known}")
                };
                problems.add(node.line, "", what);
            }
        }
        Value::List(items) => items
            .iter()
            .for_each(|item| refuse_unknown(item, axes, problems)),
        Value::Table(table) => table
            .values()
            .for_each(|item| refuse_unknown(item, axes, problems)),
    }
}
