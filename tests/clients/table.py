"""The tables of docs/clients.md: made from what a whole run saw, and checked against it.

UPDATE_DOCS=1 writes them anew; otherwise a run fails whose tables differ from those of the page.
"""

import json
import os
import re
import subprocess
import tomllib
from dataclasses import dataclass, field

import av

from server import ROOT

PAGE = ROOT / "docs/clients.md"
HERE = ROOT / "tests/clients"
# Programs by the names in the tests: where each is from, as the table says it.
PROGRAMS = {
    "GStreamer webrtcbin": lambda: _debian("gstreamer1.0-plugins-bad"),
    "FFmpeg WHIP muxer": lambda: f"{_pypi('av')} (FFmpeg {av.ffmpeg_version_info})",
    "aiortc": lambda: _pypi("aiortc"),
    "werift": lambda: _npm("werift"),
    "node-datachannel": lambda: _npm("node-datachannel"),
    "simple-whip-client": lambda: _debian("simple-whip-client"),
    "webrtc crate": lambda: _crate("webrtc"),
}
ONE_WAY = {("FFmpeg WHIP muxer", "watch"), ("simple-whip-client", "watch")}


def _debian(package: str) -> str:
    version = subprocess.check_output(["dpkg-query", "-W", "-f", "${Version}", package], text=True)
    # Without Debian's own part, which changes with every mended fault.
    return f"Debian `{package}` {version.rpartition('-')[0]}"


def _pypi(package: str) -> str:
    pinned = re.search(rf"^{package}==(\S+)$", (HERE / "requirements.txt").read_text(), re.MULTILINE)
    return f"PyPI `{package}` {pinned[1]}"


def _npm(package: str) -> str:
    return f"npm `{package}` {json.loads((HERE / 'package.json').read_text())['dependencies'][package]}"


def _crate(name: str) -> str:
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    return f"crates.io `{name}` {next(package['version'] for package in lock if package['name'] == name)}"


@dataclass
class Outcome:
    """What the tests of one line of a table were about, and whether all of them passed."""

    about: dict
    tests: list[str] = field(default_factory=list)
    passed: bool = True

    def add(self, report) -> None:
        self.tests.append(report.nodeid.split("::")[-1])
        self.passed &= report.passed

    def named(self) -> str:
        """The one test, or the one function that several are of."""
        names = self.tests if len(self.tests) == 1 else sorted({name.split("[")[0] for name in self.tests})
        return ", ".join(f"`{name}`" for name in names) + ("" if self.passed else " **fails**")


class Table:
    MARKERS = ("field", "program")

    def __init__(self, config) -> None:
        chosen = config.option.keyword or config.option.markexpr or config.option.collectonly
        self._is_whole = not chosen and config.args == config.getini("testpaths")
        self._field: dict[tuple, Outcome] = {}
        self._programs: dict[tuple, Outcome] = {}

    def pytest_runtest_logreport(self, report) -> None:
        for kind, about in report.user_properties:
            if kind not in self.MARKERS:
                continue
            outcomes = self._field if kind == "field" else self._programs
            outcomes.setdefault(tuple(about.values()), Outcome(about)).add(report)

    def pytest_sessionfinish(self, session) -> None:
        if not self._is_whole:
            return
        page = PAGE.read_text()
        fresh = page
        for name, table in (("programs", self._program_table()), ("field", self._field_table())):
            begin, end = f"<!-- {name}: made by tests/clients/table.py -->\n", f"<!-- end of {name} -->"
            before, after = fresh.partition(begin)[0], fresh.partition(end)[2]
            fresh = f"{before}{begin}\n{table}\n{end}{after}"
        if os.environ.get("UPDATE_DOCS"):
            PAGE.write_text(fresh)
        elif fresh != page:
            session.exitstatus = 1
            print(f"\n{PAGE} does not say what this run saw. UPDATE_DOCS=1 scripts/tier/clients.sh writes it anew.")

    def _program_table(self) -> str:
        rows = ["| program | from | publishes | watches |", "| --- | --- | --- | --- |"]
        for name, origin in PROGRAMS.items():
            ways = [self._ways(name, direction) for direction in ("publish", "watch")]
            rows.append(f"| {name} | {origin()} | {' | '.join(ways)} |")
        return "\n".join(rows) + "\n"

    def _ways(self, name: str, direction: str) -> str:
        outcomes = [o for o in self._programs.values() if o.about["name"] == name and o.about["direction"] == direction]
        if not outcomes:
            return "it cannot" if (name, direction) in ONE_WAY else "not tested"
        outcomes.sort(key=lambda outcome: outcome.about["media"])
        return "; ".join(o.about["media"] + ("" if o.passed else " **fails**") for o in outcomes)

    def _field_table(self) -> str:
        rows = ["| kind | seen | right by | cause | mend | test |", "| --- | --- | --- | --- | --- | --- |"]
        for outcome in sorted(self._field.values(), key=lambda outcome: tuple(outcome.about.values())):
            about = outcome.about
            cells = [about[column] for column in ("kind", "seen", "source", "cause", "mend")]
            rows.append(f"| {' | '.join(cells)} | {outcome.named()} |")
        return "\n".join(rows) + "\n"
