//! The table of a suite: one row for each scenario, and in it one line for each server.

use std::fmt::Write;

use super::{Case, badge, escape};
use crate::figures::{Better, Figure};
use crate::report::group::{Group, Verdict};

/// What a suite is judged by at a glance. Those without any value are left out.
const COLUMNS: [Figure; 12] = [
    Figure::AudioConcealed,
    Figure::AudioScore,
    Figure::VideoFrozen,
    Figure::FramesPerSecond,
    Figure::Height,
    Figure::PictureDelay,
    Figure::AudioBuffer,
    Figure::FirstFrame,
    Figure::Recovery,
    Figure::KeyFrameRequests,
    Figure::ReceivedRepair,
    Figure::SentRepair,
];

pub(super) fn write(page: &mut String, suite: &str, cases: &[&Case<'_>]) {
    let groups = || cases.iter().flat_map(|case| &case.groups);
    let columns: Vec<Figure> = COLUMNS
        .into_iter()
        .filter(|figure| groups().any(|group| group.spread(*figure).is_some()))
        .collect();
    let servers = cases.iter().any(|case| case.groups.len() > 1);
    let _ = write!(
        page,
        "<h2>{}</h2>\n<div class=\"wide\"><table class=\"suite\"><thead><tr><th>scenario</th>{}<th>must hold</th>",
        escape(if suite.is_empty() { "Scenarios" } else { suite }),
        if servers { "<th>server</th>" } else { "" },
    );
    for figure in &columns {
        let info = figure.info();
        let unit = info.unit.symbol().trim();
        let _ = write!(
            page,
            "<th class=\"n\" title=\"{}\">{}<small>{}</small></th>",
            escape(info.about),
            info.title,
            unit,
        );
    }
    page.push_str("</tr></thead>\n");
    for case in cases {
        write_case(page, case, &columns, servers);
    }
    page.push_str("</table></div>\n");
}

fn write_case(page: &mut String, case: &Case<'_>, columns: &[Figure], servers: bool) {
    page.push_str("<tbody>");
    let spreads: Vec<Vec<Option<f64>>> = case
        .groups
        .iter()
        .map(|group| {
            columns
                .iter()
                .map(|f| Some(group.spread(*f)?.median))
                .collect()
        })
        .collect();
    for (n, group) in case.groups.iter().enumerate() {
        page.push_str("<tr>");
        if n == 0 {
            let run = group.first();
            let parameters = run.parameters.iter();
            let parameters =
                parameters.map(|p| format!("<i>{}</i> {}", escape(&p.name), escape(&p.value)));
            let parameters = parameters.collect::<Vec<_>>().join(" · ");
            let _ = write!(
                page,
                "<th rowspan=\"{}\"><a href=\"#{}\">{}</a><small>{parameters}</small></th>",
                case.groups.len(),
                case.id,
                escape(&run.title),
            );
        }
        if servers {
            let _ = write!(page, "<td>{}</td>", escape(&group.first().server));
        }
        let verdicts = group.verdicts();
        let _ = write!(page, "<td>{}</td>", verdict_badge(group, &verdicts));
        for (column, figure) in columns.iter().enumerate() {
            let values = spreads.iter().map(|of_group| of_group[column]);
            let is_best = is_best(*figure, spreads[n][column], values);
            write_cell(page, *figure, spreads[n][column], &verdicts, is_best);
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody>\n");
}

/// Whether a value is the best of several that are not all the same as people see them.
fn is_best(
    figure: Figure,
    value: Option<f64>,
    values: impl Iterator<Item = Option<f64>> + Clone,
) -> bool {
    let Some(value) = value.filter(|_| figure.info().better != Better::Neither) else {
        return false;
    };
    let shown = figure.show(value);
    let mut others = values
        .flatten()
        .filter(|other| figure.show(*other) != shown);
    let worse = |other: f64| figure.worst([value, other]) == Some(other);
    others.clone().next().is_some() && others.all(worse)
}

fn write_cell(
    page: &mut String,
    figure: Figure,
    value: Option<f64>,
    verdicts: &[Verdict],
    is_best: bool,
) {
    let Some(value) = value else {
        page.push_str("<td class=\"n none\">–</td>");
        return;
    };
    let of_figure = || verdicts.iter().filter(|verdict| verdict.figure == figure);
    let is_broken = of_figure().any(|verdict| !verdict.holds);
    let limits: Vec<&str> = of_figure().map(|verdict| verdict.text.as_str()).collect();
    let shown = figure.show(value);
    let number = shown.strip_suffix(figure.info().unit.symbol());
    let _ = write!(
        page,
        "<td class=\"n{}{}\" title=\"{}\">{}</td>",
        if is_broken { " broken" } else { "" },
        if is_best { " best" } else { "" },
        escape(limits.first().copied().unwrap_or_default()),
        number.unwrap_or(&shown),
    );
}

/// How many of the expectations hold.
pub(super) fn verdict_badge(group: &Group<'_>, verdicts: &[Verdict]) -> String {
    let failures = group.failures();
    if !failures.is_empty() {
        return badge(false, "failed");
    }
    if verdicts.is_empty() {
        return "<span class=\"badge\">nothing</span>".to_owned();
    }
    let held = verdicts.iter().filter(|verdict| verdict.holds).count();
    badge(
        held == verdicts.len(),
        &format!("{held} of {}", verdicts.len()),
    )
}
