"""Responses of the hostile hosts by kind, and the allowed reasons of the rows of each kind."""

import gzip
import socket
import struct
import time
import zlib
from dataclasses import dataclass

from laion_assets.reasons import Reason
from laion_assets_tests.stages.image_shards.decoding.test_exif import crowded, nested, with_exif
from laion_assets_tests.stages.image_shards.decoding.test_still_image import (
    PNG_BOMBS,
    encode,
    hostile_apng,
    many_scans,
    scene,
    with_chunks,
)
from laion_assets_tests.stages.image_shards.images import jpeg, png_bomb
from laion_assets_tests.stages.image_shards.site import Talk, answer, raw

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LASTS_S = 60.0
"""Maximum duration of one response, in seconds."""
IMAGE = jpeg(120, 90, 7)


def repeat(start: bytes, piece: bytes, pause_s: float = 0.0) -> Talk:
    """Return a response of `start` and then `piece` repeatedly until the client disconnects."""

    def talk(sock: socket.socket) -> None:
        ends = time.monotonic() + LASTS_S
        sock.sendall(start)
        while time.monotonic() < ends:
            sock.sendall(piece)
            time.sleep(pause_s)

    return talk


def silence(sock: socket.socket) -> None:
    sock.settimeout(LASTS_S)
    sock.recv(1)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def redirect(location: str) -> Talk:
    return raw(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location.encode("latin-1") + b"\r\n\r\n")


def gzip_zeros(mebibytes: int) -> bytes:
    """Return a gzip file of zeros, compressed to a thousandth."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(mebibytes)), packer.flush()])


@dataclass(frozen=True)
class Kind:
    """A kind of hostile row. `{n}` in `url` is the row's number. `talk` serves `/KIND.jpg` (None: a good image)."""

    url: str
    reasons: frozenset[Reason]
    talk: Talk | None = None


def _http(talk: Talk, *reasons: Reason) -> Kind:
    return Kind("http://{kind}-{n}.test/{kind}.jpg?{n}", frozenset(reasons), talk)


def _dns(*reasons: Reason) -> Kind:
    return Kind("http://{kind}-{n}.test/healthy.jpg?{n}", frozenset(reasons))


def _to(location: str, *reasons: Reason) -> Kind:
    return _http(redirect(location), *(reasons or (Reason.BLOCKED_ADDRESS,)))


def _url(url: str, *reasons: Reason) -> Kind:
    return Kind(url, frozenset(reasons or (Reason.BLOCKED_ADDRESS,)))


R = Reason
SECRET = "/latest/meta-data/iam"
PHOTO = scene(60, 40, 5)
KINDS: dict[str, Kind] = {
    # bodies
    "endless": _http(repeat(OK + b"\r\n", b"x" * 65_536), R.TOO_LARGE),
    "endless-chunks": _http(repeat(CHUNKED, b"10000\r\n" + b"x" * 65_536 + b"\r\n"), R.TOO_LARGE),
    "tiny-chunks": _http(repeat(CHUNKED, b"1\r\nx\r\n" * 5_000), R.TOO_LARGE),
    "slow-bytes": _http(repeat(OK + b"Content-Length: 90000\r\n\r\n", b"x", 0.5), R.DEADLINE),
    "short": _http(answer(IMAGE, length=len(IMAGE) + 1_000), R.SHORT_BODY),
    "announced": _http(raw(OK + b"Content-Length: 1000000000000000\r\n\r\nx"), R.TOO_LARGE),
    "digits": _http(raw(OK + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\nx"), R.BAD_RESPONSE),
    "negative": _http(raw(OK + b"Content-Length: -1\r\n\r\nx"), R.BAD_RESPONSE),
    "two-lengths": _http(raw(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy"), R.BAD_RESPONSE),
    "gzip-bomb": _http(answer(gzip_zeros(50), "200 OK", "Content-Encoding: gzip"), R.TOO_LARGE),
    "gzip-members": _http(answer(gzip.compress(b"") * 2_000, "200 OK", "Content-Encoding: gzip"), R.BAD_ENCODING),
    # heads
    "headers": _http(repeat(OK, b"X: y\r\n" * 1_000), R.TOO_LARGE),
    "long-header": _http(repeat(OK + b"X: ", b"y" * 65_536), R.TOO_LARGE),
    "slow-headers": _http(repeat(OK, b"X: y\r\n", 0.3), R.DEADLINE),
    "interim": _http(repeat(b"", b"HTTP/1.1 103 Early\r\nLink: <x>\r\n\r\n" * 100), R.TOO_LARGE),
    "slow-interim": _http(repeat(b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.3), R.DEADLINE, R.BAD_RESPONSE),
    "trailers": _http(repeat(CHUNKED + b"1\r\nx\r\n0\r\n", b"T: r\r\n" * 1_000), R.NOT_AN_IMAGE),
    "slow-trailers": _http(repeat(CHUNKED + b"1\r\nx\r\n0\r\n", b"T: r\r\n", 0.3), R.NOT_AN_IMAGE),
    "banner": _http(raw(b"SSH-2.0-OpenSSH_9.6\r\n"), R.BAD_RESPONSE),
    "silent": _http(silence, R.DEADLINE),
    "reset": _http(reset, R.CONNECTION_RESET, R.BAD_RESPONSE, R.SHORT_BODY),
    "later": _http(answer(b"", "503 Busy", "Retry-After: 99999999999999999999"), R.HTTP_5XX, R.HOST_BUSY),
    # redirects
    "to-loopback": _to(f"http://127.0.0.1{SECRET}"),
    "to-number": _to(f"http://2130706433{SECRET}"),
    "to-octal": _to(f"http://0177.0.0.1{SECRET}"),
    "to-hex": _to(f"http://0x7f.1{SECRET}"),
    "to-localhost": _to(f"http://localhost{SECRET}"),
    "to-v6": _to(f"http://[::1]{SECRET}"),
    "to-mapped": _to(f"http://[::ffff:169.254.169.254]{SECRET}"),
    "to-metadata": _to(f"http://169.254.169.254{SECRET}"),
    "to-azure": _to("http://168.63.129.16/metadata"),
    "to-private": _to("http://10.0.0.1/"),
    "to-name": _to(f"http://dns-loopback-1.test{SECRET}"),
    "to-metadata-name": _to(f"http://dns-metadata-1.test{SECRET}"),
    "to-rebind": _to(f"http://dns-rebind-99.test{SECRET}", R.NOT_AN_IMAGE, R.BLOCKED_ADDRESS),
    "to-port": _to("http://healthy-1.test:6379/", R.BLOCKED_PORT),
    "to-user": _to(f"http://healthy-1.test@127.0.0.1{SECRET}"),
    "to-file": _to("file:///etc/passwd", R.UNSUPPORTED_SCHEME, R.BAD_REDIRECT),
    "to-itself": _to("/to-itself.jpg", R.REDIRECT_LOOP, R.TOO_MANY_REDIRECTS),
    # URLs of rows
    "url-loopback": _url(f"http://127.0.0.1{SECRET}?{{n}}"),
    "url-number": _url(f"http://2130706433{SECRET}?{{n}}"),
    "url-localhost": _url(f"http://localhost{SECRET}?{{n}}"),
    "url-v6": _url(f"http://[::1]{SECRET}?{{n}}"),
    "url-metadata": _url(f"http://169.254.169.254{SECRET}?{{n}}"),
    "url-port": _url("http://healthy-{n}.test:22/?{n}", R.BLOCKED_PORT),
    # DNS
    "dns-private": _dns(R.BLOCKED_ADDRESS),
    "dns-loopback": _dns(R.BLOCKED_ADDRESS),
    "dns-metadata": _dns(R.BLOCKED_ADDRESS),
    "dns-azure": _dns(R.BLOCKED_ADDRESS),
    "dns-any": _dns(R.BLOCKED_ADDRESS),
    "dns-mapped": _dns(R.BLOCKED_ADDRESS),
    "dns-nat64": _dns(R.BLOCKED_ADDRESS),
    "dns-6to4": _dns(R.BLOCKED_ADDRESS),
    "dns-isatap": _dns(R.BLOCKED_ADDRESS),
    "dns-many": _dns(R.BLOCKED_ADDRESS, R.DNS_FAILURE),
    "dns-mixed": _dns(R.SUCCESS),
    "dns-rebind": _dns(R.SUCCESS, R.BLOCKED_ADDRESS),
    "dns-nx": _dns(R.DNS_FAILURE),
    "dns-servfail": _dns(R.DNS_FAILURE),
    "dns-refused": _dns(R.DNS_FAILURE),
    "dns-truncated": _dns(R.DNS_FAILURE),
    "dns-garbage": _dns(R.DNS_FAILURE),
    "dns-cut": _dns(R.DNS_FAILURE),
    "dns-wrong-id": _dns(R.DNS_FAILURE),
    "dns-loop": _dns(R.DNS_FAILURE),
    "dns-silent": _dns(R.DNS_FAILURE),
    "dns-slow": _dns(R.DNS_FAILURE),
    # TLS
    "tls-garbage": _url("https://tls-garbage-{n}.test/healthy.jpg?{n}", R.TLS_FAILURE, R.CONNECTION_RESET),
    "tls-plain": _url("https://tls-plain-{n}.test/healthy.jpg?{n}", R.TLS_FAILURE),
    "tls-self": _url("https://tls-self-{n}.test/healthy.jpg?{n}", R.TLS_FAILURE),
    "tls-silent": _url("https://tls-silent-{n}.test/healthy.jpg?{n}", R.DEADLINE),
    # images
    "png-bomb": _http(answer(png_bomb(100_000, 100_000)), R.TOO_MANY_PIXELS),
    "iccp-bomb": _http(answer(with_chunks(encode(PHOTO, "PNG"), [PNG_BOMBS["iCCP"]])), R.SUCCESS),
    "ztxt-bomb": _http(answer(with_chunks(encode(PHOTO, "PNG"), [PNG_BOMBS["zTXt"]])), R.SUCCESS),
    "apng": _http(answer(hostile_apng(6, 2_000, 2_000)), R.SUCCESS, R.UNDECODABLE),
    "scans": _http(answer(many_scans(5_000, 1_000, 700)), R.UNDECODABLE),
    "exif-values": _http(answer(with_exif(crowded(3))), R.SUCCESS),
    "exif-nested": _http(answer(with_exif(nested(0x8825))), R.SUCCESS),
    "svg": _http(answer(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), R.UNSUPPORTED_FORMAT),
    "html": _http(answer(b"<html>log in</html>"), R.NOT_AN_IMAGE, R.UNSUPPORTED_FORMAT),
}
HEALTHY = Kind("http://healthy-{n}.test/healthy.jpg?{n}", frozenset((R.SUCCESS,)))
HEALTHY_TLS = Kind("https://healthy-{n}.test/healthy.jpg?{n}", frozenset((R.SUCCESS,)))
