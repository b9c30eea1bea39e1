"""A client of the streams of `subresources.kubevirt.io`: console, screen and forwarded ports.

Written from the description of the peer's API alone, by somebody who had not seen this project's server. A stream is a WebSocket with the
subprotocol `plain.kubevirt.io`, whose binary frames are the bytes. It goes through the API server, with what a kubeconfig holds: a client's
certificate or a token.
"""

import base64
import io
import ssl
import struct
import time
from urllib.parse import urlsplit

import requests
from kubernetes import client, config
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

PROTOCOL = "plain.kubevirt.io"
# How browsers, which can't set headers, bring a token; the API server takes it away.
TOKEN_PROTOCOL = "base64url.bearer.authorization.k8s.io."
# The encoding of RFB that every server has: pixels as they are.
RAW = 0


class Access:
    """The API server, and the right to talk to it, of the kubeconfig that KUBECONFIG names."""

    def __init__(self):
        settings = client.Configuration()
        config.load_kube_config(client_configuration=settings)
        self.host = settings.host.rstrip("/")
        self.authority = settings.ssl_ca_cert
        self.certificate = (settings.cert_file, settings.key_file) if settings.cert_file else None
        self.authorization = settings.get_api_key_with_prefix("authorization")

    def headers(self):
        return {"Authorization": self.authorization} if self.authorization else {}

    def tls(self):
        context = ssl.create_default_context(cafile=self.authority)
        if self.certificate:
            context.load_cert_chain(*self.certificate)
        return context

    def get(self, path):
        """The answer to a plain request."""
        answer = requests.get(
            self.host + path, headers=self.headers(), verify=self.authority, cert=self.certificate, timeout=60
        )
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return answer


class Stream:
    """The bytes of a stream. Its end is the end of what `rest` reads, and a failure for the other readers."""

    def __init__(self, access, path, deadline, browser=False):
        """Opens it. While the machine does not run yet the server says 400: tries again each second until then."""
        self.deadline = deadline
        headers, protocols = access.headers(), [PROTOCOL]
        if browser:
            token = headers.pop("Authorization").removeprefix("Bearer ")
            protocols.append(TOKEN_PROTOCOL + base64.urlsafe_b64encode(token.encode()).decode().rstrip("="))
        address = "wss://" + urlsplit(access.host).netloc + path
        while True:
            try:
                self.socket = connect(
                    address, ssl=access.tls(), subprotocols=protocols, additional_headers=headers, max_size=None
                )
                break
            except InvalidStatus as error:
                said = f"{path}: {error.response.status_code} {error.response.body!r}"
                assert error.response.status_code == 400 and time.monotonic() < deadline, said
                time.sleep(1)
        assert self.socket.subprotocol == PROTOCOL, self.socket.subprotocol
        self.bytes = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()

    def write(self, data):
        self.socket.send(data)

    def more(self):
        try:
            frame = self.socket.recv(timeout=max(0, self.deadline - time.monotonic()))
        except TimeoutError as error:
            raise AssertionError(f"nothing more came; so far {bytes(self.bytes[-2000:])!r}") from error
        assert isinstance(frame, bytes), f"a frame of text: {frame!r}"
        self.bytes += frame

    def take(self, count):
        taken = bytes(self.bytes[:count])
        del self.bytes[:count]
        return taken

    def read(self, count):
        """So many bytes."""
        while len(self.bytes) < count:
            self.more()
        return self.take(count)

    def until(self, words):
        """All up to these words, and they."""
        while words not in self.bytes:
            self.more()
        return self.take(self.bytes.index(words) + len(words))

    def rest(self):
        """All until the server closes the stream."""
        try:
            while True:
                self.more()
        except ConnectionClosed:
            return self.take(len(self.bytes))


def greet(stream):
    """Shakes hands as RFC 6143, section 7, has it; gives width, height and bytes for each pixel of the screen."""
    greeting = stream.read(12)
    assert greeting == b"RFB 003.008\n", greeting
    stream.write(greeting)
    count = stream.read(1)[0]
    assert count, "no kind of security: " + stream.read(struct.unpack(">I", stream.read(4))[0]).decode()
    kinds = stream.read(count)
    assert 1 in kinds, f"none without a password: {list(kinds)}"
    stream.write(b"\x01")
    assert stream.read(4) == bytes(4), "the server refuses"
    # Others may look too.
    stream.write(b"\x01")
    width, height, bits = struct.unpack(">HHB15x", stream.read(20))
    stream.read(struct.unpack(">I", stream.read(4))[0])
    return width, height, bits // 8


def look(stream, width, height, pixel):
    """Asks for the whole screen; gives its pixels' bytes in the order in which they came."""
    stream.write(struct.pack(">BxHi", 2, 1, RAW))
    stream.write(struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
    kind, count = struct.unpack(">BxH", stream.read(4))
    assert kind == 0, f"message {kind} where a part of the screen was awaited"
    pixels = b""
    for _ in range(count):
        _x, _y, wide, high, encoding = struct.unpack(">HHHHi", stream.read(12))
        assert encoding == RAW, encoding
        pixels += stream.read(wide * high * pixel)
    return pixels


def screenshot(access, path):
    """The picture of the screen."""
    answer = access.get(path)
    picture = Image.open(io.BytesIO(answer.content), formats=["PNG"])
    picture.load()
    return picture


def page(stream, path):
    """Asks a web server at the other end for a page; gives its status line and its text."""
    stream.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    head, text = stream.rest().split(b"\r\n\r\n", 1)
    return head.split(b"\r\n")[0].decode(), text.decode()
