"""One connection of the scripted client: ICE, DTLS, SRTP over one UDP socket, in a thread.

In: the answer to its offer. Out: packets, in `received` and `reports`, in the order of arrival.
"""

import contextlib
import random
import socket
import string
import struct
import threading
import time

from . import ice, rtcp, rtp
from .dtls import Certificate, Handshake
from .sdp import EXTENSIONS

CHECK_SECONDS = 0.3
# Once connected: far below the 30 s after which consent ends (RFC 7675).
CONSENT_SECONDS = 2.0
REPORT_SECONDS = 1.0
FEEDBACK_SECONDS = 0.05
POLL_SECONDS = 0.02
CONNECT_SECONDS = 10.0
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 16 << 20
LARGEST_DATAGRAM = 65_535


class NotConnected(Exception):
    """ICE or DTLS did not succeed; the text says what was seen."""


def random_text(length: int) -> str:
    return "".join(random.choices(string.ascii_letters + string.digits, k=length))


class Peer:
    def __init__(
        self,
        host: str = "127.0.0.1",
        certificate: Certificate | None = None,
        profiles: bytes = b"SRTP_AES128_CM_SHA1_80",
    ) -> None:
        """`host` is the local address; `profiles` are those of SRTP, by OpenSSL's names with colons."""
        self.certificate = certificate or Certificate()
        self.ufrag, self.password = random_text(8), random_text(24)
        self.answer = ""
        self.received: list[rtp.Packet] = []
        self.reports: list[rtcp.Report] = []
        # Sequence numbers of packets that SRTP took for replayed.
        self.replayed: list[int] = []
        self.handshake: Handshake | None = None
        self._profiles = profiles
        self._socket = _bind(host)
        self._server: tuple[str, int] | None = None
        self._ice_connected = threading.Event()
        self._connected = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._sending = threading.Lock()
        self._transport_sequence = 0
        self._arrivals = rtcp.ArrivalTimes()
        self._trouble: list[str] = []

    def connect(self, answer: str, wait: float = CONNECT_SECONDS) -> None:
        """Connects as the answer says; raises NotConnected if that takes longer than `wait` seconds."""
        self.begin(answer)
        if not self._connected.wait(wait):
            raise NotConnected(self.state())

    def begin(self, answer: str) -> None:
        """Begins to connect."""
        self.answer = answer
        self._server = _candidate(answer)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def is_connected(self, wait: float = 0) -> bool:
        return self._connected.wait(wait)

    def state(self) -> str:
        shake = self.handshake
        return (
            f"ICE {'connected' if self._ice_connected.is_set() else 'not connected'}, "
            f"DTLS {'connected' if self._connected.is_set() else 'not connected'}, "
            f"alerts {shake.alerts if shake else []}, error {shake.error if shake else None}, {self._trouble[-3:]}"
        )

    def close(self) -> None:
        self._ended.set()
        if self._thread:
            self._thread.join()
        self._socket.close()

    def next_transport_sequence(self) -> int:
        """The next transport-wide sequence number."""
        self._transport_sequence = (self._transport_sequence + 1) & 0xFFFF
        return self._transport_sequence

    def send(self, packet: bytes) -> None:
        self._send_protected(self._outgoing().protect, packet)

    def send_rtcp(self, packet: bytes) -> None:
        self._send_protected(self._outgoing().protect_rtcp, packet)

    def received_since(self, when: float) -> list[rtp.Packet]:
        return [packet for packet in list(self.received) if packet.arrival >= when]

    def reports_since(self, when: float) -> list[rtcp.Report]:
        return [report for report in list(self.reports) if report.arrival >= when]

    def _outgoing(self):
        if self.handshake is None or self.handshake.outgoing is None:
            raise NotConnected(self.state())
        return self.handshake.outgoing

    def _send_protected(self, protect, packet: bytes) -> None:
        with self._sending:
            self._socket.sendto(protect(packet), self._server)

    def _is_dtls_client(self) -> bool:
        return "a=setup:active" not in self.answer

    def _run(self) -> None:
        check = report = feedback = 0.0
        while not self._ended.is_set():
            now = time.monotonic()
            connected = self._connected.is_set()
            if now >= check:
                check = now + (CONSENT_SECONDS if self._ice_connected.is_set() else CHECK_SECONDS)
                self._send_check()
            if self.handshake and not connected:
                self.handshake.retransmit()
            if connected and now >= report:
                report = now + REPORT_SECONDS
                self.send_rtcp(rtcp.receiver_report())
            if connected and now >= feedback:
                feedback = now + FEEDBACK_SECONDS
                if (times := self._arrivals.report()) is not None:
                    self.send_rtcp(times)
            try:
                datagram = self._socket.recv(LARGEST_DATAGRAM)
            except TimeoutError:
                continue
            except OSError as error:
                self._trouble.append(repr(error))
                continue
            self._receive(datagram, time.monotonic())

    def _send_check(self) -> None:
        ufrag, password = _value(self.answer, "a=ice-ufrag:"), _value(self.answer, "a=ice-pwd:")
        check = ice.binding_request(f"{ufrag}:{self.ufrag}", password)
        self._socket.sendto(check, self._server)

    def _receive(self, datagram: bytes, now: float) -> None:
        """By the first byte (RFC 7983)."""
        first = datagram[0]
        if first < 4:
            self._receive_stun(datagram)
        elif 20 <= first < 64:
            self._receive_dtls(datagram)
        elif first >= 128 and self.handshake and self.handshake.incoming:
            if 192 <= datagram[1] < 224:
                self._receive_rtcp(datagram, now)
            else:
                self._receive_rtp(datagram, now)

    def _receive_stun(self, datagram: bytes) -> None:
        (kind,) = struct.unpack_from("!H", datagram)
        if kind != ice.BINDING_SUCCESS:
            self._trouble.append(f"STUN {kind:#06x}")
        elif not self._ice_connected.is_set():
            self._ice_connected.set()
            if self._is_dtls_client():
                self._shake_hands()

    def _shake_hands(self) -> None:
        self.handshake = Handshake(
            self.certificate,
            self._profiles,
            self._is_dtls_client(),
            lambda datagram: self._socket.sendto(datagram, self._server),
        )
        self._step()

    def _step(self) -> None:
        if self.handshake.error is None and self.handshake.step():
            self._connected.set()

    def _receive_dtls(self, datagram: bytes) -> None:
        if self.handshake is None:
            if self._is_dtls_client():
                return
            self._shake_hands()
        self.handshake.receive(datagram)
        if not self._connected.is_set():
            self._step()

    def _receive_rtcp(self, datagram: bytes, now: float) -> None:
        try:
            compound = self.handshake.incoming.unprotect_rtcp(datagram)
        except Exception as error:
            self._trouble.append(f"SRTCP: {error!r}")
            return
        self.reports += rtcp.parse(compound, now)

    def _receive_rtp(self, datagram: bytes, now: float) -> None:
        try:
            packet = rtp.parse(self.handshake.incoming.unprotect(datagram), now)
        except Exception as error:
            if "replay" in str(error):
                self.replayed.append(struct.unpack_from("!H", datagram, 2)[0])
            else:
                self._trouble.append(f"SRTP: {error!r}")
            return
        self.received.append(packet)
        transport_wide = packet.extensions.get(EXTENSIONS["transport-wide"].number)
        if transport_wide:
            self._arrivals.note(int.from_bytes(transport_wide, "big"), now)


def _bind(host: str) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind((host, 0))
    bound.settimeout(POLL_SECONDS)
    # Only root may; the default holds a second of what these tests receive.
    with contextlib.suppress(PermissionError):
        bound.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    return bound


def _value(answer: str, begins: str) -> str:
    """The rest of the answer's first line that begins so."""
    return next(line.removeprefix(begins) for line in answer.splitlines() if line.startswith(begins))


def _candidate(answer: str) -> tuple[str, int]:
    """The first UDP candidate of the answer."""
    for line in answer.splitlines():
        words = line.split()
        if line.startswith("a=candidate:") and words[2].lower() == "udp":
            return words[4], int(words[5])
    raise NotConnected("the answer has no UDP candidate")
