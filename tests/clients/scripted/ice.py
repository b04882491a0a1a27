"""The controlling side of ICE towards an ICE-lite server: connectivity checks (RFC 8445, RFC 8489)."""

import hashlib
import hmac
import os
import struct
import zlib

MAGIC_COOKIE = 0x2112A442
BINDING_REQUEST = 0x0001
BINDING_SUCCESS = 0x0101
USERNAME = 0x0006
MESSAGE_INTEGRITY = 0x0008
PRIORITY = 0x0024
USE_CANDIDATE = 0x0025
FINGERPRINT = 0x8028
ICE_CONTROLLING = 0x802A
FINGERPRINT_XOR = 0x5354554E

# A peer reflexive candidate's (RFC 8445 section 5.1.2.1): type preference 110, the best local one.
DEFAULT_PRIORITY = (110 << 24) | (65535 << 8) | 255
TIE_BREAKER = bytes(7) + b"\x01"


def binding_request(username: str, password: str, priority: int = DEFAULT_PRIORITY, nominate: bool = True) -> bytes:
    """A check that nominates its pair, unless told not to."""
    message = _header(0) + os.urandom(12)
    message += _attribute(USERNAME, username.encode())
    message += _attribute(PRIORITY, struct.pack("!I", priority))
    message += _attribute(ICE_CONTROLLING, TIE_BREAKER)
    if nominate:
        message += _attribute(USE_CANDIDATE, b"")
    # Each of the last two is computed with the length that the message has with it.
    signed = _header(len(message) - 20 + 24) + message[8:]
    message += _attribute(MESSAGE_INTEGRITY, hmac.new(password.encode(), signed, hashlib.sha1).digest())
    whole = _header(len(message) - 20 + 8) + message[8:]
    return whole + _attribute(FINGERPRINT, struct.pack("!I", zlib.crc32(whole) ^ FINGERPRINT_XOR))


def _header(length: int) -> bytes:
    return struct.pack("!HHI", BINDING_REQUEST, length, MAGIC_COOKIE)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)
