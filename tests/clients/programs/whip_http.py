"""The HTTP half of WHIP and WHEP, for programs that make their own offer."""

import urllib.request


def exchange(url: str, token: str | None, offer: str) -> str:
    """Posts the offer and gives the answer; raises an error with what the server said."""
    headers = {"Content-Type": "application/sdp"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, offer.encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{error.code}: {error.read().decode()}\nto the offer:\n{offer}") from error
