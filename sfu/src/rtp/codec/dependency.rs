//! The dependency descriptor, a header extension that says of every packet where it stands among the
//! frames and layers of its stream, whatever the codec and though the payload may be encrypted end to
//! end (RTP Payload Format For AV1, appendix A).
//!
//! In: the bytes of the extension, packet by packet. Out: [`Frame`], what a forwarder needs of it.
//! Most of what it says is said by reference to templates, which come with each key frame.

use super::bits::BitReader;
use crate::rtp::sequence::SequenceNumber;

/// Templates of a structure, by their ids (table A.1).
const MAX_TEMPLATES: usize = 64;

/// Decode targets of a structure: `dt_cnt_minus_one` has five bits.
const MAX_TARGETS: usize = 32;

/// Highest spatial and temporal layer (table A.1).
const MAX_SPATIAL_ID: u8 = 3;
const MAX_TEMPORAL_ID: u8 = 7;

/// How a frame concerns a decode target (table A.2).
mod indication {
    pub(super) const NOT_PRESENT: u8 = 0;
    pub(super) const SWITCH: u8 = 2;
}

/// What a descriptor says of its packet and the packet's frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The packet is the first of its frame, which is of one spatial layer.
    pub starts: bool,
    /// The packet is the last of its frame.
    pub ends: bool,
    /// Counts the frames.
    pub number: u16,
    /// The frame is a key frame: a structure comes with its first packet.
    pub has_structure: bool,
    /// Where it stands among the layers, when the structure it goes by is known.
    pub place: Option<Place>,
}

/// Where a frame stands among the layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The spatial layer, 0 to 3.
    pub spatial_id: u8,
    /// The temporal layer, 0 to 7.
    pub temporal_id: u8,
    /// Bit `t` is set when a receiver of this spatial layer can go up to temporal layer `t` here.
    pub opens_temporal: u8,
    /// The frame refers to no earlier picture, at most to lower spatial layers of its own, and a
    /// receiver can go up to its spatial layer here.
    pub is_independent: bool,
    /// Width and height of the largest layer, if the structure says.
    pub size: Option<(u16, u16)>,
}

/// Indications for all decode targets, two bits each, the first target lowest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Indications(u64);

impl Indications {
    fn parse(reader: &mut BitReader<'_>, targets: usize) -> Option<Self> {
        let mut all = 0;
        for target in 0..targets {
            all |= u64::from(reader.bits(2)?) << (2 * target);
        }
        Some(Indications(all))
    }

    fn of(self, target: usize) -> u8 {
        (self.0 >> (2 * target)) as u8 & 3
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Template {
    spatial_id: u8,
    temporal_id: u8,
    indications: Indications,
    /// How many frames back the farthest is that the frame refers to; 0 when it refers to none.
    reach: u16,
}

/// The templates of a coded video sequence.
#[derive(Clone, Debug)]
struct Structure {
    /// The id of the first template.
    offset: u8,
    templates: [Template; MAX_TEMPLATES],
    template_count: usize,
    /// The spatial and the temporal layer of each decode target.
    targets: [(u8, u8); MAX_TARGETS],
    target_count: usize,
    size: Option<(u16, u16)>,
}

impl Structure {
    /// `template_dependency_structure()`, section A.8.
    fn parse(reader: &mut BitReader<'_>) -> Option<Structure> {
        let offset = reader.bits(6)? as u8;
        let target_count = reader.bits(5)? as usize + 1;
        let mut structure = Structure {
            offset,
            templates: [Template::default(); MAX_TEMPLATES],
            template_count: 0,
            targets: [(0, 0); MAX_TARGETS],
            target_count,
            size: None,
        };
        structure.parse_layers(reader)?;
        let templates = structure.templates.get_mut(..structure.template_count)?;
        for template in &mut *templates {
            template.indications = Indications::parse(reader, target_count)?;
        }
        for template in &mut *templates {
            while reader.flag()? {
                template.reach = template.reach.max(reader.bits(4)? as u16 + 1);
            }
        }
        skip_chains(reader, target_count, templates.len())?;
        let highest = templates.iter().map(|t| t.spatial_id).max()?;
        if reader.flag()? {
            for _ in 0..=highest {
                let size = (reader.bits(16)?, reader.bits(16)?);
                let side = |less_one: u32| u16::try_from(less_one + 1).unwrap_or(u16::MAX);
                let size = (side(size.0), side(size.1));
                structure.size = largest(structure.size.into_iter().chain([size]));
            }
        }
        structure.find_targets();
        Some(structure)
    }

    /// `template_layers()`.
    fn parse_layers(&mut self, reader: &mut BitReader<'_>) -> Option<()> {
        let (mut spatial_id, mut temporal_id) = (0, 0);
        loop {
            let template = self.templates.get_mut(self.template_count)?;
            (template.spatial_id, template.temporal_id) = (spatial_id, temporal_id);
            self.template_count += 1;
            match reader.bits(2)? {
                0 => {}
                1 => temporal_id += 1,
                2 => (spatial_id, temporal_id) = (spatial_id + 1, 0),
                _ => return Some(()),
            }
            if spatial_id > MAX_SPATIAL_ID || temporal_id > MAX_TEMPORAL_ID {
                return None;
            }
        }
    }

    /// A target consists of the layers of all templates that are present in it.
    fn find_targets(&mut self) {
        let templates = self.templates.iter().take(self.template_count);
        for (index, target) in self.targets.iter_mut().enumerate().take(self.target_count) {
            let present = |t: &&Template| t.indications.of(index) != indication::NOT_PRESENT;
            for template in templates.clone().filter(present) {
                target.0 = target.0.max(template.spatial_id);
                target.1 = target.1.max(template.temporal_id);
            }
        }
    }

    fn template(&self, id: u8) -> Option<Template> {
        let index = usize::from(id.wrapping_sub(self.offset)) % MAX_TEMPLATES;
        let templates = self.templates.get(..self.template_count)?;
        templates.get(index).copied()
    }

    fn place(&self, template: Template) -> Place {
        let of_layer = || {
            let targets = self.targets.iter().take(self.target_count).enumerate();
            targets
                .filter(|(_, (spatial_id, _))| *spatial_id == template.spatial_id)
                .map(|(index, (_, temporal_id))| (temporal_id, template.indications.of(index)))
        };
        let opens_temporal = of_layer()
            .filter(|(_, how)| *how == indication::SWITCH)
            .fold(0, |all, (temporal_id, _)| all | 1 << temporal_id);
        // Between a frame and its picture's first are as many others as there are layers below.
        let is_within_picture = template.reach <= u16::from(template.spatial_id);
        let can_enter = |how: u8| matches!(how, indication::SWITCH | indication::NOT_PRESENT);
        Place {
            spatial_id: template.spatial_id,
            temporal_id: template.temporal_id,
            opens_temporal,
            is_independent: is_within_picture && of_layer().all(|(_, how)| can_enter(how)),
            size: self.size,
        }
    }
}

/// `template_chains()`: chains tell what was lost, for which we have other means.
fn skip_chains(reader: &mut BitReader<'_>, targets: usize, templates: usize) -> Option<()> {
    let chains = reader.below(targets as u32 + 1)?;
    if chains > 0 {
        for _ in 0..targets {
            reader.below(chains + 1)?;
        }
        for _ in 0..templates * chains as usize {
            reader.bits(4)?;
        }
    }
    Some(())
}

/// The larger of sizes.
pub(super) fn largest(sizes: impl Iterator<Item = (u16, u16)>) -> Option<(u16, u16)> {
    sizes.max_by_key(|&(width, height)| u32::from(width) * u32::from(height))
}

/// The descriptors of one stream.
#[derive(Debug, Default)]
pub struct Dependencies {
    structure: Option<Structure>,
    /// The packet the structure came with.
    since: SequenceNumber,
}

impl Dependencies {
    /// Reads the descriptor of a packet; `None` when it has fewer than 3 bytes.
    pub fn read(&mut self, sequence: SequenceNumber, descriptor: &[u8]) -> Option<Frame> {
        let (&[first, n0, n1], extended) = descriptor.split_first_chunk()?;
        let mut reader = BitReader::new(extended);
        let flags = reader.bits(5).unwrap_or_default();
        let mut frame = Frame {
            starts: first & 0x80 != 0,
            ends: first & 0x40 != 0,
            number: u16::from_be_bytes([n0, n1]),
            has_structure: flags & 0x10 != 0,
            place: None,
        };
        if frame.has_structure {
            let Some(structure) = Structure::parse(&mut reader) else {
                return Some(frame);
            };
            frame.place = read_place(&structure, first & 0x3f, flags, &mut reader);
            // A late packet of an earlier key frame does not bring back what that one said.
            if sequence >= self.since {
                self.structure = Some(structure);
                self.since = sequence;
            }
        } else if let Some(structure) = &self.structure {
            frame.place = read_place(structure, first & 0x3f, flags, &mut reader);
        }
        Some(frame)
    }
}

/// The rest of `extended_descriptor_fields()`, and `frame_dependency_definition()`.
fn read_place(
    structure: &Structure,
    template_id: u8,
    flags: u32,
    reader: &mut BitReader<'_>,
) -> Option<Place> {
    let mut template = structure.template(template_id)?;
    if flags & 0x08 != 0 {
        let _active_targets = reader.bits(structure.target_count as u32)?;
    }
    if flags & 0x04 != 0 {
        template.indications = Indications::parse(reader, structure.target_count)?;
    }
    if flags & 0x02 != 0 {
        template.reach = 0;
        loop {
            let size = reader.bits(2)?;
            if size == 0 {
                break;
            }
            template.reach = template.reach.max(reader.bits(4 * size)? as u16 + 1);
        }
    }
    Some(structure.place(template))
}

#[cfg(test)]
pub(crate) mod tests;
