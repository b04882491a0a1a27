#!/usr/bin/env bash
# Makes the test video: four seconds of moving test picture, 640x360 at 30 frames a second,
# a key frame every two seconds, about 1 Mbit/s, in every codec that Confab forwards.
# Usage: make-test-media.sh DIRECTORY   (files that are already there are kept)
set -euo pipefail
out=${1:?"usage: make-test-media.sh DIRECTORY"}
command -v ffmpeg >/dev/null || { echo "ffmpeg is missing: apt-get install ffmpeg" >&2; exit 1; }
mkdir -p "$out"
part=
trap 'rm -f "$part"' EXIT

# make FILE ENCODER-OPTIONS...: written under another name first, so that an interrupted or a
# concurrent run never leaves half a file behind.
make() {
  local file=$out/$1
  shift
  [ -s "$file" ] && return
  part=$(mktemp --suffix=".${file##*.}" -p "$out")
  ffmpeg -nostdin -loglevel error -y \
    -f lavfi -i testsrc2=size=640x360:rate=30 -t 4 -pix_fmt yuv420p \
    -g 60 -keyint_min 60 -b:v 1M "$@" "$part"
  chmod 644 "$part"
  mv "$part" "$file"
}

# Zero lag and no alternate reference frames: one packet in, one shown frame out, as in a call.
make vp8.ivf -c:v libvpx -deadline realtime -cpu-used 8 -lag-in-frames 0 -auto-alt-ref 0 -f ivf
make vp9.ivf -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -auto-alt-ref 0 -f ivf
make av1.ivf -c:v libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0 -f ivf
make h264.h264 -c:v libx264 -profile:v baseline -preset veryfast -tune zerolatency -f h264
