"""nginx on loopback as a thousand web sites. Every host has its own loopback address and certificate.

nginx listens on loopback addresses only, so other machines cannot connect. A client that trusts `ca_file` (the usual
CAs and a test CA) can verify every host.
"""

import contextlib
import datetime
import ipaddress
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

START_S = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class PhotoSite:
    """A running nginx. `hosts` are addresses; both ports are open on each of them."""

    hosts: tuple[str, ...]
    http_port: int
    https_port: int
    ca_file: Path
    process: int

    def url(self, scheme: str, host: str, path: str) -> str:
        """Return the URL of a path on a host."""
        return f"{scheme}://{host}:{self.http_port if scheme == 'http' else self.https_port}/{path}"

    def resolve(self, scheme: str) -> dict[str, str]:
        """Return the `resolve` setting that allows exactly these sites."""
        port = self.http_port if scheme == "http" else self.https_port
        return {host: f"{host}:{port}" for host in self.hosts}

    def cpu_s(self) -> float:
        """Return the CPU seconds, user and system, of nginx's processes so far."""
        return sum(_cpu_s(process) for process in [self.process, *_children(self.process)])


def addresses(count: int) -> tuple[str, ...]:
    """Return `count` loopback addresses other than 127.0.0.1."""
    return tuple(str(ipaddress.IPv4Address("127.1.0.0") + 1 + number) for number in range(count))


@contextlib.contextmanager
def running(photos: Path, work: Path, hosts: int, workers: int) -> Iterator[PhotoSite]:
    """Serve the files of `photos` at `hosts` addresses with `workers` nginx processes while the `with` body runs.

    Raises RuntimeError if nginx is missing or does not start.
    """
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        raise RuntimeError(
            "nginx is missing. Run: sudo apt-get install nginx-light (make bench-images does it as root)"
        )
    work.mkdir(parents=True)
    names = addresses(hosts)
    http_port, https_port = _find_free_ports()
    ca_file = _create_certificates(work, names)
    config = work / "nginx.conf"
    config.write_text(_config(photos, work, names, http_port, https_port, workers), encoding="utf-8")
    command = [nginx, "-e", str(work / "error.log"), "-p", str(work), "-c", str(config)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    try:
        ends = time.monotonic() + START_S
        while not _is_listening(names[-1], https_port):
            if process.poll() is not None or time.monotonic() > ends:
                log = (work / "error.log").read_text(encoding="utf-8")[-2_000:] if (work / "error.log").exists() else ""
                raise RuntimeError(f"nginx did not start: {log or 'its log is empty'}")
            time.sleep(0.05)
        yield PhotoSite(names, http_port, https_port, ca_file, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _config(photos: Path, work: Path, hosts: tuple[str, ...], http_port: int, https_port: int, workers: int) -> str:
    listens = "\n".join(f"    listen {host}:{http_port};" for host in hosts)
    secure = "\n".join(
        f"  server {{ listen {host}:{https_port} ssl; ssl_certificate {work}/certificates/{host}.pem; }}"
        for host in hosts
    )
    temporary = "\n".join(
        f"  {kind}_temp_path {work}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes {workers};
worker_rlimit_nofile {16_384 + 4 * len(hosts)};
pid {work}/nginx.pid;
error_log {work}/error.log crit;
events {{ worker_connections {8_192 + 2 * len(hosts)}; }}
http {{
{temporary}
  access_log off;
  sendfile on;
  tcp_nopush on;
  types {{ image/jpeg jpg; image/png png; image/webp webp; }}
  ssl_certificate_key {work}/certificates/key.pem;
  ssl_protocols TLSv1.2 TLSv1.3;
  root {photos};
  server {{
{listens}
  }}
{secure}
}}
"""


def _create_certificates(work: Path, hosts: tuple[str, ...]) -> Path:
    """Create a CA and a certificate for each host, with P-256 keys. Return the file of trusted CAs."""
    folder = work / "certificates"
    folder.mkdir()
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "laion-assets bench CA")])
    begins = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)

    def certificate(name: x509.Name, public: ec.EllipticCurvePublicKey, *extensions: x509.ExtensionType) -> bytes:
        builder = x509.CertificateBuilder(ca_name, name, public, x509.random_serial_number())
        builder = builder.not_valid_before(begins).not_valid_after(begins + datetime.timedelta(days=30))
        for extension in extensions:
            builder = builder.add_extension(extension, isinstance(extension, x509.BasicConstraints))
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = certificate(ca_name, ca_key.public_key(), x509.BasicConstraints(ca=True, path_length=0), identifier)
    for host in hosts:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        (folder / f"{host}.pem").write_bytes(certificate(name, key.public_key(), names, signer))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    trusted = work / "trusted.pem"
    trusted.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + ca)
    return trusted


def _find_free_ports() -> tuple[int, int]:
    """Return two ports that are free on every loopback address."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("", 0))
        other.bind(("", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _is_listening(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


def _children(process: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split()
        ]
    except OSError:
        return []


def _cpu_s(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
