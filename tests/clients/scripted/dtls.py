"""DTLS-SRTP by OpenSSL and libsrtp (RFC 5764), with a certificate of any key."""

import datetime
from dataclasses import dataclass

import pylibsrtp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from pylibsrtp import Policy

RECORD_HEADER = 13
ALERT = 21
SSL_OP_NO_QUERY_MTU = 0x1000
# What OpenSSL may fill: below every path's MTU.
MTU = 1200
# The largest packet that libsrtp protects here; pylibsrtp's own limit is 1356 bytes.
LARGEST_PACKET = 4000

KEYS = {
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA 4096": lambda: rsa.generate_private_key(65537, 4096),
    "P-224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@dataclass(frozen=True)
class _Profile:
    number: int
    key: int
    salt: int


PROFILES = {
    b"SRTP_AES128_CM_SHA1_80": _Profile(Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14),
    b"SRTP_AES128_CM_SHA1_32": _Profile(Policy.SRTP_PROFILE_AES128_CM_SHA1_32, 16, 14),
    b"SRTP_AEAD_AES_128_GCM": _Profile(Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12),
    b"SRTP_AEAD_AES_256_GCM": _Profile(Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12),
}


class Certificate:
    """A self-signed certificate with a new key of the kind named in KEYS."""

    def __init__(self, kind: str = "P-256") -> None:
        self.key = KEYS[kind]()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scripted")])
        now = datetime.datetime.now(datetime.UTC)
        digest = None if kind == "Ed25519" else hashes.SHA256()
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .sign(self.key, digest)
        )

    def fingerprint(self) -> str:
        """As in `a=fingerprint`."""
        return "sha-256 " + self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()


class Session(pylibsrtp.Session):
    """One direction of SRTP, for packets of up to LARGEST_PACKET bytes."""

    def __init__(self, key: bytes, profile: _Profile, ssrc_type: int) -> None:
        policy = Policy(key=key, ssrc_type=ssrc_type, srtp_profile=profile.number)
        policy.allow_repeat_tx = True
        policy.window_size = 8192
        super().__init__(policy)
        self._cdata = pylibsrtp.ffi.new("char[]", LARGEST_PACKET)
        self._buffer = pylibsrtp.ffi.buffer(self._cdata)


class Handshake:
    """One DTLS association. In: datagrams. Out: datagrams, alerts, and the keys of SRTP."""

    def __init__(self, certificate: Certificate, profiles: bytes, is_client: bool, send) -> None:
        context = SSL.Context(SSL.DTLS_METHOD)
        # Any certificate: that of the server is not what is tested here.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(certificate.certificate)
        context.use_privatekey(certificate.key)
        context.set_tlsext_use_srtp(profiles)
        context.set_options(SSL_OP_NO_QUERY_MTU)
        self._connection = SSL.Connection(context)
        if is_client:
            self._connection.set_connect_state()
        else:
            self._connection.set_accept_state()
        self._connection.set_ciphertext_mtu(MTU)
        self._is_client = is_client
        self._send = send
        self.outgoing: Session | None = None
        self.incoming: Session | None = None
        self.alerts: list[str] = []
        self.error: str | None = None

    def step(self) -> bool:
        """Goes on as far as possible; True once the keys are there."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return False
        except SSL.Error as error:
            self._flush()
            self.error = f"DTLS: {error!r}"
            return False
        self._flush()
        self._take_keys()
        return True

    def receive(self, datagram: bytes) -> None:
        self._note_alerts(datagram)
        self._connection.bio_write(datagram)
        if self.outgoing is None:
            return
        try:
            self._connection.recv(LARGEST_PACKET)
        except SSL.ZeroReturnError:
            self.alerts.append("close_notify")
        except SSL.Error:
            pass  # Nothing to read: a retransmitted handshake message.

    def retransmit(self) -> None:
        """Sends again what the other side has not answered, when it is time."""
        timeout = self._connection.DTLSv1_get_timeout()
        if timeout is not None and timeout <= 0:
            self._connection.DTLSv1_handle_timeout()
            self._flush()

    def _note_alerts(self, datagram: bytes) -> None:
        """Alerts in the clear; those of an established association come as `close_notify`."""
        while len(datagram) > RECORD_HEADER:
            end = RECORD_HEADER + int.from_bytes(datagram[11:13], "big")
            if datagram[0] == ALERT and end == RECORD_HEADER + 2:
                level = {1: "warning", 2: "fatal"}.get(datagram[13], "?")
                self.alerts.append(f"{level} {datagram[14]}")
            datagram = datagram[end:]

    def _flush(self) -> None:
        """Sends what OpenSSL has written, several records in a datagram where they fit."""
        try:
            written = self._connection.bio_read(1 << 16)
        except SSL.WantReadError:
            return
        datagram = b""
        while written:
            end = RECORD_HEADER + int.from_bytes(written[11:13], "big")
            record, written = written[:end], written[end:]
            if datagram and len(datagram) + len(record) > MTU:
                self._send(datagram)
                datagram = b""
            datagram += record
        self._send(datagram)

    def _take_keys(self) -> None:
        profile = PROFILES[self._connection.get_selected_srtp_profile()]
        key, salt = profile.key, profile.salt
        material = self._connection.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
        # RFC 5764 section 4.2: both keys, then both salts, the client's first.
        client = material[:key] + material[2 * key : 2 * key + salt]
        server = material[key : 2 * key] + material[2 * key + salt :]
        mine, theirs = (client, server) if self._is_client else (server, client)
        self.incoming = Session(theirs, profile, Policy.SSRC_ANY_INBOUND)
        self.outgoing = Session(mine, profile, Policy.SSRC_ANY_OUTBOUND)
