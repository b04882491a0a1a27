"""WHIP (RFC 9725) and WHEP by hand: the status and the body of whatever the server says."""

import http.client
from dataclasses import dataclass

TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Response:
    status: int
    location: str | None
    body: str


def request(address: str, method: str, path: str, body: str = "", token: str | None = None) -> Response:
    """`address` is HOST:PORT of the server."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)
    headers = {"Content-Type": "application/sdp"} if body else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, path, body.encode() or None, headers)
        response = connection.getresponse()
        return Response(response.status, response.getheader("Location"), response.read().decode())
    finally:
        connection.close()
