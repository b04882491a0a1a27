"""What every test gets: servers, the test media, and the server's log beside a failure.

Options of the environment: CONFAB_BIN, the server's binary; CONFAB_TEST_ADDRESS, an address of
this machine that is not loopback. `run.sh` sets them.
"""

import os
import subprocess
from pathlib import Path

import pytest

from server import ROOT, Server
from table import Table

LOG_LINES = 40


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """On loopback, where rooms are open."""
    yield from _running("127.0.0.1", tmp_path_factory)


@pytest.fixture(scope="session")
def beyond_loopback(tmp_path_factory):
    """On another address, for programs that do not use loopback; whoever joins needs a token."""
    yield from _running(os.environ["CONFAB_TEST_ADDRESS"], tmp_path_factory)


def _running(host: str, tmp_path_factory):
    running = Server(host, tmp_path_factory.mktemp("server") / "log")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def test_media() -> Path:
    """The bots' test video, which is made once."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    directory = target / "test-media"
    subprocess.run([ROOT / "client-demo/bot/make-test-media.sh", directory], check=True)
    return directory


@pytest.fixture(autouse=True)
def _log_of_this_test(request):
    """Shows what the servers have logged meanwhile, if the test fails."""
    running = [request.getfixturevalue(name) for name in ("server", "beyond_loopback") if name in request.fixturenames]
    before = [len(one.log.read_bytes()) for one in running]
    yield
    for one, start in zip(running, before, strict=True):
        lines = one.log.read_bytes()[start:].decode(errors="replace").splitlines()[-LOG_LINES:]
        request.node.add_report_section("call", "server log", "\n".join(lines))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Has what the table needs travel with the report, from a worker too."""
    report = yield
    for marker in item.iter_markers():
        if marker.name in Table.MARKERS and report.when == "call":
            report.user_properties.append((marker.name, marker.kwargs))
    return report


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Table(config), "table")
