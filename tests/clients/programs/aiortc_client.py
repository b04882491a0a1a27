"""aiortc publishes FFmpeg's test picture and a tone, or decodes what it is sent.

Watching, it prints what it saw as JSON.
"""

import asyncio
import json
import signal
import time

from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer
from aiortc.mediastreams import MediaStreamError

import arguments
from media import PATIENCE_SECONDS, Media
from whip_http import exchange

POLL_SECONDS = 0.1


async def run(options) -> Media:
    media = Media()
    peer = RTCPeerConnection()
    tasks = []

    @peer.on("track")
    def receive(track) -> None:
        tasks.append(asyncio.ensure_future(watch(track, media)))

    if options.direction == "publish":
        tone = MediaPlayer("sine=frequency=440:sample_rate=48000", format="lavfi").audio
        prefer(peer.addTransceiver(tone, "sendonly"), "audio", options.audio)
        picture = MediaPlayer("testsrc2=size=320x240:rate=30", format="lavfi").video
        prefer(peer.addTransceiver(picture, "sendonly"), "video", options.video)
    else:
        prefer(peer.addTransceiver("audio", "recvonly"), "audio", options.audio)
        prefer(peer.addTransceiver("video", "recvonly"), "video", options.video)
    await peer.setLocalDescription(await peer.createOffer())
    answer = await asyncio.to_thread(exchange, options.url, options.token, peer.localDescription.sdp)
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not interrupted.is_set() and not media.is_enough(with_sound=True):
        if time.monotonic() > deadline:
            raise SystemExit(f"ICE {peer.iceConnectionState}, all {peer.connectionState}; seen so far: {media}")
        await asyncio.sleep(POLL_SECONDS)
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
    chosen = arguments.parse(__doc__, video=["VP8", "H264"], audio=["opus", "PCMU", "PCMA", "G722"])
    seen = asyncio.run(run(chosen))
    if chosen.direction == "watch":
        print(json.dumps(seen.as_json()))
