//! Who is in the call, behind what.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use super::link_change::{LinkChange, parse_flag};
use super::node::{Fields, unknown};
use super::problem::Problems;
use super::reference::LINK;
use crate::lab::{Firewall, Nat};
use crate::link::Impairment;
use crate::units::{parse_duration, parse_rate};

/// More clients than this in one entry are a typing error.
const MAX_COUNT: u32 = 1000;

/// The sides of a picture, in pixels, that a camera may have.
const SIDES: std::ops::RangeInclusive<u32> = 16..=8192;

/// One client of a call.
#[derive(Clone, PartialEq, Debug)]
pub struct Participant {
    /// Its name in the call.
    pub name: String,
    /// What it is.
    pub client: Client,
    /// Whether it sends its voice.
    pub audio: bool,
    /// The size of the picture that it sends, if it sends one.
    pub video: Option<Size>,
    /// Whether it sends that in several sizes; as its client does by default if nothing is said.
    pub simulcast: Option<bool>,
    /// What its picture takes, bits a second, if it matters. Of browsers, only simulated ones obey.
    pub video_bitrate: Option<u64>,
    /// Whom it lives with: it has no network of its own, but shares this one's.
    pub behind: Option<String>,
    /// Of iperf3: the way it fills.
    pub direction: Direction,
    /// Of browsers: how it reaches the relay that all of its media has to go through.
    pub relay: Option<Relay>,
    /// When it joins, from the beginning of the call.
    pub joins: Duration,
    /// The address translation it is behind.
    pub nat: Nat,
    /// What is let out at the beginning.
    pub firewall: Firewall,
    /// Its link to the server at the beginning.
    pub uplink: Impairment,
    /// Its link from the server at the beginning.
    pub downlink: Impairment,
}

impl Participant {
    /// Whose network it uses: its own, or that of the one it lives with.
    #[must_use]
    pub fn network(&self) -> &str {
        self.behind.as_deref().unwrap_or(&self.name)
    }
}

/// Width and height of a picture in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Pixels in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
}

impl Default for Size {
    fn default() -> Self {
        Size {
            width: 640,
            height: 360,
        }
    }
}

/// What is in the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    /// Chromium with a camera and a microphone that are files.
    Browser,
    /// confab-bot.
    Bot,
    /// A download or upload over TCP Cubic by iperf3. It is not in the call, only on its links.
    Iperf3,
}

/// How a browser reaches a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relay {
    /// By datagrams.
    Udp,
    /// By a connection.
    Tcp,
    /// By a connection that looks like HTTPS.
    Tls,
}

/// One of the two ways of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    /// From the client.
    Up,
    /// To the client.
    #[default]
    Down,
}

/// Where a scenario is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// In virtual time, with simulated clients.
    Virtual,
    /// In real time, with real clients in network namespaces.
    Real,
}

impl Client {
    /// Whether it is in the call, not only on its links.
    #[must_use]
    pub fn is_in_call(self) -> bool {
        match self {
            Client::Browser | Client::Bot => true,
            Client::Iperf3 => false,
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Client::Browser => "browser",
            Client::Bot => "bot",
            Client::Iperf3 => "iperf3",
        })
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Up => "up",
            Direction::Down => "down",
        })
    }
}

impl fmt::Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Relay::Udp => "udp",
            Relay::Tcp => "tcp",
            Relay::Tls => "tls",
        })
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Virtual => "virtual",
            Tier::Real => "real",
        })
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Tier::parse(text)
    }
}

/// What is a word in a scenario file: the one it is shown as.
pub(super) trait Word: Copy + fmt::Display + 'static {
    const ALL: &'static [Self];

    /// The value of a word.
    fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<String> = Self::ALL.iter().map(Self::to_string).collect();
        let found = words.iter().position(|word| word == text);
        found
            .and_then(|index| Self::ALL.get(index).copied())
            .ok_or_else(|| unknown(text, words.iter().map(String::as_str)))
    }
}

impl Word for Client {
    const ALL: &'static [Self] = &[Client::Browser, Client::Bot, Client::Iperf3];
}

impl Word for Direction {
    const ALL: &'static [Self] = &[Direction::Up, Direction::Down];
}

impl Word for Relay {
    const ALL: &'static [Self] = &[Relay::Udp, Relay::Tcp, Relay::Tls];
}

impl Word for Tier {
    const ALL: &'static [Self] = &[Tier::Virtual, Tier::Real];
}

impl Word for Nat {
    const ALL: &'static [Self] = &[
        Nat::None,
        Nat::FullCone,
        Nat::AddressRestricted,
        Nat::PortRestricted,
        Nat::Symmetric,
    ];
}

impl Word for Firewall {
    const ALL: &'static [Self] = &[
        Firewall::None,
        Firewall::NoUdp,
        Firewall::Tcp443Only,
        Firewall::PoorUdp,
    ];
}

/// The names in a scenario, entry by entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    entries: Vec<Entry>,
}

/// What others in a scenario need to know of an entry.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    /// One, or as many as its `count` says.
    clients: Vec<String>,
    joins: Duration,
    /// They share another's network.
    is_behind: bool,
}

impl Names {
    /// The clients of this name, of an entry or of one client.
    pub(super) fn clients(&self, name: &str) -> Result<Vec<String>, String> {
        let clients = || self.entries.iter().flat_map(|entry| &entry.clients);
        if let Some(entry) = self.entries.iter().find(|entry| entry.name == name) {
            return Ok(entry.clients.clone());
        }
        if let Some(client) = clients().find(|client| *client == name) {
            return Ok(vec![client.clone()]);
        }
        let entries = self.entries.iter().map(|entry| entry.name.as_str());
        let what = unknown(name, entries.chain(clients().map(String::as_str)));
        Err(format!("in the call, {what}"))
    }

    /// Whether a client shares another's network.
    pub(super) fn is_behind(&self, client: &str) -> bool {
        self.entry_of(client).is_some_and(|entry| entry.is_behind)
    }

    fn entry_of(&self, client: &str) -> Option<&Entry> {
        let is_in = |entry: &&Entry| entry.clients.iter().any(|name| name == client);
        self.entries.iter().find(is_in)
    }

    /// Everyone who has a network.
    pub(super) fn networks(&self) -> Vec<String> {
        let mut all = self.everyone();
        all.retain(|name| !self.is_behind(name));
        all
    }

    pub(super) fn everyone(&self) -> Vec<String> {
        let clients = self.entries.iter().flat_map(|entry| &entry.clients);
        clients.cloned().collect()
    }
}

/// Reads one `[[participant]]`: as many clients as its `count` says.
pub(super) fn read(
    mut fields: Fields,
    beside: &Path,
    duration: Duration,
    names: &mut Names,
    problems: &mut Problems,
) -> Vec<Participant> {
    let name_line = fields.line_of("name");
    let name = fields.need("name", problems, parse_name);
    let client = fields.need("client", problems, Client::parse);
    let (audio, video) = read_publish(&mut fields, problems);
    let (audio, video) = match client {
        Some(client) if !client.is_in_call() => (false, None),
        _ => (audio, video),
    };
    let simulcast_line = fields.line_of("simulcast");
    let simulcast = fields.parse("simulcast", problems, parse_flag);
    if simulcast == Some(true) && client != Some(Client::Browser) {
        let what = "only browsers can: bots send what is in a file";
        problems.add(simulcast_line, fields.key("simulcast"), what);
    }
    let video_bitrate = fields.parse("video_bitrate", problems, parse_rate);
    let direction_line = fields.line_of("direction");
    let direction = fields.parse("direction", problems, Direction::parse);
    if direction.is_some() && client != Some(Client::Iperf3) {
        let what = "only iperf3 has one: the others are in a call";
        problems.add(direction_line, fields.key("direction"), what);
    }
    let relay_line = fields.line_of("relay");
    let relay = fields.parse("relay", problems, Relay::parse);
    if relay.is_some() && client != Some(Client::Browser) {
        let what = "only browsers know the way to one";
        problems.add(relay_line, fields.key("relay"), what);
    }
    let joins_line = fields.line_of("joins");
    let joins = fields.parse("joins", problems, parse_duration);
    let joins = joins.unwrap_or_default();
    if joins >= duration {
        let what = "nobody joins after the end of the call";
        problems.add(joins_line, fields.key("joins"), what);
    }
    let behind = read_behind(&mut fields, joins, names, problems);
    let count_line = fields.line_of("count");
    let count = fields.parse("count", problems, |text| {
        let count = text.parse().ok().filter(|n| (1..=MAX_COUNT).contains(n));
        count.ok_or_else(|| format!("\"{text}\" is not a number from 1 to {MAX_COUNT}"))
    });
    if count.is_some() && client.is_some_and(|client| client != Client::Bot) {
        let what =
            "only bots come in numbers: write each of the others down, or use client = \"bot\"";
        problems.add(count_line, fields.key("count"), what);
    }
    let nat = fields.parse("nat", problems, Nat::parse);
    let firewall = fields.parse("firewall", problems, Firewall::parse);
    let (uplink, downlink) = read_links(&mut fields, beside, problems);
    let mut state = |name: &str, line: usize, change: &LinkChange| {
        change.apply(&Impairment::default()).unwrap_or_else(|what| {
            problems.add(line, fields.key(name), what);
            Impairment::default()
        })
    };
    let uplink = state("uplink", fields.line, &uplink);
    let downlink = state("downlink", fields.line, &downlink);
    fields.finish(problems);
    let Some(name) = name else {
        return Vec::new();
    };
    let clients = match count {
        Some(count) => (1..=count).map(|n| format!("{name}-{n}")).collect(),
        None => vec![name.clone()],
    };
    let taken = |name: &String| names.clients(name).is_ok();
    if let Some(twice) = [&name].into_iter().chain(&clients).find(|name| taken(name)) {
        let what = format!("there is a \"{twice}\" in the call already");
        problems.add(name_line, "participant.name", what);
    }
    names.entries.push(Entry {
        name,
        clients: clients.clone(),
        joins,
        is_behind: behind.is_some(),
    });
    // Its name is known all the same, so that nothing else is blamed for using it.
    let Some(client) = client else {
        return Vec::new();
    };
    clients
        .into_iter()
        .map(|name| Participant {
            name,
            client,
            audio,
            video,
            simulcast,
            video_bitrate,
            behind: behind.clone(),
            direction: direction.unwrap_or_default(),
            relay,
            joins,
            nat: nat.unwrap_or(Nat::None),
            firewall: firewall.unwrap_or(Firewall::None),
            uplink: uplink.clone(),
            downlink: downlink.clone(),
        })
        .collect()
}

/// Whom it lives with: someone who is written before it, joins no later and has a network.
fn read_behind(
    fields: &mut Fields,
    joins: Duration,
    names: &Names,
    problems: &mut Problems,
) -> Option<String> {
    const OWN: [&str; 5] = ["link", "uplink", "downlink", "nat", "firewall"];
    let line = fields.line_of("behind");
    let own = OWN.into_iter().find(|key| fields.has(key));
    let behind = fields.parse("behind", problems, |text| {
        match names.clients(text)?.as_slice() {
            [one] if !names.is_behind(one) => Ok(one.clone()),
            _ => Err(format!("\"{text}\" has no network of its own to share")),
        }
    });
    if let (Some(own), Some(behind)) = (own, &behind) {
        let what = format!("its network is that of {behind}: take {own} away, or write it there");
        problems.add(line, fields.key("behind"), what);
    }
    let home = behind.as_ref().and_then(|behind| names.entry_of(behind));
    if home.is_some_and(|home| home.joins > joins) {
        let what = "joins before the one it lives with";
        problems.add(line, fields.key("behind"), what);
    }
    behind
}

/// `link`, `uplink` and `downlink` of a table: what they say together, upward first.
pub(super) fn read_links(
    fields: &mut Fields,
    beside: &Path,
    problems: &mut Problems,
) -> (LinkChange, LinkChange) {
    let both = fields.table("link", LINK, problems);
    let (up, down) = both.map_or_else(Default::default, |both| {
        LinkChange::read_both(both, beside, problems)
    });
    let mut one = |name| {
        let fields = fields.table(name, LINK, problems);
        fields.map_or_else(LinkChange::default, |fields| {
            LinkChange::read(fields, beside, problems)
        })
    };
    let (uplink, downlink) = (one("uplink"), one("downlink"));
    (up.overridden_by(&uplink), down.overridden_by(&downlink))
}

fn read_publish(fields: &mut Fields, problems: &mut Problems) -> (bool, Option<Size>) {
    let size = fields.parse("video", problems, |text| {
        let (width, height) = text.split_once('x').unwrap_or((text, ""));
        let side = |text: &str| text.parse().ok().filter(|side| SIDES.contains(side));
        match (side(width), side(height)) {
            (Some(width), Some(height)) => Ok(Size { width, height }),
            _ => Err(format!("\"{text}\" is not a size, like 640x360")),
        }
    });
    let video = Some(size.unwrap_or_default());
    let Some(kinds) = fields.texts("publish", problems) else {
        return (true, video);
    };
    for (line, kind) in &kinds {
        if kind != "audio" && kind != "video" {
            problems.add(
                *line,
                fields.key("publish"),
                unknown(kind, ["audio", "video"].into_iter()),
            );
        }
    }
    let has = |wanted: &str| kinds.iter().any(|(_, kind)| kind == wanted);
    (has("audio"), video.filter(|_| has("video")))
}

fn parse_name(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "\"{text}\" is no name: small letters, digits and -, and a letter first"
        ))
    }
}
