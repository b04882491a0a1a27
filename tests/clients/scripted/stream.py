"""Streams of numbered packets, with payloads that are valid as far as an SFU reads them."""

import random
import struct

from . import rtp
from .sdp import AUDIO_CODECS, CODECS, EXTENSIONS, VIDEO_CODECS

FRAMES_PER_SECOND = 30
OPUS_SAMPLES = 960  # 20 ms
# Opus, CELT only, full band, 20 ms, mono: the table of contents byte (RFC 6716 section 3.1).
OPUS_TOC = 0xF8


class Stream:
    """One SSRC of a peer. Numbers begin anywhere, as RFC 3550 section 5.1 wants."""

    def __init__(self, peer, codec: str, ssrc: int, mid: str | None = None, transport_wide: bool = False) -> None:
        """With a `mid`, every packet carries it; without one, only the SSRC says whose it is."""
        self.peer = peer
        self.ssrc = ssrc
        self.sent = 0
        self.sequence = random.randrange(1000, 30_000)
        self.timestamp = random.getrandbits(31)
        self._codec = CODECS[codec]
        self._mid = mid
        self._transport_wide = transport_wide
        self._picture = 100
        self._base_layer = 0

    def packet(self, payload: bytes, marker: bool = False, payload_type: int | None = None) -> None:
        """Sends one packet at the present timestamp."""
        extensions = {}
        if self._mid is not None:
            extensions[EXTENSIONS["mid"].number] = self._mid.encode()
        if self._transport_wide:
            sequence = self.peer.next_transport_sequence()
            extensions[EXTENSIONS["transport-wide"].number] = struct.pack("!H", sequence)
        number = self._codec.payload_type if payload_type is None else payload_type
        self.peer.send(rtp.build(number, self.sequence, self.timestamp, self.ssrc, payload, marker, extensions))
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.sent += 1

    def sound(self, samples: int = OPUS_SAMPLES) -> None:
        """Sends a packet of Opus and goes on by so many samples."""
        self.packet(bytes([OPUS_TOC]) + bytes(80))
        self.timestamp = (self.timestamp + samples) & 0xFFFFFFFF

    def frame(self, key: bool = False, packets: int = 2, size: int = 200) -> None:
        """Sends a frame of VP8 in so many packets of about `size` bytes, and goes on by one frame."""
        self._picture = (self._picture + 1) & 0x7FFF
        self._base_layer = (self._base_layer + 1) & 0xFF
        for index in range(packets):
            payload = _vp8_descriptor(index == 0, self._picture, self._base_layer)
            payload += _vp8_header(key, size * packets) if index == 0 else b""
            self.packet(payload.ljust(size, b"\x55"), marker=index == packets - 1)
        self.timestamp = (self.timestamp + self._codec.clock_rate // FRAMES_PER_SECOND) & 0xFFFFFFFF


def _vp8_descriptor(begins: bool, picture: int, base_layer: int) -> bytes:
    """RFC 7741 section 4.2, with picture id (15 bits), TL0PICIDX and a temporal layer of 0."""
    return struct.pack("!BBHBB", 0x90 if begins else 0x80, 0xE0, 0x8000 | picture, base_layer, 0)


def _vp8_header(key: bool, size: int) -> bytes:
    """RFC 6386 section 9.1: a shown frame, whose first partition is all of it; key frames say 640x360."""
    tag = (0 if key else 1) | 1 << 4 | size << 5
    header = struct.pack("<I", tag)[:3]
    return header + (b"\x9d\x01\x2a" + struct.pack("<HH", 640, 360) if key else b"")


def is_video(packet: rtp.Packet) -> bool:
    """A packet of video with something in it: not padding, not a retransmission."""
    return bool(packet.payload) and packet.payload_type in {codec.payload_type for codec in VIDEO_CODECS.values()}


def is_audio(packet: rtp.Packet) -> bool:
    return bool(packet.payload) and packet.payload_type in {codec.payload_type for codec in AUDIO_CODECS.values()}
