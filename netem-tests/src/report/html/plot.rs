//! Plots over time as SVG, all of a scenario on one axis, with its events across them.

use std::fmt::Write;

use super::escape;
use crate::figures::{Unit, median};
use crate::report::results::RunResult;

/// Size of a plot, and of the room for the numbers left of it, in the units of its SVG. The width is
/// that of all plots in a row, so that letters are of one size.
const WIDTH: f64 = 1180.0;
const HEIGHT: f64 = 84.0;
const LEFT: f64 = 52.0;
const BELOW: f64 = 16.0;

/// Room above a plot for the numbers of the events.
const ABOVE: f64 = 12.0;

/// Room for a number on the axis of time.
const NUMBER: f64 = 70.0;

/// Where the values end above and below, so that no line is cut in half.
const MARGIN: f64 = 3.0;

/// Kinds of dashes in the style sheet; further lines have the last.
const DASHES: usize = 4;

/// Colours in the style sheet; further clients have the last.
const COLORS: usize = 8;

/// One line of a plot.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) color: usize,
    pub(super) dash: usize,
    /// Seconds, and the value if there is one.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

pub(super) struct Panel<'a> {
    pub(super) title: &'static str,
    pub(super) unit: Unit,
    pub(super) run: &'a RunResult,
    pub(super) lines: Vec<Line>,
}

/// The events of a run as a list; the plots have their numbers.
pub(super) fn write_events(page: &mut String, run: &RunResult) {
    if run.marks.is_empty() {
        return;
    }
    page.push_str("<ol class=\"events\">");
    for mark in &run.marks {
        let until = mark.until.map(|until| format!("–{until:.0}"));
        let _ = write!(
            page,
            "<li><b>{:.0}{} s</b> {}</li>",
            mark.at,
            until.unwrap_or_default(),
            escape(&mark.text),
        );
    }
    page.push_str("</ol>\n");
}

/// The same plot of several servers beside each other, on the same scale; nothing if there is
/// nothing to be seen on any.
pub(super) fn write_row(page: &mut String, panels: &[Panel<'_>]) {
    let values = panels
        .iter()
        .flat_map(|panel| &panel.lines)
        .flat_map(|line| line.points.iter().filter_map(|(_, value)| *value));
    let Some(most) = values.reduce(f64::max) else {
        return;
    };
    let Some(unit) = panels.first().map(|panel| panel.unit) else {
        return;
    };
    let top = scale(unit, most);
    let _ = write!(page, "<div class=\"row\" style=\"--n:{}\">", panels.len());
    for panel in panels {
        write_panel(page, panel, top, (WIDTH / panels.len() as f64).round());
    }
    page.push_str("</div>\n");
}

fn write_panel(page: &mut String, panel: &Panel<'_>, top: f64, width: f64) {
    let duration = panel.run.duration.max(1.0);
    let x = |t: f64| LEFT + (t / duration).clamp(0.0, 1.0) * (width - LEFT);
    let y = |value: f64| {
        let part = (value / top).clamp(0.0, 1.0);
        MARGIN + (1.0 - part) * (HEIGHT - 2.0 * MARGIN)
    };
    let _ = write!(
        page,
        "<figure><figcaption>{} <small>{}</small><span class=\"readout\"></span></figcaption>\
         <svg viewBox=\"0 -{ABOVE} {width} {}\" role=\"img\" aria-label=\"{}\" data-left=\"{LEFT}\" data-duration=\"{duration}\">",
        panel.title,
        panel.unit.symbol().trim(),
        ABOVE + HEIGHT + BELOW,
        panel.title,
    );
    for (n, mark) in panel.run.marks.iter().enumerate() {
        let (from, to) = (x(mark.at), x(mark.until.unwrap_or(mark.at)));
        let _ = write!(
            page,
            "<rect class=\"event\" x=\"{from:.1}\" y=\"-{ABOVE}\" width=\"{:.1}\" height=\"{}\"/>\
             <text class=\"event\" x=\"{:.1}\" y=\"-3\">{}</text>",
            (to - from).max(1.0),
            ABOVE + HEIGHT,
            from + 4.0,
            n + 1,
        );
    }
    for part in [0.0, 0.5, 1.0] {
        let (line, value) = (y(top * part), top * part);
        let digits = usize::from(value.fract() != 0.0);
        let _ = write!(
            page,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{width}\" y1=\"{line:.1}\" y2=\"{line:.1}\"/>\
             <text class=\"y\" x=\"{}\" y=\"{:.1}\">{value:.digits$}</text>",
            LEFT - 6.0,
            line.clamp(8.0, HEIGHT - 2.0) + 3.0,
        );
    }
    let step = time_step(duration, width);
    let ticks = (0..).map(|n| f64::from(n) * step);
    for t in ticks.take_while(|t| *t <= duration) {
        let anchor = if t + step > duration && t + step / 4.0 > duration {
            "end"
        } else {
            "middle"
        };
        let unit = if t == 0.0 { " s" } else { "" };
        let _ = write!(
            page,
            "<text class=\"x\" x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{t}{unit}</text>",
            x(t),
            HEIGHT + 12.0,
        );
    }
    for line in &panel.lines {
        write_line(page, line, &x, &y);
    }
    let _ = write!(
        page,
        "<line class=\"cursor\" y1=\"0\" y2=\"{HEIGHT}\"/></svg></figure>"
    );
}

fn write_line(page: &mut String, line: &Line, x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) {
    let mut path = String::new();
    let mut data = String::new();
    let mut is_drawing = false;
    for (t, value) in &line.points {
        if let Some(value) = value {
            let command = if is_drawing { 'L' } else { 'M' };
            let _ = write!(path, "{command}{:.1} {:.1}", x(*t), y(*value));
            let _ = write!(data, "{t:.1},{} ", short(*value));
        }
        is_drawing = value.is_some();
    }
    let _ = write!(
        page,
        "<path class=\"c{} d{}\" d=\"{path}\" data-label=\"{}\" data-points=\"{}\"/>",
        line.color.min(COLORS - 1),
        line.dash.min(DASHES - 1),
        escape(&line.label),
        data.trim_end(),
    );
}

/// One of some values.
type Choose = fn(Vec<f64>) -> Option<f64>;

/// The least, the median and the largest of many lines, point by point, in one colour.
pub(super) fn span(lines: &[Line], color: usize) -> Vec<Line> {
    // Clients are sampled at about the same times, once a second.
    let Some(longest) = lines.iter().max_by_key(|line| line.points.len()) else {
        return Vec::new();
    };
    let at = |n: usize, choose: Choose| {
        let values = lines.iter().filter_map(|line| line.points.get(n)?.1);
        choose(values.collect())
    };
    let least = |values: Vec<f64>| values.into_iter().reduce(f64::min);
    let most = |values: Vec<f64>| values.into_iter().reduce(f64::max);
    let kinds: [(&str, usize, Choose); 3] = [
        ("median", 0, median),
        ("least", 1, least),
        ("most", 1, most),
    ];
    kinds
        .into_iter()
        .map(|(label, dash, choose)| Line {
            label: label.to_owned(),
            color,
            dash,
            points: longest
                .points
                .iter()
                .enumerate()
                .map(|(n, (t, _))| (*t, at(n, choose)))
                .collect(),
        })
        .collect()
}

/// The top of a scale that ends in a number people like, and is never so fine that noise fills it.
fn scale(unit: Unit, most: f64) -> f64 {
    let least = match unit {
        Unit::Percent => 4.0,
        Unit::PerSecond => 30.0,
        Unit::Milliseconds => 20.0,
        _ => 1.0,
    };
    let most = most.max(least);
    let power = 10f64.powf(most.log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let top = steps
        .into_iter()
        .map(|step| step * power)
        .find(|top| *top >= most);
    top.unwrap_or(most)
}

/// Between two numbers on the axis of time, seconds.
fn time_step(duration: f64, width: f64) -> f64 {
    let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
    let step = steps
        .into_iter()
        .find(|step| duration / step * NUMBER <= width);
    step.unwrap_or(3600.0)
}

/// As few digits as say it.
fn short(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        ((value * 10.0).round() / 10.0).to_string()
    }
}
