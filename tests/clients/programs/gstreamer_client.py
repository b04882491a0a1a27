"""GStreamer's webrtcbin publishes a test picture and a tone, or decodes what it is sent.

Watching, it prints what it saw as JSON.
"""

import array
import json
import signal

import gi

gi.require_versions({"Gst": "1.0", "GstWebRTC": "1.0", "GstSdp": "1.0"})
from gi.repository import GLib, Gst, GstSdp, GstWebRTC

import arguments
from media import PATIENCE_SECONDS, Media
from whip_http import exchange

# Without a key frame but the first and those that are asked for.
PICTURE = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=30/1"
    " ! vp8enc deadline=1 keyframe-max-dist=600 ! rtpvp8pay pt=96 picture-id-mode=2"
    " ! application/x-rtp,media=video,encoding-name=VP8,payload=96 ! peer."
)
TONE = (
    "audiotestsrc is-live=true freq=440 ! opusenc ! rtpopuspay pt=97"
    " ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! peer."
)
RECEIVABLE = (
    "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000,"
    "rtcp-fb-nack-pli=true,rtcp-fb-nack=true",
    "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2",
)
DECODE = {
    "video": "rtpvp8depay ! vp8dec ! videoconvert ! video/x-raw,format=I420 ! fakesink name=sink signal-handoffs=true",
    "audio": "rtpopusdepay ! opusdec ! audioconvert ! audio/x-raw,format=S16LE,channels=1"
    " ! fakesink name=sink signal-handoffs=true",
}
POLL_MS = 100


class Client:
    def __init__(self, options) -> None:
        self.options = options
        self.media = Media()
        self.failure: str | None = None
        self.loop = GLib.MainLoop()
        sources = [] if options.direction == "watch" else [PICTURE] if options.media == "picture" else [PICTURE, TONE]
        description = " ".join([f"webrtcbin name=peer bundle-policy={options.bundle}", *sources])
        self.elements = Gst.parse_bin_from_description(description, False)
        self.pipeline = Gst.Pipeline.new()
        self.pipeline.add(self.elements)
        self.peer = self.elements.get_by_name("peer")
        self.peer.connect("on-negotiation-needed", self.negotiate)
        self.peer.connect("notify::ice-gathering-state", self.gathered)
        self.peer.connect("notify::connection-state", self.connection_changed)
        self.peer.connect("pad-added", self.receive)
        if options.direction == "watch":
            for caps in RECEIVABLE[:1] if options.media == "picture" else RECEIVABLE:
                direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
                self.peer.emit("add-transceiver", direction, Gst.Caps.from_string(caps))

    def run(self) -> None:
        GLib.timeout_add(POLL_MS, self.look)
        GLib.timeout_add_seconds(PATIENCE_SECONDS, self.give_up)
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGINT, self.end)
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)
        if self.failure:
            raise SystemExit(self.failure)

    def negotiate(self, peer) -> None:
        peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.offer_made))

    def offer_made(self, promise) -> None:
        # The offer lives as long as the reply that it is from.
        self.reply = promise.get_reply()
        self.peer.emit("set-local-description", self.reply.get_value("offer"), Gst.Promise.new())

    def gathered(self, peer, _) -> None:
        if peer.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            GLib.idle_add(self.post)

    def post(self) -> bool:
        offer = self.peer.get_property("local-description").sdp.as_text()
        try:
            answer = exchange(self.options.url, self.options.token, offer)
        except SystemExit as refusal:
            return self.end(str(refusal))
        _, message = GstSdp.SDPMessage.new()
        GstSdp.sdp_message_parse_buffer(answer.encode(), message)
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.peer.emit("set-remote-description", description, None)
        return False

    def connection_changed(self, peer, _) -> None:
        if peer.get_property("connection-state") == GstWebRTC.WebRTCPeerConnectionState.FAILED:
            GLib.idle_add(self.end, "the connection failed")

    def receive(self, _, pad) -> None:
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        media = pad.get_current_caps().get_structure(0).get_string("media")
        decoder = Gst.parse_bin_from_description(DECODE[media], True)
        decoder.get_by_name("sink").connect("handoff", {"video": self.see, "audio": self.hear}[media])
        self.elements.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def see(self, _, buffer, pad) -> None:
        caps = pad.get_current_caps().get_structure(0)
        width, height = caps.get_value("width"), caps.get_value("height")
        data = buffer.extract_dup(0, buffer.get_size())
        # The plane of luma comes first; its lines are padded to four bytes.
        self.media.picture.add(width, height, data[: (width + 3) // 4 * 4 * height])

    def hear(self, _, buffer, pad) -> None:
        rate = pad.get_current_caps().get_structure(0).get_value("rate")
        self.media.sound.add(rate, array.array("h", buffer.extract_dup(0, buffer.get_size())))

    def look(self) -> bool:
        enough = self.media.is_enough(with_sound=self.options.media == "both")
        return self.end() if enough else True

    def give_up(self) -> bool:
        ice = self.peer.get_property("ice-connection-state").value_nick
        state = self.peer.get_property("connection-state").value_nick
        return self.end(f"ICE {ice}, all {state}; seen so far: {self.media}")

    def end(self, failure: str | None = None) -> bool:
        self.failure = failure
        self.loop.quit()
        return False


if __name__ == "__main__":
    chosen = arguments.parse(__doc__, bundle=["none", "max-bundle"], media=["picture", "both"])
    Gst.init(None)
    client = Client(chosen)
    client.run()
    if chosen.direction == "watch":
        print(json.dumps(client.media.as_json()))
