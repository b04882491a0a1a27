"""What happens to SSRCs, sequence numbers and feedback that are not a browser's."""

import time

import pytest

from scripted import rtcp
from scripted.call import EVERYTHING, Call, eventually, film
from scripted.participant import Participant
from scripted.peer import random_text
from scripted.rtp import frames, holes
from scripted.sdp import audio, video
from scripted.stream import Stream

SSRCS = "SSRCs"
RTP_HEADER = 12
SRTP_TAG = 10


@pytest.mark.field(
    kind=SSRCS,
    seen="A mobile SDK restarts the camera: a new SSRC, without a key frame (lib-jitsi-meet#2285)",
    source="RFC 3550 8.2, RFC 4585 6.3.1",
    cause="A new epoch began without a key frame request",
    mend="A new SSRC on a live m-line asks for a key frame at once",
)
def test_a_new_ssrc_asks_for_a_key_frame(server):
    with Call(server, [video(ssrc=1111, rtx_ssrc=2222)]) as call:
        viewer = call.watch()
        call.film(Stream(call.publisher, "VP8", 1111, mid="1", transport_wide=True), frames=45)
        changed = time.monotonic()
        other = Stream(call.publisher, "VP8", 3333, mid="1", transport_wide=True)
        call.film(other, frames=60, first=False)
        assert call.publisher.key_frames_asked(changed) > 0
        assert eventually(lambda: len(viewer.video(changed)) > 60), f"{len(viewer.video(changed))} of {other.sent}"


@pytest.mark.field(
    kind=SSRCS,
    seen="Simulcast of three SSRCs in a SIM group, without rids (pion/webrtc#2053, str0m#346)",
    source="RFC 3550 8, RFC 5576",
    cause="Every packet of another SSRC took the encoding over",
    mend="They are encodings, or all but one are ignored",
)
def test_a_sim_group_is_never_mixed(server):
    ssrcs = (11, 12, 13)
    announced = ("ssrc-group:SIM 11 12 13", *(f"ssrc:{ssrc} cname:x" for ssrc in ssrcs))
    with Call(server, [video(extra=announced)]) as call:
        viewer = call.watch()
        cameras = [Stream(call.publisher, "VP8", ssrc, mid="1", transport_wide=True) for ssrc in ssrcs]
        call.film(*cameras, frames=90)
        seen = frames(viewer.video())
        assert len(seen) > 80, f"{len(seen)} of 90 frames"
        assert all(len(packets) == 2 for packets in seen.values()), "two packets make a frame"


@pytest.mark.field(
    kind=SSRCS,
    seen="A re-offer announces another SSRC for the camera, whose packets have no mid",
    source="RFC 9143 9.2, RFC 5576 4.1",
    cause="SSRCs of a later offer were taken only with other rids",
    mend="They are taken",
)
def test_a_new_offer_may_change_an_ssrc(server):
    def lines(camera):
        return [video("0", ssrc=camera, extensions=()), video("1", ssrc=200, extensions=())]

    room = f"reoffer-{random_text(8)}"
    tracks = [{"mid": "0", "source": "camera"}, {"mid": "1", "source": "screen"}]
    slots = [video("0", "recvonly", rtx=True), video("1", "recvonly", rtx=True)]
    with Participant(server, room, lines(100), tracks) as ada, Participant(server, room, slots, name="Bo") as bo:
        screen = Stream(ada, "VP8", 200)
        film([(ada, Stream(ada, "VP8", 100)), (ada, screen)], frames=45)
        assert ada.offer_again(lines(101))["type"] == "answer"
        changed = time.monotonic()
        film([(ada, Stream(ada, "VP8", 101)), (ada, screen)], frames=60)
        arrived = [packet.ssrc for packet in bo.video(changed)]
        by_slot = {ssrc: arrived.count(ssrc) for ssrc in set(arrived)}
        assert len(by_slot) == 2 and min(by_slot.values()) > 60, f"{by_slot} of 120 each"


@pytest.mark.field(
    kind=SSRCS,
    seen="Rids are negotiated and never sent, SSRCs and their group are (str0m#346, livekit#166)",
    source="RFC 5576",
    cause="SSRCs were forgotten where there are rids",
    mend="The announced SSRCs are taken for the rids, in their order",
)
def test_rids_that_never_come(server):
    rids = ("rid:q send", "rid:h send", "simulcast:send q;h")
    announced = ("ssrc:11 cname:x", "ssrc:12 cname:x", "ssrc-group:SIM 11 12")
    line = video(extensions=("mid", "transport-wide", "rid", "repaired rid"), extra=rids + announced)
    with Call(server, [line]) as call:
        viewer = call.watch()
        cameras = [Stream(call.publisher, "VP8", ssrc, mid="1") for ssrc in (11, 12)]
        call.film(*cameras, frames=60)
        assert len(viewer.video()) > 90, f"{len(viewer.video())} of the 120 packets of either"


@pytest.mark.field(
    kind="Unknown payload types",
    seen="Three telephone-event packets, which were not negotiated, after every tenth of sound",
    source="RFC 3550 5.1, RFC 4585 6.2.1",
    cause="Their sequence numbers were not noted",
    mend="They are neither asked for again nor holes in what viewers get",
)
def test_an_unknown_payload_type_is_no_loss(server):
    with Call(server, [audio(ssrc=77)]) as call:
        viewer = call.watch()
        microphone = Stream(call.publisher, "opus", 77, mid="0")
        for index in range(100):
            microphone.sound()
            if index % 10 == 9:
                for _ in range(3):
                    microphone.packet(b"\x05\x0a\x03\xc0", payload_type=126)
            time.sleep(0.02)
        assert eventually(lambda: len(viewer.audio()) >= 100), f"{len(viewer.audio())} of 100"
        asked = [number for report in call.publisher.reports for number in report.lost()]
        assert asked == [], "nothing was lost"
        assert holes(viewer.audio()) == 0


@pytest.mark.field(
    kind="nack without RTX",
    seen="A viewer without RTX asks for a packet (older Firefox, GStreamer; livekit#4533, srs#2371)",
    source="RFC 4585 4.2 and 6.2.1",
    cause="The answer promised nack, and nothing came",
    mend="The very same packet is sent again",
)
def test_nack_without_rtx_is_served(server):
    with Call(server, [video(ssrc=1111, rtx_ssrc=2222)]) as call:
        viewer = call.watch([video("1", "recvonly")])
        call.film(Stream(call.publisher, "VP8", 1111, mid="1"), frames=45)
        assert "a=rtcp-fb:96 nack\r\n" in viewer.answer
        wanted = viewer.video()[-6]
        viewer.send_rtcp(rtcp.nack(wanted.ssrc, wanted.sequence))

        # libsrtp takes the same packet for a replay, which tells that it is the same.
        assert eventually(lambda: wanted.sequence in viewer.replayed), viewer.state()


@pytest.mark.field(
    kind="Sender reports",
    seen="A publisher that sends none (OBS 30: ossrs/srs#3582)",
    source="RFC 3550 6.4",
    cause="The server's reports followed the publisher's",
    mend="It makes its own",
)
def test_viewers_get_sender_reports(server):
    with Call(server, [audio(ssrc=77), video(ssrc=1111)]) as call:
        viewer = call.watch()
        microphone = Stream(call.publisher, "opus", 77, mid="0")
        camera = Stream(call.publisher, "VP8", 1111, mid="1")
        call.film(camera, frames=120, each=lambda: microphone.sound(samples=1600))
        reported = {report.about for report in viewer.reports if report.kind == rtcp.SENDER_REPORT}
        received = {viewer.video()[0].ssrc, viewer.audio()[0].ssrc}
        assert reported >= received


@pytest.mark.field(
    kind="Feedback that was not negotiated",
    seen="A publisher that negotiates `ccm fir` and not `nack pli` (conferencing hardware)",
    source="RFC 4585 4.2, RFC 5104 3.5.1",
    cause="Key frames were always asked for by PLI",
    mend="By FIR, where that is what was negotiated",
)
def test_fir_where_fir_was_negotiated(server):
    line = video(ssrc=1111, feedback=("ccm fir", "nack"), extensions=())
    with Call(server, [line]) as call:
        viewer = call.watch()
        camera = Stream(call.publisher, "VP8", 1111)
        call.film(camera, frames=30)
        asked = time.monotonic()
        viewer.send_rtcp(rtcp.picture_loss(viewer.video()[-1].ssrc))
        call.film(camera, frames=20, obey=False, first=False)
        requests = [report for report in call.publisher.reports_since(asked) if report.is_key_frame_request()]
        assert {report.format for report in requests} == {rtcp.FIR}


@pytest.mark.field(
    kind="Datagrams that do not fit",
    seen="Datagrams that fill Ethernet (pion/webrtc#2927, webrtcsink#102)",
    source="RFC 8085 3.2",
    cause="Extensions that the server adds made them larger than the path takes",
    mend="Extensions are left out where they do not fit, and IP fragments the rest",
)
@pytest.mark.parametrize("datagram", [1228, 1443, 1458, 1462])
def test_a_full_datagram_gets_through(server, datagram):
    """IP and UDP add 28 bytes to a datagram; Ethernet takes 1500."""
    with Call(server, [video(ssrc=1111, rtx_ssrc=2222, extensions=())]) as call:
        viewer = call.watch([video("1", "recvonly", rtx=True)])
        camera = Stream(call.publisher, "VP8", 1111)
        call.film(camera, frames=45, packets=1, size=datagram - RTP_HEADER - SRTP_TAG)
        assert eventually(lambda: len(viewer.video()) >= 43), f"{len(viewer.video())} of {camera.sent}"


def test_a_viewer_may_offer_what_everybody_has(server):
    """The other tests' own ground: sound and picture from a well-behaved client, whole and in order."""
    with Call(server, [audio(ssrc=77), video(ssrc=1111)]) as call:
        viewer = call.watch(EVERYTHING)
        microphone = Stream(call.publisher, "opus", 77, mid="0", transport_wide=True)
        camera = Stream(call.publisher, "VP8", 1111, mid="1", transport_wide=True)
        call.film(camera, frames=60, each=lambda: microphone.sound(samples=1600))
        assert len(viewer.audio()) > 55 and holes(viewer.audio()) == 0
        assert len(viewer.video()) > 110 and holes(viewer.video()) == 0
