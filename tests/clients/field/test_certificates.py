"""Clients whose certificate or handshake differs from a browser's."""

import pytest

from scripted.call import Call, Client, eventually
from scripted.dtls import KEYS, Certificate
from scripted.sdp import video
from scripted.stream import Stream

KIND = "Client certificates"
CAUSE = "The DTLS library asked for and verified P-256 and P-384 alone"
MEND = "A certificate of any sensible key is authenticated by its fingerprint"
SEEN = {
    "RSA 2048": "GStreamer, SipSorcery, generateCertificate of every browser",
    "P-521": "Devices with OpenSSL or mbedTLS, which may choose any curve",
    "P-224": "FFmpeg with GnuTLS",
}


def keys():
    for kind in KEYS:
        about = {"kind": KIND, "seen": SEEN.get(kind, "Others of the kind"), "cause": CAUSE, "mend": MEND}
        about["source"] = "W3C WebRTC generateCertificate, RFC 8827 6.5"
        yield pytest.param(kind, id=kind.replace(" ", "-"), marks=pytest.mark.field(**about) if kind in SEEN else ())


@pytest.mark.parametrize("kind", list(keys()))
def test_a_certificate_of_any_key_publishes_and_watches(server, kind):
    with Call(server, [video(ssrc=1111)], certificate=Certificate(kind)) as call:
        viewer = call.watch(certificate=Certificate(kind))
        call.film(Stream(call.publisher, "VP8", 1111, mid="1"), frames=30)
        assert len(viewer.video()) > 50, "30 frames of two packets each"


@pytest.mark.parametrize("kind", ["P-256", "RSA-2048"])
@pytest.mark.field(
    kind="DTLS role",
    seen="The media of FFmpeg's WHIP muxer, after the answer",
    source="RFC 5763 5",
    cause="The server was a DTLS server only",
    mend="The server shakes hands as the client where the offer is passive",
)
def test_a_client_may_be_the_dtls_server(server, kind):
    certificate = Certificate(kind.replace("A-", "A "))
    with Call(server, [video(ssrc=1111)], setup="passive", certificate=certificate) as call:
        viewer = call.watch(setup="passive", certificate=certificate)
        call.film(Stream(call.publisher, "VP8", 1111, mid="1"), frames=30)
        assert len(viewer.video()) > 50


@pytest.mark.field(
    kind="No alert",
    seen='A client that has no SRTP profile of the server\'s sits in "connecting"',
    source="RFC 5246 7.2.2, RFC 5764 4.1.1",
    cause="A handshake that failed ended in silence",
    mend="It ends with a fatal alert",
)
def test_a_handshake_that_cannot_succeed_ends_with_an_alert(server):
    client = Client(server, "/whip/alert", [video(ssrc=1111)], profiles=b"SRTP_AES128_CM_SHA1_32")
    client.begin(client.answer)
    assert eventually(lambda: client.handshake and client.handshake.alerts), client.state()
    assert client.handshake.alerts[0].startswith("fatal")
    assert not client.is_connected()
    client.leave()
