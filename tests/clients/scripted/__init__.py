"""A WebRTC client by hand, which shares no code with the server or with any browser.

It writes its own SDP, checks ICE paths, shakes hands by OpenSSL, protects media by libsrtp and
sends whatever RTP and RTCP a test asks for: also what no well-behaved client would.

- `call`: a publisher over WHIP and its viewers over WHEP, in a room of their own.
- `participant`: somebody who joins over the WebSocket.
- `peer`: one connection. Below it `ice`, `dtls`, `rtp`, `rtcp`; beside it `sdp` and `stream`.
"""
