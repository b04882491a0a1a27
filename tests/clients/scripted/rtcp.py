"""RTCP (RFC 3550, RFC 4585): what a test asks with, and what it looks for in the server's."""

import struct
from dataclasses import dataclass

SENDER_REPORT = 200
RECEIVER_REPORT = 201
TRANSPORT_FEEDBACK = 205
PAYLOAD_FEEDBACK = 206
# Formats of TRANSPORT_FEEDBACK and PAYLOAD_FEEDBACK.
NACK = 1
TRANSPORT_WIDE = 15
PLI = 1
FIR = 4

# The SSRC that the scripted client signs its RTCP with.
OWN_SSRC = 1

# draft-holmer-rmcat-transport-wide-cc-extensions-01: units of the deltas and of the reference time.
DELTA_SECONDS = 0.000_25
REFERENCE_SECONDS = 0.064
# More than a second of video; a longer report would say mostly that nothing came.
LONGEST_REPORT = 4000


@dataclass(frozen=True)
class Report:
    """One packet of a compound. `about` is the SSRC of the media, or of the sender of a report."""

    arrival: float
    kind: int
    format: int
    about: int
    control: bytes

    def is_key_frame_request(self) -> bool:
        return self.kind == PAYLOAD_FEEDBACK and self.format in (PLI, FIR)

    def lost(self) -> list[int]:
        """The sequence numbers that a NACK asks for; none if it is another report."""
        if (self.kind, self.format) != (TRANSPORT_FEEDBACK, NACK):
            return []
        numbers = []
        for at in range(0, len(self.control), 4):
            first, following = struct.unpack_from("!HH", self.control, at)
            numbers.append(first)
            numbers += [(first + 1 + bit) & 0xFFFF for bit in range(16) if following >> bit & 1]
        return numbers


def parse(compound: bytes, arrival: float) -> list[Report]:
    reports = []
    while len(compound) >= 8:
        first, kind, words = struct.unpack_from("!BBH", compound)
        one, compound = compound[: 4 * (words + 1)], compound[4 * (words + 1) :]
        is_feedback = kind in (TRANSPORT_FEEDBACK, PAYLOAD_FEEDBACK)
        (about,) = struct.unpack_from("!I", one, 8 if is_feedback else 4)
        reports.append(Report(arrival, kind, first & 31, about, one[12 if is_feedback else 8 :]))
    return reports


def _feedback(kind: int, format: int, about: int, control: bytes = b"") -> bytes:
    control += bytes(-len(control) % 4)
    return struct.pack("!BBHII", 0x80 | format, kind, 2 + len(control) // 4, OWN_SSRC, about) + control


def nack(ssrc: int, sequence: int) -> bytes:
    return _feedback(TRANSPORT_FEEDBACK, NACK, ssrc, struct.pack("!HH", sequence, 0))


def picture_loss(ssrc: int) -> bytes:
    return _feedback(PAYLOAD_FEEDBACK, PLI, ssrc)


def receiver_report() -> bytes:
    return struct.pack("!BBHI", 0x80, RECEIVER_REPORT, 1, OWN_SSRC)


class ArrivalTimes:
    """When packets came, by transport-wide sequence number: what congestion control asks back."""

    def __init__(self) -> None:
        self._arrivals: dict[int, float] = {}
        self._next: int | None = None
        self._count = 0

    def note(self, sequence: int, arrival: float) -> None:
        self._arrivals[sequence] = arrival

    def report(self) -> bytes | None:
        """Feedback on what came since the last report, if anything did."""
        arrivals, self._arrivals = self._arrivals, {}
        if not arrivals:
            return None
        start = self._next if self._next is not None else next(iter(arrivals))
        order = sorted(arrivals, key=lambda number: (number - start + 0x8000) & 0xFFFF)
        base = start if (order[0] - start) & 0xFFFF < 0x8000 else order[0]
        if (order[-1] - base) & 0xFFFF >= LONGEST_REPORT:
            base = order[0]
        length = ((order[-1] - base) & 0xFFFF) + 1
        reference = int(arrivals[order[0]] / REFERENCE_SECONDS)
        body = struct.pack("!HHI", base, length, (reference & 0xFFFFFF) << 8 | self._count & 0xFF)
        body += self._statuses(arrivals, base, length, reference * REFERENCE_SECONDS)
        self._count += 1
        self._next = (base + length) & 0xFFFF
        return _feedback(TRANSPORT_FEEDBACK, TRANSPORT_WIDE, 0, body)

    @staticmethod
    def _statuses(arrivals: dict[int, float], base: int, length: int, last: float) -> bytes:
        symbols, deltas = [], b""
        for offset in range(length):
            arrival = arrivals.get((base + offset) & 0xFFFF)
            if arrival is None:
                symbols.append(0)
                continue
            delta = max(-32768, min(32767, round((arrival - last) / DELTA_SECONDS)))
            last += delta * DELTA_SECONDS
            small = 0 <= delta < 256
            symbols.append(1 if small else 2)
            deltas += bytes([delta]) if small else struct.pack("!h", delta)
        chunks = b""
        for at in range(0, length, 7):
            # A status vector chunk of two-bit symbols.
            chunk = 0xC000
            for place, symbol in enumerate(symbols[at : at + 7]):
                chunk |= symbol << (12 - 2 * place)
            chunks += struct.pack("!H", chunk)
        return chunks + deltas
