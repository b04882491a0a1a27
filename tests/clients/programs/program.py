"""Runs real programs as processes: for what they print, or until they are interrupted."""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from media import PATIENCE_SECONDS, Media, decode
from scripted import rtp
from scripted.sdp import CODECS

HERE = Path(__file__).parent
# The scripts import what the tests do.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(HERE.parent)}
# Longer than the programs wait by themselves.
TIMEOUT_SECONDS = PATIENCE_SECONDS + 20


class ProgramFailed(AssertionError):
    pass


class Running:
    """A program that runs until it is interrupted; it fails the test if it ends before, or badly."""

    def __init__(self, *command: str, environment: dict[str, str] | None = None) -> None:
        self.command = command
        self._environment = ENVIRONMENT | (environment or {})

    def __enter__(self) -> "Running":
        self._said = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said, env=self._environment
        )
        return self

    def __exit__(self, failure, *_) -> None:
        with self._said:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(TIMEOUT_SECONDS)
            finally:
                self._process.kill()
            if failure is None and self._process.returncode != 0:
                self._fail()

    def check(self) -> None:
        if self._process.poll() is not None:
            self._fail()

    def _fail(self) -> None:
        self._said.seek(0)
        said = self._said.read()
        raise ProgramFailed(f"{' '.join(self.command[:3])} ended with {self._process.returncode}:\n{said}")


def run(*command: str) -> str:
    """Runs to the end, and gives what was printed; a failure, or no end, fails the test."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=ENVIRONMENT
        )
    except subprocess.TimeoutExpired as late:
        said = b"".join(part for part in (late.stdout, late.stderr) if part)
        raise ProgramFailed(f"{command[:3]} did not end:\n{said.decode(errors='replace')}") from None
    if done.returncode != 0:
        raise ProgramFailed(f"{command[:3]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def script(name: str) -> tuple[str, str]:
    """How to run a script of this folder."""
    return ("node" if name.endswith(".mjs") else sys.executable), str(HERE / name)


def seen_by(output: str) -> Media:
    """What a program saw, by the last line that it printed: decoded by itself, or as packets."""
    said = json.loads(output.strip().splitlines()[-1])
    if "packets" not in said:
        return Media.from_json(said)
    packets = [rtp.parse(base64.b64decode(packet), 0.0) for packet in said["packets"]]
    # They have the payload types of the scripted client.
    return decode(packets, {codec.payload_type: name for name, codec in CODECS.items()})
