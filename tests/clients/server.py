"""The server under test: the built binary in a process of its own, on free ports, stopped by its id."""

import os
import random
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 15.0
# One worker per core is the default; so many ports are looked for in a row.
MAX_WORKERS = 8
# Below the range that the kernel hands out by itself.
MEDIA_PORTS = range(20_000, 32_000)


def binary(name: str = "confab") -> str:
    """The server beside CONFAB_BIN, or another program built with it."""
    server = os.environ.get("CONFAB_BIN")
    if not server:
        raise RuntimeError("CONFAB_BIN must name the server's binary")
    path = Path(server).resolve().with_name(name)
    if not path.exists():
        raise RuntimeError(f"{path} is missing: build it with cargo")
    return str(path)


class Server:
    """On loopback rooms are open; on another address who joins needs `token`."""

    def __init__(self, host: str, log: Path, *flags: str, **settings: str) -> None:
        """`settings` are variables of the environment, such as CONFAB_LOG_FILTER."""
        self.host = host
        self.log = log
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("CONFAB_")}
        self._environment |= settings
        self._needs_tokens = not host.startswith("127.")
        if self._needs_tokens:
            # Signs the tokens of this server, and is forgotten with it.
            self._environment |= {"CONFAB_AUTH_API_KEY": "test", "CONFAB_AUTH_API_SECRET": secrets.token_hex(32)}
        self.address = f"{host}:{_free_tcp_port(host)}"
        command = [
            binary(),
            f"--http-listen={self.address}",
            f"--media-listen={host}",
            f"--media-port={_free_media_ports(host)}",
            "--turn-listen=off",
            *flags,
        ]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._environment
            )
        self._wait_until_ready()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def token(self, room: str) -> str | None:
        """What lets one into a room; None where nothing is needed."""
        if not self._needs_tokens:
            return None
        command = [binary(), "token", "--room", room, "--identity", f"client-{secrets.token_hex(4)}"]
        return subprocess.check_output(command, env=self._environment, text=True).strip()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the server did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            return opener.open(f"{self.url}/health/ready", timeout=1).status == 200
        except (urllib.error.URLError, OSError):
            return False


def _free_tcp_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _free_media_ports(host: str) -> int:
    """The first of several UDP ports in a row, which are free over TCP too."""
    while True:
        first = random.choice(MEDIA_PORTS)
        if all(_is_free(host, port) for port in range(first, first + MAX_WORKERS)):
            return first


def _is_free(host: str, port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(type=kind) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
