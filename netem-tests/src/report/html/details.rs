//! One scenario: who was in it, what had to hold, what each had of each other, and the plots.

use std::fmt::Write;

use super::plot::{self, Line, Panel};
use super::table::verdict_badge;
use super::{Case, badge, escape};
use crate::figures::{Figure, Scope, Series};
use crate::report::group::{Group, Verdict};
use crate::report::results::RunResult;

/// More streams than this are shown as the range that they span, and left out of the table.
const MAX_STREAMS: usize = 8;

/// Clients beyond this are only counted.
const MAX_CLIENTS: usize = 12;

/// The plots, from cause to effect: a figure, or the two directions of one.
const PANELS: [(&str, &[Figure]); 13] = [
    (
        "Loss on the link",
        &[Figure::UplinkLoss, Figure::DownlinkLoss],
    ),
    (
        "On the link",
        &[Figure::UplinkBitrate, Figure::DownlinkBitrate],
    ),
    (
        "Queueing delay",
        &[Figure::UplinkQueueMax, Figure::DownlinkQueueMax],
    ),
    ("Beside the call", &[Figure::Throughput]),
    ("Estimate of the downlink", &[Figure::DownlinkEstimate]),
    ("Round trip", &[Figure::RoundTrip]),
    ("Video received", &[Figure::VideoBitrate]),
    ("Height of the picture", &[Figure::Height]),
    ("Frames a second", &[Figure::FramesPerSecond]),
    ("Picture frozen", &[Figure::VideoFrozen]),
    ("Picture delay", &[Figure::PictureDelay]),
    ("Audio concealed", &[Figure::AudioConcealed]),
    ("Audio buffer", &[Figure::AudioBuffer]),
];

pub(super) fn write(page: &mut String, case: &Case<'_>, is_open: bool) {
    let run = case.groups[0].first();
    let _ = write!(
        page,
        "<details id=\"{}\"{}><summary><b>{}</b> <span class=\"name\">{}</span>",
        case.id,
        if is_open { " open" } else { "" },
        escape(&run.title),
        escape(&run.full_name()),
    );
    for group in &case.groups {
        let verdicts = group.verdicts();
        let _ = write!(
            page,
            " <span class=\"server\">{}</span> {}",
            escape(&group.first().server),
            verdict_badge(group, &verdicts),
        );
    }
    page.push_str("</summary>\n");
    if !run.about.is_empty() {
        let _ = writeln!(page, "<p>{}</p>", escape(&run.about));
    }
    write_participants(page, run);
    for group in &case.groups {
        write_verdicts(page, group, case.groups.len() > 1);
    }
    write_streams(page, case);
    write_plots(page, case);
    page.push_str("</details>\n");
}

fn write_participants(page: &mut String, run: &RunResult) {
    page.push_str(
        "<div class=\"wide\"><table class=\"small\"><thead><tr><th>client</th><th></th><th>uplink</th><th>downlink</th><th>way taken</th></tr></thead><tbody>",
    );
    for client in run.participants.iter().take(MAX_CLIENTS) {
        let network = &client.network;
        let behind: Vec<String> = [
            network
                .nat
                .as_ref()
                .map(|nat| format!("behind a {nat} NAT")),
            network
                .firewall
                .as_ref()
                .map(|wall| format!("firewall {wall}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut paths = client.paths.iter();
        let first = paths.next().map(|(_, path)| path.clone());
        let then = paths.map(|(at, path)| format!("{path} from {at:.0} s"));
        let paths: Vec<String> = first.into_iter().chain(then).collect();
        let _ = write!(
            page,
            "<tr><th>{}</th><td>{} {}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&client.name),
            escape(&client.client),
            escape(&behind.join(", ")),
            escape(&network.uplink),
            escape(&network.downlink),
            escape(&paths.join(", ")),
        );
    }
    page.push_str("</tbody></table></div>\n");
    let more = run.participants.len().saturating_sub(MAX_CLIENTS);
    if more > 0 {
        let _ = writeln!(page, "<p class=\"note\">and {more} more.</p>");
    }
}

fn write_verdicts(page: &mut String, group: &Group<'_>, names_server: bool) {
    let verdicts = group.verdicts();
    if verdicts.is_empty() && group.failures().is_empty() {
        return;
    }
    page.push_str("<ul class=\"verdicts\">");
    if names_server {
        let _ = write!(page, "<li><b>{}</b></li>", escape(&group.first().server));
    }
    for why in group.failures() {
        let _ = write!(page, "<li>{}</li>", badge(false, &escape(&why)));
    }
    let mut texts: Vec<&str> = verdicts
        .iter()
        .map(|verdict| verdict.text.as_str())
        .collect();
    texts.dedup();
    for text in texts {
        let of_text: Vec<&Verdict> = verdicts.iter().filter(|v| v.text == text).collect();
        write_verdict(page, text, &of_text);
    }
    page.push_str("</ul>\n");
}

/// One limit and everyone it holds for: who has it worst, and how many are within it.
fn write_verdict(page: &mut String, text: &str, verdicts: &[&Verdict]) {
    let values = verdicts.iter().filter_map(|verdict| verdict.value);
    let figure = verdicts.first().map(|verdict| verdict.figure);
    let worst = figure.and_then(|figure| figure.worst(values));
    // Who has no value at all is worse off than anybody.
    let silent = verdicts.iter().find(|verdict| verdict.value.is_none());
    let Some(shown) = silent.or_else(|| verdicts.iter().find(|v| v.value == worst)) else {
        return;
    };
    let value = match shown.value {
        Some(value) => shown.figure.show(value),
        None => "no value".to_owned(),
    };
    let held = verdicts.iter().filter(|verdict| verdict.holds).count();
    let _ = write!(
        page,
        "<li>{} <b>{value}</b> at {}",
        badge(held == verdicts.len(), &escape(text)),
        escape(&shown.who),
    );
    if verdicts.len() > 1 {
        let _ = write!(
            page,
            "<small>, the worst; {held} of {} hold</small>",
            verdicts.len()
        );
    }
    page.push_str("</li>");
}

fn write_streams(page: &mut String, case: &Case<'_>) {
    let run = case.groups[0].first();
    if run.streams.is_empty() || run.streams.len() > MAX_STREAMS {
        return;
    }
    let lines: Vec<(String, &Group<'_>, &str, &str)> = run
        .streams
        .iter()
        .flat_map(|stream| {
            case.groups.iter().map(|group| {
                let who = format!("{} ← {}", stream.receiver, stream.sender);
                (who, group, stream.receiver.as_str(), stream.sender.as_str())
            })
        })
        .collect();
    page.push_str("<div class=\"wide\"><table class=\"small\"><thead><tr><th></th>");
    let servers = case.groups.len() > 1;
    for (who, group, ..) in &lines {
        let server = if servers { &group.first().server } else { "" };
        let _ = write!(
            page,
            "<th class=\"n\">{}<small>{}</small></th>",
            escape(who),
            escape(server)
        );
    }
    page.push_str("</tr></thead><tbody>");
    for figure in Figure::ALL
        .iter()
        .filter(|f| f.info().scope != Scope::Client)
    {
        let values: Vec<Option<f64>> = lines
            .iter()
            .map(|(_, group, receiver, sender)| group.of_stream(receiver, sender, *figure))
            .collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let info = figure.info();
        let _ = write!(
            page,
            "<tr><th title=\"{}\">{}</th>",
            escape(info.about),
            info.title
        );
        for value in values {
            let shown = value.map_or_else(|| "–".to_owned(), |value| figure.show(value));
            let _ = write!(page, "<td class=\"n\">{shown}</td>");
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>\n");
}

fn write_plots(page: &mut String, case: &Case<'_>) {
    let run = case.groups[0].first();
    let is_many = run.streams.len() > MAX_STREAMS;
    page.push_str("<div class=\"plots\">\n<p class=\"legend\">");
    if is_many {
        page.push_str("<span><i class=\"dot c0\"></i>the median, and dashed the range of all</span><span><i class=\"dot c1\"></i>downlinks</span>");
    } else {
        for (n, client) in run.participants.iter().enumerate() {
            let _ = write!(
                page,
                "<span><i class=\"dot c{n}\"></i>{}</span>",
                escape(&client.name)
            );
        }
        page.push_str("<span class=\"quiet\">by who receives; links: — up, ┄ down</span>");
    }
    page.push_str("</p>\n");
    plot::write_events(page, run);
    let servers: Vec<&str> = case
        .groups
        .iter()
        .map(|g| g.first().server.as_str())
        .collect();
    if servers.len() > 1 {
        let _ = write!(page, "<div class=\"row\" style=\"--n:{}\">", servers.len());
        for server in &servers {
            let _ = write!(page, "<h4>{}</h4>", escape(server));
        }
        page.push_str("</div>\n");
    }
    for (title, figures) in PANELS {
        let panels: Vec<Panel<'_>> = case
            .groups
            .iter()
            .map(|group| Panel {
                title,
                unit: figures[0].info().unit,
                run: group.first(),
                lines: lines(group.first(), figures),
            })
            .collect();
        plot::write_row(page, &panels);
    }
    page.push_str("</div>\n");
}

/// The lines of some figures, one for each client or stream; of many, the three that span them.
fn lines(run: &RunResult, figures: &[Figure]) -> Vec<Line> {
    let is_many = run.streams.len() > MAX_STREAMS;
    let mut lines = Vec::new();
    for (direction, figure) in figures.iter().enumerate() {
        let mut of_figure = Vec::new();
        let mut add = |label: String, color: usize, dash: usize, series: &Series| {
            if let Some(values) = series.values.get(figure) {
                let points = series.t.iter().copied().zip(values.iter().copied());
                of_figure.push(Line {
                    label,
                    color,
                    dash,
                    points: points.collect(),
                });
            }
        };
        let place = |name: &str| run.participants.iter().position(|p| p.name == name);
        if figure.info().scope == Scope::Client {
            for (n, client) in run.participants.iter().enumerate() {
                let arrow = ["↑", "↓"].get(direction).filter(|_| figures.len() > 1);
                let label = format!("{} {}", client.name, arrow.unwrap_or(&""));
                add(label.clone(), n, direction, &client.series);
                add(label, n, direction, &client.link);
            }
        } else {
            let mut senders = vec![0; run.participants.len()];
            for stream in &run.streams {
                let color = place(&stream.receiver).unwrap_or(0);
                let dash = senders.get(color).copied().unwrap_or(0);
                let label = format!("{} ← {}", stream.receiver, stream.sender);
                add(label, color, dash, &stream.series);
                if let Some(count) = senders.get_mut(color) {
                    *count += 1;
                }
            }
        }
        lines.extend(if is_many {
            plot::span(&of_figure, direction)
        } else {
            of_figure
        });
    }
    lines
}
