"""What arrived, as a person would notice it: pictures that move, sound of a pitch.

In: RTP packets of VP8, H.264 and sound, or what a program has decoded by itself. Out: `Picture`
and `Sound`, which are JSON between processes.
"""

import array
import hashlib
import math
from dataclasses import asdict, dataclass, field

import av

from scripted import rtp

SILENCE = 0.001  # −60 dBFS
# What a test waits for, which is two seconds of both, and how long it waits.
ENOUGH_FRAMES = 60
ENOUGH_SECONDS = 2.0
PATIENCE_SECONDS = 40
ANNEX_B = b"\0\0\0\1"


@dataclass
class Picture:
    """The frames decoded: how many, how large, how many differ, and how far from one flat colour."""

    frames: int = 0
    different: int = 0
    width: int = 0
    height: int = 0
    contrast: float = 0.0
    _seen: set = field(default_factory=set, repr=False)

    def add(self, width: int, height: int, luma: bytes) -> None:
        """A frame by its plane of luma, whose lines may be padded."""
        self.frames += 1
        self.width, self.height = width, height
        self._seen.add(hashlib.blake2b(luma, digest_size=8).digest())
        self.different = len(self._seen)
        some = luma[:: max(1, len(luma) // 4000)]
        mean = sum(some) / len(some)
        self.contrast = math.sqrt(sum((value - mean) ** 2 for value in some) / len(some))

    def as_json(self) -> dict:
        return {key: value for key, value in asdict(self).items() if not key.startswith("_")}


@dataclass
class Sound:
    """The sound decoded: how long, how loud of full scale, and how high by its zero crossings."""

    seconds: float = 0.0
    audible_seconds: float = 0.0
    hertz: float = 0.0
    _rises: int = field(default=0, repr=False)
    _last: int = field(default=0, repr=False)

    def add(self, rate: int, samples: "array.array[int]") -> None:
        """Mono samples of 16 bits."""
        if not samples:
            return
        length = len(samples) / rate
        self.seconds += length
        if math.sqrt(sum(value * value for value in samples) / len(samples)) / 32768 < SILENCE:
            return
        self._rises += sum(before < 0 <= after for before, after in zip([self._last, *samples], samples, strict=False))
        self._last = samples[-1]
        self.audible_seconds += length
        self.hertz = self._rises / self.audible_seconds

    def as_json(self) -> dict:
        return {key: value for key, value in asdict(self).items() if not key.startswith("_")}


@dataclass
class Media:
    picture: Picture = field(default_factory=Picture)
    sound: Sound = field(default_factory=Sound)

    def as_json(self) -> dict:
        return {"picture": self.picture.as_json(), "sound": self.sound.as_json()}

    @staticmethod
    def from_json(value: dict) -> "Media":
        return Media(Picture(**value["picture"]), Sound(**value["sound"]))

    def is_enough(self, with_sound: bool) -> bool:
        heard = not with_sound or self.sound.audible_seconds >= ENOUGH_SECONDS
        return heard and self.picture.frames >= ENOUGH_FRAMES

    def add_frame(self, frame: av.VideoFrame | av.AudioFrame) -> None:
        if isinstance(frame, av.VideoFrame):
            self.picture.add(frame.width, frame.height, bytes(frame.reformat(format="yuv420p").planes[0]))
            return
        for mono in av.AudioResampler(format="s16", layout="mono").resample(frame):
            self.sound.add(mono.sample_rate, array.array("h", bytes(mono.planes[0])[: 2 * mono.samples]))


DECODERS = {
    "VP8": "vp8",
    "H264": "h264",
    "H265": "hevc",
    "opus": "opus",
    "PCMU": "pcm_mulaw",
    "PCMA": "pcm_alaw",
    "G722": "g722",
}
VIDEO = {"VP8", "H264", "H265"}


def decode(packets, codecs: dict[int, str]) -> Media:
    """Decodes what one viewer received; `codecs` are names by payload type, and others are left out."""
    media = Media()
    decoders: dict[str, av.CodecContext] = {}
    frames = _Frames()
    for packet in _in_order(packets):
        name = codecs.get(packet.payload_type)
        if name is None or not packet.payload:
            continue
        for encoded in frames.add(name, packet):
            if name not in decoders:
                decoders[name] = _decoder(name)
            try:
                decoded = decoders[name].decode(av.Packet(encoded))
            except av.FFmpegError:
                continue  # Not decodable: it does not count as a frame.
            for frame in decoded:
                media.add_frame(frame)
    return media


def _in_order(packets) -> list:
    """By their numbers, each once: what was sent again came late."""
    streams: dict[int, list] = {}
    for packet in packets:
        streams.setdefault(packet.ssrc, []).append(packet)
    ordered = []
    for stream in streams.values():
        numbered = dict(zip(rtp.unwrap([packet.sequence for packet in stream]), stream, strict=True))
        ordered += [numbered[number] for number in sorted(numbered)]
    return ordered


def _decoder(name: str) -> av.CodecContext:
    decoder = av.CodecContext.create(DECODERS[name], "r")
    if name in ("PCMU", "PCMA"):
        decoder.sample_rate, decoder.layout = 8000, "mono"
    elif name == "G722":
        decoder.sample_rate, decoder.layout = 16_000, "mono"
    elif name == "opus":
        decoder.sample_rate, decoder.layout = 48_000, "stereo"
    return decoder


class _Frames:
    """Puts frames together from packets that come in order. What has a hole is left out."""

    def __init__(self) -> None:
        self._parts: dict[str, bytes] = {}
        self._next: dict[str, int] = {}

    def add(self, codec: str, packet) -> list[bytes]:
        """The frames that are complete with this packet."""
        if codec not in VIDEO:
            return [packet.payload]
        if self._next.get(codec, packet.sequence) != packet.sequence:
            self._parts[codec] = b""
        self._next[codec] = (packet.sequence + 1) & 0xFFFF
        self._parts[codec] = self._parts.get(codec, b"") + DEPACKETIZERS[codec](packet.payload)
        if not packet.marker:
            return []
        return [self._parts.pop(codec)]


def vp8_payload(payload: bytes) -> bytes:
    """Without the descriptor (RFC 7741 section 4.2)."""
    at = 1
    if payload[0] & 0x80:
        extended = payload[1]
        at = 2
        if extended & 0x80:
            at += 2 if payload[at] & 0x80 else 1
        at += bool(extended & 0x40) + bool(extended & 0x30)
    return payload[at:]


def h264_units(payload: bytes) -> bytes:
    """As a stretch of Annex B: single units, STAP-A and FU-A (RFC 6184 section 5)."""
    kind = payload[0] & 31
    if kind == 24:
        return _aggregated(payload[1:])
    if kind == 28:
        begins = payload[1] & 0x80
        head = ANNEX_B + bytes([payload[0] & 0xE0 | payload[1] & 31]) if begins else b""
        return head + payload[2:]
    return ANNEX_B + payload


def h265_units(payload: bytes) -> bytes:
    """The same for H.265: single units, aggregation packets and fragments (RFC 7798 section 4.4)."""
    kind = payload[0] >> 1 & 63
    if kind == 48:
        return _aggregated(payload[2:])
    if kind == 49:
        begins = payload[2] & 0x80
        head = ANNEX_B + bytes([payload[0] & 0x81 | (payload[2] & 63) << 1, payload[1]]) if begins else b""
        return head + payload[3:]
    return ANNEX_B + payload


def _aggregated(payload: bytes) -> bytes:
    units, at = b"", 0
    while at + 2 < len(payload):
        length = int.from_bytes(payload[at : at + 2], "big")
        units += ANNEX_B + payload[at + 2 : at + 2 + length]
        at += 2 + length
    return units


DEPACKETIZERS = {"VP8": vp8_payload, "H264": h264_units, "H265": h265_units}
