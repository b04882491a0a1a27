"""What people in a room are told when a codec is missing, and settings as the documentation has them."""

import pytest

from scripted.call import Call, eventually
from scripted.participant import Participant
from scripted.peer import random_text
from scripted.sdp import audio, video
from scripted.stream import Stream
from server import Server


@pytest.mark.field(
    kind="quality says what is not so",
    seen="A viewer with H.264 alone is shown VP8: black, and nobody says why (livekit#4695)",
    source="docs/protocol.md",
    cause="Layers were allotted without a look at the codecs",
    mend="`quality` and `slot_paused` name the reason",
)
def test_quality_tells_of_a_codec_that_cannot_be_received(server):
    with Call(server, [video(ssrc=1111)]) as call:
        slots = [video("0", "recvonly", codecs=("H264",))]
        with Participant(server, call.room, slots, name="Bo") as bo:
            call.film(Stream(call.publisher, "VP8", 1111, mid="1"), frames=60)
            [slot] = bo.ask(type="quality")["slots"]
            assert slot["reason"] == "codec", slot
            assert not slot.get("layer"), slot
            assert eventually(lambda: any(event["type"] == "slot_paused" for event in bo.events)), bo.events
            assert bo.video() == []


@pytest.mark.field(
    kind="One m-line costs the others",
    seen="A join with a microphone that has no common codec",
    source="RFC 9429 5.3.1",
    cause="The whole join was refused",
    mend="The camera is published, and the reply names the microphone",
)
def test_one_line_without_a_common_codec_does_not_cost_the_others(server):
    lost = audio("0", ssrc=5)
    lost.payload_types[:] = [3]
    lost.attributes[:] = ["sendonly", "rtcp-mux", "rtpmap:3 GSM/8000", "ssrc:5 cname:x"]
    tracks = [{"mid": "0", "source": "microphone"}, {"mid": "1", "source": "camera"}]
    with Participant(server, f"join-{random_text(8)}", [lost, video("1", ssrc=6)], tracks) as ada:
        assert ada.reply["type"] == "joined", ada.reply
        assert [track["mid"] for track in ada.reply["tracks"]] == ["1"]


@pytest.mark.field(
    kind="Codecs",
    seen="A join with a PCMU microphone",
    source="RFC 7874 3",
    cause="Opus was the only sound",
    mend="PCMU is passed through",
)
def test_a_telephone_may_join(server):
    lines = [audio("0", codecs=("PCMU", "PCMA"), ssrc=5), video("1", ssrc=6)]
    tracks = [{"mid": "0", "source": "microphone"}, {"mid": "1", "source": "camera"}]
    with Participant(server, f"join-{random_text(8)}", lines, tracks) as ada:
        assert ada.reply["type"] == "joined", ada.reply
        assert [track["mid"] for track in ada.reply["tracks"]] == ["0", "1"]


FILTER = "confab_sfu=debug,info"


@pytest.mark.field(
    kind="Settings with a comma",
    seen="--log-filter confab_sfu=debug,info, as `confab --help` has it",
    source="docs/operations.md",
    cause="Every value was split at its commas",
    mend="Lists alone are",
)
@pytest.mark.parametrize("where", ["flag", "environment", "file"])
def test_the_documented_log_filter(tmp_path, where):
    (tmp_path / "confab.toml").write_text(f'[log]\nfilter = "{FILTER}"\n' if where == "file" else "")
    flags = [f"--config={tmp_path / 'confab.toml'}"]
    flags += [f"--log-filter={FILTER}"] if where == "flag" else []
    settings = {"CONFAB_LOG_FILTER": FILTER} if where == "environment" else {}
    server = Server("127.0.0.1", tmp_path / "log", *flags, **settings)
    server.stop()
