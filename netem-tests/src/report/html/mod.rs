//! The report as one page that needs nothing else: styles, plots and script are in it.

mod details;
mod plot;
mod table;

use std::fmt::Write;

use super::group::{Group, Verdict, groups};
use super::results::Results;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// How many scenarios are shown unfolded; where there are more, the table leads to them.
const UNFOLDED: usize = 4;

/// One scenario with one combination of parameters, on every server that it was run on.
struct Case<'a> {
    /// Where the table leads to.
    id: String,
    /// At least one, each of another server.
    groups: Vec<Group<'a>>,
}

/// The page.
#[must_use]
pub fn write_html(results: &Results) -> String {
    let cases = cases(results);
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Calls over impaired networks</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n"
    );
    write_head(&mut page, results, &cases);
    let mut suites: Vec<&str> = Vec::new();
    for case in &cases {
        let suite = suite(case);
        if !suites.contains(&suite) {
            suites.push(suite);
        }
    }
    for name in suites {
        let of_suite: Vec<&Case<'_>> = cases.iter().filter(|case| suite(case) == name).collect();
        table::write(&mut page, name, &of_suite);
    }
    page.push_str("<h2>Scenario by scenario</h2>\n");
    let is_open = cases.len() <= UNFOLDED;
    for case in &cases {
        details::write(&mut page, case, is_open);
    }
    let _ = write!(page, "</main>\n<script>\n{SCRIPT}</script></body></html>\n");
    page
}

fn cases(results: &Results) -> Vec<Case<'_>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    for group in groups(results) {
        let name = group.first().full_name();
        let same = |case: &&mut Case<'_>| {
            case.groups
                .first()
                .is_some_and(|group| group.first().full_name() == name)
        };
        match cases.iter_mut().find(same) {
            Some(case) => case.groups.push(group),
            None => cases.push(Case {
                id: format!("case-{}", cases.len() + 1),
                groups: vec![group],
            }),
        }
    }
    cases
}

/// The part of the name before the slash.
fn suite<'a>(case: &Case<'a>) -> &'a str {
    let run = case.groups[0].first();
    run.scenario.split_once('/').map_or("", |(suite, _)| suite)
}

fn write_head(page: &mut String, results: &Results, cases: &[Case<'_>]) {
    let mut servers: Vec<&str> = results.runs.iter().map(|run| run.server.as_str()).collect();
    servers.sort_unstable();
    servers.dedup();
    page.push_str("<header><h1>Calls over impaired networks</h1>\n<dl class=\"context\">");
    for (key, value) in &results.context {
        let (key, value) = (escape(key), escape(value));
        let _ = write!(page, "<dt>{key}</dt><dd>{value}</dd>");
    }
    page.push_str("</dl>\n<div class=\"tiles\">");
    let mut tile = |class: &str, value: &str, about: &str| {
        let _ = write!(
            page,
            "<div class=\"tile {class}\"><b>{value}</b><span>{about}</span></div>"
        );
    };
    tile("", &cases.len().to_string(), "scenarios");
    tile("", &results.runs.len().to_string(), "calls");
    for server in servers {
        let groups = || cases.iter().flat_map(|case| &case.groups);
        let groups = || groups().filter(|group| group.first().server == server);
        let verdicts: Vec<Verdict> = groups().flat_map(Group::verdicts).collect();
        let held = verdicts.iter().filter(|verdict| verdict.holds).count();
        let class = match verdicts.len() {
            0 => "",
            all if all == held => "good",
            _ => "bad",
        };
        let about = format!("expectations hold on {}", escape(server));
        tile(class, &format!("{held} of {}", verdicts.len()), &about);
        let failures: usize = groups().map(|group| group.failures().len()).sum();
        if failures > 0 {
            let about = format!("clients failed on {}", escape(server));
            tile("bad", &failures.to_string(), &about);
        }
    }
    page.push_str(
        "</div></header>\n<p class=\"note\">A scenario's figures are those of whoever has it worst \
         in the call; of several seeds, the median. Limits hold for everyone they name.</p>\n",
    );
}

/// Text that is safe anywhere in the page.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A verdict as a mark and a word.
fn badge(passed: bool, text: &str) -> String {
    let (class, mark) = if passed {
        ("good", "✓")
    } else {
        ("bad", "✗")
    };
    format!("<span class=\"badge {class}\">{mark} {text}</span>")
}
