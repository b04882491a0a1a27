"""FFmpeg's WHIP muxer, through PyAV, publishes FFmpeg's test picture in H.264 and a tone in Opus."""

import contextlib
import time

import av

import arguments

# As H.264 is in calls: no frames out of order, and parameter sets in the stream.
H264 = {"profile": "baseline", "preset": "ultrafast", "tune": "zerolatency", "bf": "0", "g": "60"}
GLOBAL_HEADER = 1 << 22


def publish(url: str, token: str, dtls: str) -> None:
    """Until it is interrupted."""
    muxer = {"authorization": token} | ({"whip_flags": "dtls_active"} if dtls == "active" else {})
    picture = av.open("testsrc2=size=320x240:rate=30", format="lavfi")
    tone = av.open("sine=frequency=440:sample_rate=48000:samples_per_frame=960", format="lavfi")
    with av.open(url, "w", format="whip", options=muxer) as output:
        video = output.add_stream("libx264", rate=30, options=H264)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        video.codec_context.flags |= GLOBAL_HEADER
        audio = output.add_stream("libopus", rate=48_000, layout="stereo")
        resampler = av.AudioResampler(format="s16", layout="stereo", rate=48_000, frame_size=960)
        sounds = (part for frame in tone.decode(audio=0) for part in resampler.resample(frame))
        began = time.monotonic()
        sound = next(sounds)
        for frame in picture.decode(video=0):
            output.mux(video.encode(frame.reformat(format="yuv420p")))
            while sound.time <= frame.time:
                output.mux(audio.encode(sound))
                sound = next(sounds)
            time.sleep(max(0.0, began + frame.time - time.monotonic()))


if __name__ == "__main__":
    chosen = arguments.parse(__doc__, dtls=["passive", "active"])
    if chosen.direction != "publish":
        raise SystemExit("FFmpeg has no WHEP")
    with contextlib.suppress(KeyboardInterrupt):
        publish(chosen.url, chosen.token, chosen.dtls)
