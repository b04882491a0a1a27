"""Real programs, as their registries ship them, publish to the server and watch from it.

What a program publishes is received by the scripted viewer and decoded by FFmpeg. What it watches
comes from the bot, which is built on the `webrtc` crate, and is decoded by the program where it
can, else from the packets it received.
"""

import json
import subprocess

import av
import pytest

from media import PATIENCE_SECONDS, Media, Sound, decode
from program import Running, run, script, seen_by
from scripted.call import Client, eventually
from scripted.peer import random_text
from scripted.rtp import frames
from scripted.sdp import AUDIO_CODECS, CODECS, VIDEO_CODECS, audio, video
from server import binary

TONE_HERTZ = 440
# What a viewer waits for: two seconds of both. The first frames may come before a key frame.
FRAMES = 60
SOUNDS = 100
# When a late viewer comes, who needs a key frame, and what he has to see of it.
FRAMES_BEFORE_THE_LATE = 30
LATE_FRAMES = 20
# What has to be decoded of all that.
ENOUGH_FRAMES = 45
ENOUGH_LATE_FRAMES = 15
ENOUGH_SOUND = 1.5
# Publishers that repeat themselves at every key frame request show a second over and over.
ENOUGH_MOTION = 20
SILENCE_DBFS = -60.0
# A bot cannot be told to wait for something: this is several times what it has to see.
BOT_SECONDS = "8s"

SIMPLE_WHIP = {
    "-A": "audiotestsrc is-live=true freq=440 ! opusenc ! rtpopuspay pt=100"
    " ! application/x-rtp,media=audio,encoding-name=OPUS,payload=100",
    "-V": "videotestsrc is-live=true pattern=ball ! video/x-raw,framerate=30/1"
    " ! vp8enc deadline=1 keyframe-max-dist=600 ! rtpvp8pay pt=96"
    " ! application/x-rtp,media=video,encoding-name=VP8,payload=96",
}


class Room:
    """A room of the server, and the tokens for it."""

    def __init__(self, server) -> None:
        self.server = server
        self.name = f"program-{random_text(8)}"

    def address(self, endpoint: str) -> tuple[str, str]:
        """Where a program publishes (`whip`) or watches (`whep`), and its token."""
        return f"{self.server.url}/{endpoint}/{self.name}", self.server.token(self.name)

    def published_by(self, publisher: Running, with_sound: bool = True) -> tuple[Media, Media]:
        """What two viewers see of a publisher: one from before, and one who comes late."""
        with self.viewer() as first, publisher:
            first.wait_for(FRAMES_BEFORE_THE_LATE, 0, publisher)
            with self.viewer() as late:
                late.wait_for(LATE_FRAMES, 0, publisher)
                first.wait_for(FRAMES, SOUNDS if with_sound else 0, publisher)
                return first.seen(), late.seen()

    def viewer(self) -> "Viewer":
        slots = [audio("0", "recvonly", tuple(AUDIO_CODECS)), video("1", "recvonly", tuple(VIDEO_CODECS), rtx=True)]
        return Viewer(self.server, f"/whep/{self.name}", slots)

    def bot(self, *options: str) -> Running:
        """A bot in this room."""
        url = f"ws://{self.server.address}/v1/ws"
        command = [binary("confab-bot"), "--url", url, "--room", self.name, "--token", self.server.token(self.name)]
        return Running(*command, "--bind", f"{self.server.host}:0", *options)

    def camera(self, *options: str) -> Running:
        """A publisher of what the bot does not have: libdatachannel, as it is in many cameras."""
        return Running(*DATACHANNEL, "publish", *self.address("whip"), *options)


class Viewer(Client):
    """A scripted viewer."""

    def __enter__(self) -> "Viewer":
        self.connect(self.answer)
        return self

    def __exit__(self, *_) -> None:
        self.leave()

    def wait_for(self, pictures: int, sounds: int, publisher: Running) -> None:
        """Waits for so many frames and packets of sound; whether they came is for later."""

        def is_there() -> bool:
            publisher.check()
            return len(frames(self.video())) >= pictures and len(self.audio()) >= sounds

        eventually(is_there, PATIENCE_SECONDS)

    def seen(self) -> Media:
        return decode(self.received, {codec.payload_type: name for name, codec in CODECS.items()})


def assert_published(seen: tuple[Media, Media], with_sound: bool = True) -> None:
    first, late = seen
    assert_seen_and_heard(first, with_sound)
    assert late.picture.frames >= ENOUGH_LATE_FRAMES, f"a late viewer saw {late.picture}"


def assert_seen_and_heard(media: Media, with_sound: bool = True) -> None:
    picture, sound = media.picture, media.sound
    assert picture.frames >= ENOUGH_FRAMES, picture
    assert picture.different >= ENOUGH_MOTION, f"the picture stands still: {picture}"
    assert picture.contrast > 5, f"the picture is flat: {picture}"
    if with_sound:
        assert sound.audible_seconds >= ENOUGH_SOUND, sound
        assert abs(sound.hertz - TONE_HERTZ) < 10, sound


def program(name: str, direction: str, media: tuple[str, ...], command: tuple[str, ...], *options: str):
    """One line of the table: which program, which way, what of, and how it is run."""
    identity = "-".join([name, *(option.split("=")[-1] for option in options)])
    marks = pytest.mark.program(name=name, direction=direction, media=label(media))
    return pytest.param((*command, direction), options, media, id=identity, marks=marks)


def label(media: tuple[str, ...]) -> str:
    """As people write the codecs' names."""
    return ", ".join({"H264": "H.264", "H265": "H.265", "opus": "Opus", "G722": "G.722"}.get(one, one) for one in media)


def choice(video: str, audio: str) -> tuple[str, str]:
    return f"--video={video}", f"--audio={audio}"


GSTREAMER = script("gstreamer_client.py")
FFMPEG = script("ffmpeg_client.py")
AIORTC = script("aiortc_client.py")
WERIFT = script("werift_client.mjs")
DATACHANNEL = script("node_datachannel_client.mjs")


@pytest.mark.parametrize(
    "command, options, media",
    [
        program("GStreamer webrtcbin", "publish", ("VP8",), GSTREAMER, "--bundle=none", "--media=picture"),
        program("GStreamer webrtcbin", "publish", ("VP8", "opus"), GSTREAMER, "--bundle=max-bundle", "--media=both"),
        program("FFmpeg WHIP muxer", "publish", ("H264", "opus"), FFMPEG, "--dtls=passive"),
        program("FFmpeg WHIP muxer", "publish", ("H264", "opus"), FFMPEG, "--dtls=active"),
        program("aiortc", "publish", ("VP8", "opus"), AIORTC, *choice("VP8", "opus")),
        program("aiortc", "publish", ("H264", "PCMU"), AIORTC, *choice("H264", "PCMU")),
        program("werift", "publish", ("VP8", "opus"), WERIFT, *choice("VP8", "opus")),
        program("werift", "publish", ("H264", "G722"), WERIFT, *choice("H264", "G722")),
        program("node-datachannel", "publish", ("VP8", "opus"), DATACHANNEL, *choice("VP8", "opus")),
        program("node-datachannel", "publish", ("H265", "PCMA"), DATACHANNEL, *choice("H265", "PCMA")),
    ],
)
def test_publishes(beyond_loopback, command, options, media):
    room = Room(beyond_loopback)
    seen = room.published_by(Running(*command, *room.address("whip"), *options), with_sound=len(media) == 2)
    assert_published(seen, with_sound=len(media) == 2)


@pytest.mark.parametrize(
    "command, options, media",
    [
        program("GStreamer webrtcbin", "watch", ("VP8",), GSTREAMER, "--bundle=none", "--media=picture"),
        program("GStreamer webrtcbin", "watch", ("VP8", "opus"), GSTREAMER, "--bundle=max-bundle", "--media=both"),
        program("aiortc", "watch", ("VP8", "opus"), AIORTC, *choice("VP8", "opus")),
        program("aiortc", "watch", ("H264", "PCMU"), AIORTC, *choice("H264", "PCMU")),
        program("werift", "watch", ("VP8", "opus"), WERIFT, *choice("VP8", "opus")),
        program("werift", "watch", ("H264", "G722"), WERIFT, *choice("H264", "G722")),
        program("node-datachannel", "watch", ("VP8", "opus"), DATACHANNEL, *choice("VP8", "opus")),
        program("node-datachannel", "watch", ("H265", "PCMA"), DATACHANNEL, *choice("H265", "PCMA")),
    ],
)
def test_watches(beyond_loopback, test_media, command, options, media):
    room = Room(beyond_loopback)
    if media in (("VP8",), ("VP8", "opus")):
        publisher = room.bot("--video", str(test_media / "vp8.ivf"), "--audio", f"tone:{TONE_HERTZ}")
    else:
        publisher = room.camera(*choice(*media))
    with publisher:
        seen = seen_by(run(*command, *room.address("whep"), *options))
    assert_seen_and_heard(seen, with_sound=len(media) == 2)


@pytest.mark.program(name="simple-whip-client", direction="publish", media="VP8, Opus")
def test_simple_whip_client_publishes(beyond_loopback, tmp_path):
    """With trickled candidates, which is how it comes: `PATCH` of the session."""
    room = Room(beyond_loopback)
    url, token = room.address("whip")
    words = [word for option in SIMPLE_WHIP.items() for word in option]
    environment = {"LD_LIBRARY_PATH": without_upnp(tmp_path)}
    client = Running("whip-client", "-u", url, "-t", token, *words, environment=environment)
    assert_published(room.published_by(client))


def without_upnp(directory) -> str:
    """Where libnice finds no UPnP; see no_upnp.c."""
    library = directory / "libgupnp-igd-1.0.so.4"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, script("no_upnp.c")[1]], check=True)
    return str(directory)


@pytest.mark.program(name="webrtc crate", direction="publish", media="VP8, Opus")
def test_the_bot_publishes(beyond_loopback, test_media):
    room = Room(beyond_loopback)
    options = ["--video", str(test_media / "vp8.ivf"), "--audio", f"tone:{TONE_HERTZ}"]
    assert_published(room.published_by(room.bot(*options)))


@pytest.mark.program(name="webrtc crate", direction="watch", media="VP8, Opus")
def test_the_bot_watches(beyond_loopback, test_media, tmp_path):
    """It decodes the sound itself; the pictures it records are decoded here."""
    room = Room(beyond_loopback)
    watch = ["--video=none", "--audio=none", "--duration", BOT_SECONDS, "--report=json", "--record", str(tmp_path)]
    with room.bot("--video", str(test_media / "vp8.ivf"), "--audio", f"tone:{TONE_HERTZ}"):
        report = run(*room.bot(*watch).command)
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
