//! A TOML file as a tree in which every value knows its line, and the typed access to it.
//!
//! In: the file's text, and the values that stand for `{name}` in it. Out: what the caller asks for
//! by key; what is missing or wrong becomes a problem that names line and key, and reading goes on.
//!
//! Numbers and truth values are read as text, as are the strings that a parameter may have given:
//! `50` for a time is refused by the parser of times, which knows best what is missing.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problems;
use super::reference::Key;

/// How alike two keys must be, 0 to 1 (Jaro–Winkler), for one to be suggested for the other.
const LIKENESS: f64 = 0.75;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

/// The tree of a file, or nothing and a problem.
pub(super) fn parse(text: &str, problems: &mut Problems) -> Option<Node> {
    let line_of = |offset: usize| {
        let before = text.get(..offset).unwrap_or(text);
        before.matches('\n').count() + 1
    };
    match DeTable::parse(text) {
        Ok(table) => {
            let line = 0;
            let value = table_value(table.get_ref(), &line_of);
            Some(Node { line, value })
        }
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(span.start));
            problems.add(line, "", error.message().trim().replace('\n', " "));
            None
        }
    }
}

fn table_value(table: &DeTable<'_>, line_of: &impl Fn(usize) -> usize) -> Value {
    let entries = table.iter().map(|(key, value)| {
        let mut node = node(value, line_of);
        // A table's own place is its header; a value is found where its key stands.
        if !matches!(node.value, Value::List(_)) {
            node.line = line_of(key.span().start);
        }
        (key.get_ref().to_string(), node)
    });
    Value::Table(entries.collect())
}

fn node(value: &Spanned<DeValue<'_>>, line_of: &impl Fn(usize) -> usize) -> Node {
    let line = line_of(value.span().start);
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Text(number.to_string()),
        DeValue::Float(number) => Value::Text(number.to_string()),
        DeValue::Boolean(flag) => Value::Text(flag.to_string()),
        DeValue::Datetime(when) => Value::Text(when.to_string()),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| node(item, line_of)).collect())
        }
        DeValue::Table(table) => table_value(table, line_of),
    };
    Node { line, value }
}

impl Node {
    /// Puts a parameter's value wherever its `{name}` stands in this tree; whether it did.
    pub(super) fn substitute(&mut self, name: &str, value: &str) -> bool {
        match &mut self.value {
            Value::Text(text) => {
                let place = format!("{{{name}}}");
                let is_there = text.contains(&place);
                if is_there {
                    *text = text.replace(&place, value);
                }
                is_there
            }
            Value::List(items) => items
                .iter_mut()
                .fold(false, |any, item| item.substitute(name, value) | any),
            Value::Table(table) => table
                .values_mut()
                .fold(false, |any, item| item.substitute(name, value) | any),
        }
    }
}

/// The keys of one table, taken out one after the other. What is left at the end is unknown.
#[derive(Debug)]
pub(super) struct Fields {
    /// The way here, with dots; empty at the top.
    path: String,
    /// Where the table begins.
    pub(super) line: usize,
    table: BTreeMap<String, Node>,
    keys: &'static [Key],
}

impl Fields {
    /// The keys of this node, of which the reference knows these.
    pub(super) fn of(
        node: Node,
        path: &str,
        keys: &'static [Key],
        problems: &mut Problems,
    ) -> Option<Self> {
        let Value::Table(table) = node.value else {
            let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
            let what = format!("a table belongs here, with {}", names.join(", "));
            problems.add(node.line, path, what);
            return None;
        };
        Some(Fields {
            path: path.to_owned(),
            line: node.line,
            table,
            keys,
        })
    }

    /// The whole way to a key of this table.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// A key's value, if it is there.
    pub(super) fn take(&mut self, name: &str) -> Option<Node> {
        debug_assert!(
            self.keys.iter().any(|key| key.name == name),
            "{name} is not in the reference"
        );
        self.table.remove(name)
    }

    /// Whether the key is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// The line of a key that is there, or else of the table.
    pub(super) fn line_of(&self, name: &str) -> usize {
        self.table.get(name).map_or(self.line, |node| node.line)
    }

    /// A key's value as its parser understands it; nothing if it is absent or, with a problem, wrong.
    pub(super) fn parse<T>(
        &mut self,
        name: &str,
        problems: &mut Problems,
        parser: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.take(name)?;
        let Value::Text(text) = &node.value else {
            problems.add(
                node.line,
                self.key(name),
                "one value belongs here, not a list or a table",
            );
            return None;
        };
        match parser(text) {
            Ok(value) => Some(value),
            Err(what) => {
                problems.add(node.line, self.key(name), what);
                None
            }
        }
    }

    /// As [`Fields::parse`], of a key that must be there.
    pub(super) fn need<T>(
        &mut self,
        name: &str,
        problems: &mut Problems,
        parser: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(name) {
            let how = self.keys.iter().find(|key| key.name == name);
            let how = how.map_or("", |key| key.value);
            problems.add(
                self.line,
                self.key(name),
                format!("is missing; it is written as {how}"),
            );
            return None;
        }
        self.parse(name, problems, parser)
    }

    /// A table below this one.
    pub(super) fn table(
        &mut self,
        name: &str,
        keys: &'static [Key],
        problems: &mut Problems,
    ) -> Option<Fields> {
        let node = self.take(name)?;
        Fields::of(node, &self.key(name), keys, problems)
    }

    /// The tables of a list, `[[name]]`.
    pub(super) fn tables(
        &mut self,
        name: &str,
        keys: &'static [Key],
        problems: &mut Problems,
    ) -> Vec<Fields> {
        let Some(node) = self.take(name) else {
            return Vec::new();
        };
        let Value::List(items) = node.value else {
            problems.add(
                node.line,
                self.key(name),
                format!("there can be several: write [[{name}]]"),
            );
            return Vec::new();
        };
        let path = self.key(name);
        items
            .into_iter()
            .filter_map(|item| Fields::of(item, &path, keys, problems))
            .collect()
    }

    /// The texts of a list.
    pub(super) fn texts(
        &mut self,
        name: &str,
        problems: &mut Problems,
    ) -> Option<Vec<(usize, String)>> {
        let node = self.take(name)?;
        let line = node.line;
        let texts = match node.value {
            Value::List(items) => items
                .into_iter()
                .map(|item| match item.value {
                    Value::Text(text) => Some((item.line, text)),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        if texts.is_none() {
            problems.add(
                line,
                self.key(name),
                "a list belongs here, like [\"a\", \"b\"]",
            );
        }
        texts
    }

    /// Takes what is left, whatever it is called, in the order of the lines.
    pub(super) fn take_rest(&mut self) -> Vec<(String, Node)> {
        let mut rest: Vec<_> = std::mem::take(&mut self.table).into_iter().collect();
        rest.sort_by_key(|(_, node)| node.line);
        rest
    }

    /// Refuses the keys that nothing asked for.
    pub(super) fn finish(mut self, problems: &mut Problems) {
        for (name, node) in self.take_rest() {
            let known = self.keys.iter().map(|key| key.name);
            problems.add(node.line, self.key(&name), unknown(&name, known));
        }
    }
}

/// A sentence about a name that nothing has, with the one that may have been meant.
pub(super) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let likeness = |known: &str| strsim::jaro_winkler(name, known);
    let nearest = known
        .clone()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|nearest| likeness(nearest) >= LIKENESS);
    match nearest {
        Some(nearest) => format!("there is no \"{name}\": did you mean \"{nearest}\"?"),
        None => {
            let known: Vec<&str> = known.collect();
            format!("there is no \"{name}\", only {}", known.join(", "))
        }
    }
}
