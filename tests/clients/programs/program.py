"""Runs a real program as a process, and gives what it printed."""

import base64
import json
import subprocess
import sys
from pathlib import Path

from media import Media, decode
from scripted import rtp

HERE = Path(__file__).parent
PYTHON = sys.executable
TIMEOUT_SECONDS = 60
# Payload types of the programs that record packets; see whip.mjs.
RECORDED = {96: "VP8", 111: "opus"}


class ProgramFailed(AssertionError):
    pass


def run(*command: str) -> str:
    """Runs to the end; a program that fails, or does not end, fails the test with all it said."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, cwd=HERE
        )
    except subprocess.TimeoutExpired as late:
        said = b"".join(part for part in (late.stdout, late.stderr) if part)
        raise ProgramFailed(f"{command[:3]} did not end:\n{said.decode(errors='replace')}") from None
    if done.returncode != 0:
        raise ProgramFailed(f"{command[:3]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def script(name: str) -> tuple[str, str]:
    """How to run a script of this folder."""
    return ("node" if name.endswith(".mjs") else PYTHON), str(HERE / name)


def seen_by(output: str) -> Media:
    """What a program saw, by the last line that it printed: decoded by itself, or as packets."""
    said = json.loads(output.strip().splitlines()[-1])
    if "packets" not in said:
        return Media.from_json(said)
    packets = [rtp.parse(base64.b64decode(packet), 0.0) for packet in said["packets"]]
    return decode(packets, RECORDED)
