"""Somebody who joins a room over the WebSocket, by the plain protocol of docs/protocol.md."""

import contextlib
import json
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from .call import Client, eventually
from .peer import Peer
from .sdp import Line, offer

VERSION = 1


class Participant(Client):
    """Joins when it is made. `reply` is what the server said to that; `events` is all it said since."""

    def __init__(self, server, room: str, lines: list[Line], tracks=(), name: str = "Ada") -> None:
        Peer.__init__(self, host=server.host)
        self._asked = 0.0
        self._open = contextlib.ExitStack()
        self._signaling = self._open.enter_context(connect(f"ws://{server.address}/v1/ws", proxy=None))
        self._id = 0
        self._replies: dict[int, dict] = {}
        self.events: list[dict] = []
        threading.Thread(target=self._listen, daemon=True).start()
        token = server.token(room)
        self.ask(type="hello", version=VERSION, **({"token": token} if token else {}))
        self.reply = self.ask(type="join", room=room, name=name, offer=offer(self, lines), tracks=list(tracks))
        if "answer" in self.reply:
            self.connect(self.reply["answer"])

    def __enter__(self) -> "Participant":
        return self

    def __exit__(self, *_) -> None:
        self.leave()

    def leave(self) -> None:
        self.close()
        self._open.close()

    def ask(self, **request) -> dict:
        """Sends a request and gives the reply; an empty one if none comes."""
        self._id += 1
        self._signaling.send(json.dumps({"id": self._id, **request}))
        return eventually(lambda: self._replies.get(self._id)) or {}

    def offer_again(self, lines: list[Line]) -> dict:
        return self.ask(type="offer", sdp=offer(self, lines), tracks=[])

    def _listen(self) -> None:
        try:
            for text in self._signaling:
                message = json.loads(text)
                if "re" in message:
                    self._replies[message["re"]] = message
                else:
                    self.events.append(message)
        except ConnectionClosed:
            pass
