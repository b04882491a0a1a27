"""RTP packets (RFC 3550) and their header extensions in both forms (RFC 8285)."""

import struct
from dataclasses import dataclass

ONE_BYTE_FORM = 0xBEDE
TWO_BYTE_FORM = 0x1000
FIXED_HEADER = 12


@dataclass(frozen=True)
class Packet:
    """A packet as it was received; `arrival` is in seconds of the monotonic clock."""

    arrival: float
    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    extensions: dict[int, bytes]
    payload: bytes


def parse(data: bytes, arrival: float) -> Packet:
    first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", data)
    start = FIXED_HEADER + 4 * (first & 15)
    extensions = {}
    if first & 0x10:
        form, words = struct.unpack_from("!HH", data, start)
        extensions = _parse_extensions(form, data[start + 4 : start + 4 + 4 * words])
        start += 4 + 4 * words
    end = len(data) - (data[-1] if first & 0x20 else 0)
    return Packet(arrival, second & 127, bool(second >> 7), sequence, timestamp, ssrc, extensions, data[start:end])


def _parse_extensions(form: int, data: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += 1
        elif form == ONE_BYTE_FORM:
            length = (data[at] & 15) + 1
            found[data[at] >> 4] = data[at + 1 : at + 1 + length]
            at += 1 + length
        else:
            length = data[at + 1]
            found[data[at]] = data[at + 2 : at + 2 + length]
            at += 2 + length
    return found


def build(
    payload_type: int,
    sequence: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    marker: bool = False,
    extensions: dict[int, bytes] | None = None,
) -> bytes:
    extra = _build_extensions(extensions) if extensions else b""
    head = struct.pack(
        "!BBHII",
        0x80 | (0x10 if extra else 0),
        (marker << 7) | payload_type,
        sequence & 0xFFFF,
        timestamp & 0xFFFFFFFF,
        ssrc,
    )
    return head + extra + payload


def _build_extensions(extensions: dict[int, bytes]) -> bytes:
    short = all(1 <= number <= 14 and 1 <= len(value) <= 16 for number, value in extensions.items())
    data = b""
    for number, value in extensions.items():
        data += (bytes([number << 4 | len(value) - 1]) if short else bytes([number, len(value)])) + value
    data += bytes(-len(data) % 4)
    return struct.pack("!HH", ONE_BYTE_FORM if short else TWO_BYTE_FORM, len(data) // 4) + data


def unwrap(numbers: list[int]) -> list[int]:
    """Sequence numbers of 16 bits, in the order of arrival, counted on beyond 65535."""
    unwrapped: list[int] = []
    for number in numbers:
        last = unwrapped[-1] if unwrapped else number
        unwrapped.append(last + ((number - last + 0x8000) & 0xFFFF) - 0x8000)
    return unwrapped


def holes(packets: list[Packet]) -> int:
    """How many packets of one stream are missing between the first and the last of these."""
    numbers = set(unwrap([packet.sequence for packet in packets]))
    return max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0


def frames(packets: list[Packet]) -> dict[int, list[Packet]]:
    """The packets of each timestamp, in the order of arrival."""
    by_timestamp: dict[int, list[Packet]] = {}
    for packet in packets:
        by_timestamp.setdefault(packet.timestamp, []).append(packet)
    return by_timestamp
