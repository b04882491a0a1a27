"""Real programs, as their registries ship them, publish to the server and watch from it.

What a program publishes is received by the scripted viewer and decoded by FFmpeg. What it watches
comes from the bot, which is built on the `webrtc` crate, and is decoded by the program where it
can, else from the packets it received.
"""

import json
import os
import signal
import subprocess

import av
import pytest
from media import Media, Sound, decode
from program import run, script, seen_by
from scripted.call import EVERYTHING, Client
from scripted.peer import random_text
from scripted.sdp import CODECS
from server import binary

# Of media, once connected.
SECONDS = "4"
# Of a program that does not say when it is connected.
STARTUP_SECONDS = 2.0
TONE_HERTZ = 440
# Of the thirty frames a second: the first come before the path and the decoder are ready.
ENOUGH_FRAMES = 60
ENOUGH_SOUND = 2.5
SILENCE_DBFS = -60.0

SIMPLE_WHIP = {
    "-A": "audiotestsrc is-live=true freq=440 ! opusenc ! rtpopuspay pt=100"
    " ! application/x-rtp,media=audio,encoding-name=OPUS,payload=100",
    "-V": "videotestsrc is-live=true pattern=ball ! video/x-raw,framerate=30/1 ! vp8enc deadline=1 keyframe-max-dist=60"
    " ! rtpvp8pay pt=96 ! application/x-rtp,media=video,encoding-name=VP8,payload=96",
}


class Room:
    """A room of the server, and the tokens for it."""

    def __init__(self, server) -> None:
        self.server = server
        self.name = f"program-{random_text(8)}"

    def address(self, endpoint: str) -> tuple[str, str]:
        """Where a program publishes (`whip`) or watches (`whep`), and its token."""
        return f"{self.server.url}/{endpoint}/{self.name}", self.server.token(self.name)

    def published_by(self, publish) -> Media:
        """Calls `publish`, and gives what a viewer has then seen."""
        viewer = Client(self.server, f"/whep/{self.name}", list(EVERYTHING))
        viewer.connect(viewer.answer)
        try:
            publish()
            return decode(viewer.received, {codec.payload_type: name for name, codec in CODECS.items()})
        finally:
            viewer.leave()

    def bot(self, *options: str) -> subprocess.Popen:
        url = f"ws://{self.server.address}/v1/ws"
        command = [binary("confab-bot"), "--url", url, "--room", self.name, "--token", self.server.token(self.name)]
        return subprocess.Popen([*command, "--bind", f"{self.server.host}:0", *options], stdout=subprocess.DEVNULL)

    def watched_by(self, watch, picture) -> Media:
        """What `watch` gives while the bot publishes a picture, from a file, and a tone."""
        bot = self.bot("--video", str(picture), "--audio", f"tone:{TONE_HERTZ}")
        try:
            return watch()
        finally:
            bot.send_signal(signal.SIGINT)
            bot.wait(10)


def assert_seen_and_heard(media: Media, with_sound: bool = True) -> None:
    picture, sound = media.picture, media.sound
    assert picture.frames >= ENOUGH_FRAMES, picture
    assert picture.different >= picture.frames // 2, f"the picture stands still: {picture}"
    assert picture.contrast > 5, f"the picture is flat: {picture}"
    if with_sound:
        assert sound.audible_seconds >= ENOUGH_SOUND, sound
        assert abs(sound.hertz - TONE_HERTZ) < 10, sound


def program(name: str, direction: str, media: str, command: tuple[str, ...], *options: str):
    """One line of the table: which program, which way, what of, and how it is run."""
    identity = "-".join([name, *(option.split("=")[-1] for option in options)])
    marks = pytest.mark.program(name=name, direction=direction, media=media)
    return pytest.param((*command, direction), options, media, id=identity, marks=marks)


GSTREAMER, AIORTC = script("gstreamer_client.py"), script("aiortc_client.py")
FFMPEG, WERIFT, DATACHANNEL = script("ffmpeg_client.py"), script("werift_client.mjs"), script("node_datachannel_client.mjs")


@pytest.mark.parametrize(
    "command, options, media",
    [
        program("GStreamer webrtcbin", "publish", "VP8", GSTREAMER, "--bundle=none", "--media=picture"),
        program("GStreamer webrtcbin", "publish", "VP8, Opus", GSTREAMER, "--bundle=max-bundle", "--media=both"),
        program("FFmpeg WHIP muxer", "publish", "H.264, Opus", FFMPEG, "--dtls=passive"),
        program("FFmpeg WHIP muxer", "publish", "H.264, Opus", FFMPEG, "--dtls=active"),
        program("aiortc", "publish", "VP8, Opus", AIORTC, "--video=VP8"),
        program("aiortc", "publish", "H.264, Opus", AIORTC, "--video=H264"),
        program("werift", "publish", "VP8, Opus", WERIFT),
        program("node-datachannel", "publish", "VP8, Opus", DATACHANNEL),
    ],
)
def test_publishes(beyond_loopback, command, options, media):
    room = Room(beyond_loopback)
    seen = room.published_by(lambda: run(*command, *room.address("whip"), SECONDS, *options))
    assert_seen_and_heard(seen, with_sound="Opus" in media)


@pytest.mark.parametrize(
    "command, options, media",
    [
        program("GStreamer webrtcbin", "watch", "VP8", GSTREAMER, "--bundle=none", "--media=picture"),
        program("GStreamer webrtcbin", "watch", "VP8, Opus", GSTREAMER, "--bundle=max-bundle", "--media=both"),
        program("aiortc", "watch", "VP8, Opus", AIORTC, "--video=VP8"),
        program("aiortc", "watch", "H.264, Opus", AIORTC, "--video=H264"),
        program("werift", "watch", "VP8, Opus", WERIFT),
        program("node-datachannel", "watch", "VP8, Opus", DATACHANNEL),
    ],
)
def test_watches(beyond_loopback, test_media, command, options, media):
    room = Room(beyond_loopback)
    picture = test_media / ("h264.h264" if "H.264" in media else "vp8.ivf")
    output = room.watched_by(lambda: run(*command, *room.address("whep"), SECONDS, *options), picture)
    assert_seen_and_heard(seen_by(output), with_sound="Opus" in media)


@pytest.mark.program(name="simple-whip-client", direction="publish", media="VP8, Opus")
def test_simple_whip_client_publishes(beyond_loopback, tmp_path):
    """With trickled candidates, which is how it comes: `PATCH` of the session."""
    room = Room(beyond_loopback)
    url, token = room.address("whip")
    words = [word for option in SIMPLE_WHIP.items() for word in option]
    environment = os.environ | {"LD_LIBRARY_PATH": without_upnp(tmp_path)}

    def publish() -> None:
        with (tmp_path / "log").open("w+") as log:
            command = ["whip-client", "-u", url, "-t", token, *words]
            client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            try:
                client.wait(float(SECONDS) + STARTUP_SECONDS)
            except subprocess.TimeoutExpired:
                client.send_signal(signal.SIGINT)
            assert client.wait(10) == 0, (tmp_path / "log").read_text()

    assert_seen_and_heard(room.published_by(publish))


def without_upnp(directory) -> str:
    """Where libnice finds no UPnP; see no_upnp.c."""
    library = directory / "libgupnp-igd-1.0.so.4"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, script("no_upnp.c")[1]], check=True)
    return str(directory)


@pytest.mark.program(name="webrtc crate", direction="publish", media="VP8, Opus")
def test_the_bot_publishes(beyond_loopback, test_media):
    room = Room(beyond_loopback)

    def publish() -> None:
        bot = room.bot("--video", str(test_media / "vp8.ivf"), "--audio", f"tone:{TONE_HERTZ}", "--duration", f"{SECONDS}s")
        assert bot.wait(30) == 0

    assert_seen_and_heard(room.published_by(publish))


@pytest.mark.program(name="webrtc crate", direction="watch", media="VP8, Opus")
def test_the_bot_watches(beyond_loopback, test_media, tmp_path):
    """It decodes the sound itself; the pictures it records are decoded here."""
    room = Room(beyond_loopback)
    watch = [binary("confab-bot"), "--url", f"ws://{beyond_loopback.address}/v1/ws", "--room", room.name, "--video=none"]
    watch += ["--audio=none", "--token", beyond_loopback.token(room.name), "--bind", f"{beyond_loopback.host}:0"]
    watch += ["--duration", f"{SECONDS}s", "--report=json", "--record", str(tmp_path)]
    report = room.watched_by(lambda: run(*watch), test_media / "vp8.ivf")
    assert_seen_and_heard(recorded(report, tmp_path))


def recorded(report: str, directory) -> Media:
    """What a bot saw and heard: its recording, and its report on the one slot with sound."""
    media = Media()
    for path in sorted(directory.glob("*.ivf")):
        with av.open(str(path)) as recording:
            for frame in recording.decode(video=0):
                media.add_frame(frame)
    for slot in json.loads(report)[0]["slots"]:
        if (sound := slot["audio"]) and sound["level_dbfs"] > SILENCE_DBFS:
            seconds = sound["total_samples"] / 48_000
            media.sound = Sound(seconds, seconds, sound["tone_hz"])
    return media
