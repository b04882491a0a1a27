"""Offers, written line by line: `offer(peer, [audio(...), video(...)])`."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Extension:
    number: int
    uri: str


# What a viewer of these tests finds header extensions by; publishers use the same.
EXTENSIONS = {
    "audio level": Extension(1, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
    "send time": Extension(2, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
    "transport-wide": Extension(3, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"),
    "mid": Extension(4, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    "rid": Extension(10, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
    "repaired rid": Extension(11, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"),
}


@dataclass(frozen=True)
class Codec:
    """A codec under the payload type that all of these tests give it."""

    payload_type: int
    encoding: str
    parameters: str = ""

    @property
    def clock_rate(self) -> int:
        return int(self.encoding.split("/")[1])


H264_PARAMETERS = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
AUDIO_CODECS = {
    "opus": Codec(111, "opus/48000/2", "minptime=10;useinbandfec=1"),
    "PCMU": Codec(0, "PCMU/8000"),
    "G722": Codec(9, "G722/8000"),
    "PCMA": Codec(8, "PCMA/8000"),
}
VIDEO_CODECS = {
    "VP8": Codec(96, "VP8/90000"),
    "VP9": Codec(98, "VP9/90000", "profile-id=0"),
    "H264": Codec(102, "H264/90000", H264_PARAMETERS),
    "AV1": Codec(45, "AV1/90000", "level-idx=5;profile=0;tier=0"),
    "H265": Codec(104, "H265/90000", "level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST"),
}
CODECS = AUDIO_CODECS | VIDEO_CODECS
VIDEO_FEEDBACK = ("transport-cc", "ccm fir", "nack", "nack pli")


@dataclass(frozen=True)
class Line:
    """An m-line. Without a `mid`, it has none."""

    mid: str | None
    media: str
    payload_types: list[int]
    attributes: list[str] = field(default_factory=list)
    profile: str = "UDP/TLS/RTP/SAVPF"


def audio(
    mid: str | None = "0",
    direction: str = "sendonly",
    codecs: tuple[str, ...] = ("opus",),
    ssrc: int | None = None,
    extensions: tuple[str, ...] = ("mid", "transport-wide", "audio level"),
    extra: tuple[str, ...] = (),
) -> Line:
    attributes = [direction, "rtcp-mux"]
    for codec in (AUDIO_CODECS[name] for name in codecs):
        attributes += _codec(codec, ("transport-cc", "nack"))
    attributes += _extensions(extensions) + list(extra) + _source(ssrc, "audio")
    return Line(mid, "audio", [AUDIO_CODECS[name].payload_type for name in codecs], attributes)


def video(
    mid: str | None = "1",
    direction: str = "sendonly",
    codecs: tuple[str, ...] = ("VP8",),
    ssrc: int | None = None,
    rtx: bool = False,
    rtx_ssrc: int | None = None,
    feedback: tuple[str, ...] = VIDEO_FEEDBACK,
    extensions: tuple[str, ...] = ("mid", "transport-wide", "send time"),
    extra: tuple[str, ...] = (),
) -> Line:
    """Retransmission by RTX is offered with `rtx` or an `rtx_ssrc`."""
    payload_types, attributes = [], [direction, "rtcp-mux", "rtcp-rsize"]
    for codec in (VIDEO_CODECS[name] for name in codecs):
        payload_types.append(codec.payload_type)
        attributes += _codec(codec, feedback)
        if rtx or rtx_ssrc:
            repair = codec.payload_type + 1
            payload_types.append(repair)
            attributes += [f"rtpmap:{repair} rtx/90000", f"fmtp:{repair} apt={codec.payload_type}"]
    attributes += _extensions(extensions) + list(extra) + _source(ssrc, "video")
    if ssrc and rtx_ssrc:
        attributes += [f"ssrc-group:FID {ssrc} {rtx_ssrc}", *_source(rtx_ssrc, "video")]
    return Line(mid, "video", payload_types, attributes)


def offer(peer, lines: list[Line], setup: str = "actpass", bundle: bool = True) -> str:
    """The offer of a peer: its ICE and its certificate on every m-line."""
    text = ["v=0", "o=- 4611731400430051336 2 IN IP4 127.0.0.1", "s=-", "t=0 0"]
    mids = [line.mid for line in lines if line.mid is not None]
    if bundle and mids:
        text.append("a=group:BUNDLE " + " ".join(mids))
    for line in lines:
        numbers = " ".join(map(str, line.payload_types))
        text += [
            f"m={line.media} 9 {line.profile} {numbers}",
            "c=IN IP4 0.0.0.0",
            f"a=ice-ufrag:{peer.ufrag}",
            f"a=ice-pwd:{peer.password}",
            f"a=fingerprint:{peer.certificate.fingerprint()}",
            f"a=setup:{setup}",
        ]
        if line.mid is not None:
            text.append(f"a=mid:{line.mid}")
        text += [f"a={attribute}" for attribute in line.attributes]
    return "\r\n".join(text) + "\r\n"


def live_lines(answer: str) -> int:
    """How many m-lines an answer has accepted."""
    return sum(line.startswith("m=") and line.split()[1] != "0" for line in answer.splitlines())


def _codec(codec: Codec, feedback: tuple[str, ...]) -> list[str]:
    number = codec.payload_type
    lines = [f"rtpmap:{number} {codec.encoding}"]
    lines += [f"rtcp-fb:{number} {kind}" for kind in feedback]
    if codec.parameters:
        lines.append(f"fmtp:{number} {codec.parameters}")
    return lines


def _extensions(names: tuple[str, ...]) -> list[str]:
    return [f"extmap:{EXTENSIONS[name].number} {EXTENSIONS[name].uri}" for name in names]


def _source(ssrc: int | None, track: str) -> list[str]:
    if ssrc is None:
        return []
    return [f"ssrc:{ssrc} cname:scripted", f"ssrc:{ssrc} msid:scripted {track}"]
