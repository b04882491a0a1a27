"""A publisher over WHIP and viewers over WHEP, in a room of their own.

>>> with Call(server, [video(ssrc=1111)]) as call:
...     viewer = call.watch()
...     call.film(Stream(call.publisher, "VP8", 1111, mid="1"), frames=45)
...     assert len(viewer.video()) > 80
"""

import time

from . import rtp, stream, whip
from .peer import Peer, random_text
from .sdp import Line, audio, offer, video
from .stream import FRAMES_PER_SECOND, Stream

# What a viewer can show unless the test says otherwise.
EVERYTHING = (
    audio("0", "recvonly"),
    video("1", "recvonly", codecs=("VP8", "H264", "VP9", "AV1"), rtx=True),
)


class Refused(Exception):
    """The server did not take the offer; the text says what it answered."""


class Client(Peer):
    """A peer that got in by one HTTP request."""

    def __init__(self, server, path: str, lines: list[Line], setup: str = "actpass", **kind) -> None:
        """`kind` is a peer's certificate and SRTP profiles."""
        super().__init__(host=server.host, **kind)
        self._server_address = server.address
        self._token = server.token(path.split("/")[2])
        self._asked = 0.0
        response = whip.request(server.address, "POST", path, offer(self, lines, setup=setup), self._token)
        if response.status != 201:
            raise Refused(f"{response.status}: {response.body}")
        self.location = response.location
        self.answer = response.body

    def leave(self) -> None:
        self.close()
        whip.request(self._server_address, "DELETE", self.location, token=self._token)

    def video(self, since: float = 0) -> list[rtp.Packet]:
        """Packets of video that came since then."""
        return [packet for packet in self.received_since(since) if stream.is_video(packet)]

    def audio(self, since: float = 0) -> list[rtp.Packet]:
        return [packet for packet in self.received_since(since) if stream.is_audio(packet)]

    def key_frames_asked(self, since: float = 0) -> int:
        """How often the server has asked for a key frame since then."""
        return sum(report.is_key_frame_request() for report in self.reports_since(since))

    def is_key_frame_due(self) -> bool:
        """Whether the server has asked for one since this was last called."""
        since, self._asked = self._asked, time.monotonic()
        return self.key_frames_asked(since) > 0


class Call:
    def __init__(self, server, lines: list[Line], setup: str = "actpass", **kind) -> None:
        self._server = server
        self.room = f"call-{random_text(8)}"
        self._clients: list[Client] = []
        self.publisher = self._enter(f"/whip/{self.room}", lines, setup=setup, **kind)

    def __enter__(self) -> "Call":
        return self

    def __exit__(self, *_) -> None:
        for client in reversed(self._clients):
            client.leave()

    def watch(self, lines=EVERYTHING, setup: str = "actpass", **kind) -> Client:
        return self._enter(f"/whep/{self.room}", list(lines), setup=setup, **kind)

    def _enter(self, path: str, lines: list[Line], **kind) -> Client:
        client = Client(self._server, path, lines, **kind)
        self._clients.append(client)
        client.connect(client.answer)
        return client

    def film(self, *cameras: Stream, frames: int, obey: bool = True, first: bool = True, each=None, **frame) -> None:
        """Sends frames in real time from each camera; a key frame first, and when asked if they `obey`."""
        film([(self.publisher, camera) for camera in cameras], frames, obey, first, each, **frame)


def film(cameras, frames: int, obey: bool = True, first: bool = True, each=None, **frame) -> None:
    """The same for cameras of several peers: pairs of a peer and a stream."""
    began = time.monotonic()
    for index in range(frames):
        due = {peer: peer.is_key_frame_due() for peer, _ in cameras}
        for peer, camera in cameras:
            camera.frame(key=(obey and due[peer]) or (first and index == 0), **frame)
        if each:
            each()
        pause(began + (index + 1) / FRAMES_PER_SECOND)


def pause(until: float) -> None:
    """Waits until then, by the monotonic clock."""
    time.sleep(max(0.0, until - time.monotonic()))


def eventually(question, seconds: float = 5.0):
    """The first true answer to the question, or the last one when the time is over."""
    deadline = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer
