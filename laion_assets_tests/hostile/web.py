"""The hostile web servers: http on port 80 and TLS on 443 of every address in the namespace, and the crawl's site."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path

from laion_assets_tests.hostile.answers import IMAGE, KINDS, LASTS_S, redirect, repeat, silence
from laion_assets_tests.hostile.crawl import HostileCrawl
from laion_assets_tests.stages.image_shards.site import Site, Talk, answer

SECRET = answer(b"SAMPLE_ID|URL|TEXT|similarity\nSECRET|http://x.test/|token|0.3\n")


def pages_of(crawl: HostileCrawl) -> dict[str, Talk]:
    """Return the pages of every host by path. Private services respond with a secret."""
    pages = {f"/{name}.jpg": kind.talk for name, kind in KINDS.items() if kind.talk is not None}
    pages |= {"/healthy.jpg": answer(IMAGE), "/latest/meta-data/iam": SECRET, "/": SECRET, "/metadata": SECRET}
    pages |= {f"/csv/{name}": answer(body) for name, body in crawl.files.items()} | crawl.pages
    pages["/csv/bad.csv"] = redirect("/csv/bad.csv")
    pages["/csv/"] = answer(crawl.listing, "200 OK", "Content-Type: application/json")
    return pages


def serve(crawl: HostileCrawl, trusted: Path, other: Path) -> list[Site]:
    """Start to listen. `trusted` and `other` are PEM files of a trusted and an untrusted certificate."""
    pages = pages_of(crawl)
    sites = []
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        sites.append(Site(_listener(family, address, 80), pages, None))
        tls = _listener(family, address, 443)
        threading.Thread(target=_accept_tls, args=(tls, pages, trusted, other), daemon=True).start()
    return sites


def _listener(family: int, address: str, port: int) -> socket.socket:
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind((address, port))
    listener.listen(512)
    return listener


def _accept_tls(listener: socket.socket, pages: dict[str, Talk], trusted: Path, other: Path) -> None:
    contexts = {}
    for path in (trusted, other):
        contexts[path] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        contexts[path].load_cert_chain(path)

    def converse(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            sock.settimeout(LASTS_S)
            hello = sock.recv(4_096, socket.MSG_PEEK)
            if b"tls-silent-" in hello:
                silence(sock)
                sock.recv(65_536)
                silence(sock)
            elif b"tls-garbage-" in hello:
                repeat(b"\x16\x03\x03\x40\x00", bytes(range(256)))(sock)
            elif b"tls-plain-" in hello:
                answer(IMAGE)(sock)
            else:
                context = contexts[other if b"tls-self-" in hello else trusted]
                with context.wrap_socket(sock, server_side=True) as secure:
                    path = secure.recv(65_536).split(b" ", 2)[1].decode("latin-1").partition("?")[0]
                    pages.get(path, answer(b"", "404 Not Found"))(secure)

    while True:
        sock, _ = listener.accept()
        threading.Thread(target=converse, args=(sock,), daemon=True).start()
