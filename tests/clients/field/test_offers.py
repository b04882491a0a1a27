"""Offers of real programs, from files: what the server answers to each."""

import tomllib
from pathlib import Path

import pytest

from scripted import whip
from scripted.peer import random_text
from scripted.sdp import live_lines

HERE = Path(__file__).parent
TABLE = tomllib.loads((HERE / "offers.toml").read_text())["offer"]
ABOUT = ("kind", "seen", "source", "cause", "mend")


def cases():
    for case in TABLE:
        about = pytest.mark.field(**{key: case[key] for key in ABOUT})
        yield pytest.param(case, id=case["file"], marks=about)


def test_every_file_is_in_the_table():
    assert {path.stem for path in HERE.glob("offers/*.sdp")} == {case["file"] for case in TABLE}


@pytest.mark.parametrize("case", list(cases()))
def test_offer(server, case):
    room = f"offer-{random_text(8)}"
    text = (HERE / "offers" / f"{case['file']}.sdp").read_bytes().decode()
    response = whip.request(server.address, "POST", f"/whip/{room}", text)
    assert response.status == case["status"], response.body
    if response.status != 201:
        assert '"title"' in response.body, "a refusal says why"
        return
    assert live_lines(response.body) == case["live"], response.body
    for wanted in case.get("has", []):
        assert wanted in response.body
    for unwanted in case.get("lacks", []):
        assert unwanted not in response.body
