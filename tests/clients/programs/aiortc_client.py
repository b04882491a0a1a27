"""aiortc publishes FFmpeg's test picture and a tone, or decodes what it is sent.

Watching, it prints what it saw as JSON.
"""

import asyncio
import json
import sys
from pathlib import Path

from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import arguments  # noqa: E402
from media import Media  # noqa: E402
from whip_http import exchange  # noqa: E402

CONNECT_SECONDS = 15


async def run(options) -> Media:
    media = Media()
    peer = RTCPeerConnection()
    connected = asyncio.Event()
    tasks = []

    @peer.on("connectionstatechange")
    def changed() -> None:
        if peer.connectionState == "connected":
            connected.set()

    @peer.on("track")
    def receive(track) -> None:
        tasks.append(asyncio.ensure_future(watch(track, media)))

    if options.direction == "publish":
        peer.addTransceiver(MediaPlayer("sine=frequency=440:sample_rate=48000", format="lavfi").audio, "sendonly")
        picture = MediaPlayer("testsrc2=size=320x240:rate=30", format="lavfi").video
        prefer(peer.addTransceiver(picture, "sendonly"), "video", options.video)
    else:
        peer.addTransceiver("audio", "recvonly")
        prefer(peer.addTransceiver("video", "recvonly"), "video", options.video)
    await peer.setLocalDescription(await peer.createOffer())
    answer = await asyncio.to_thread(exchange, options.url, options.token, peer.localDescription.sdp)
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    try:
        await asyncio.wait_for(connected.wait(), CONNECT_SECONDS)
    except TimeoutError:
        raise SystemExit(f"not connected: ICE {peer.iceConnectionState}, all {peer.connectionState}") from None
    await asyncio.sleep(options.seconds)
    await peer.close()
    await asyncio.gather(*tasks)
    return media


def prefer(transceiver, kind: str, codec: str) -> None:
    capable = RTCRtpSender.getCapabilities(kind).codecs
    transceiver.setCodecPreferences([c for c in capable if c.mimeType in (f"{kind}/{codec}", f"{kind}/rtx")])


async def watch(track, media: Media) -> None:
    try:
        while True:
            media.add_frame(await track.recv())
    except MediaStreamError:
        pass  # The connection is closed.


if __name__ == "__main__":
    chosen = arguments.parse(__doc__, video=["VP8", "H264"])
    seen = asyncio.run(run(chosen))
    if chosen.direction == "watch":
        print(json.dumps(seen.as_json()))
