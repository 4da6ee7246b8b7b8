"""Invalid TLS: the row fails with its reason, nothing is sent, and there is no fallback to plain http."""

import datetime
import socket
import ssl
import struct
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http.fetch import fetch
from laion_assets.reasons import Reason
from laion_assets_tests.stages.image_shards.site import answer, running

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def make(folder, name, host="a.test", begins=NOW - DAY, ends=NOW + DAY, others=()):
    """A self-signed certificate for a host, and others, and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(begins).not_valid_after(ends)
    names = [x509.DNSName(each) for each in (host, *others)]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    path = folder / f"{name}.pem"
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("name", "about", "trusted", "detail"),
    [
        ("good", {}, True, ""),
        ("expired", {"begins": NOW - 3 * DAY, "ends": NOW - DAY}, True, "certificate has expired"),
        ("early", {"begins": NOW + DAY, "ends": NOW + 2 * DAY}, True, "certificate is not yet valid"),
        ("self-signed", {}, False, "self-signed certificate"),
        ("wrong-host", {"host": "b.test"}, True, "Hostname mismatch, certificate is not valid for 'a.test'."),
    ],
)
def test_certificates(name, about, trusted, detail, tmp_path):
    certificate = make(tmp_path, name, **about)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with running({"/": answer(b"body")}, context) as site:
        policy = FetchPolicy(
            retries=2, resolve={"*": f"127.0.0.1:{site.port}"}, ca_file=str(certificate) if trusted else None
        )
        fetched = fetch("https://a.test/", policy)
        assert (fetched.reason, fetched.detail) == (Reason.TLS_FAILURE if detail else Reason.SUCCESS, detail)
        assert fetched.attempts == 1
        assert site.seen == ([] if detail else ["/"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(version, tmp_path):
    certificate = make(tmp_path, "old")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with running({"/": answer(b"body")}, context) as site:
        policy = FetchPolicy(retries=0, resolve={"*": f"127.0.0.1:{site.port}"}, ca_file=str(certificate))
        assert fetch("https://a.test/", policy).reason in (Reason.TLS_FAILURE, Reason.CONNECTION_RESET)
        assert site.seen == []


def test_a_reset_in_the_handshake():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset():
            sock, _ = listener.accept()
            sock.recv(100)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

        threading.Thread(target=reset, daemon=True).start()
        policy = FetchPolicy(retries=0, resolve={"*": f"127.0.0.1:{listener.getsockname()[1]}"})
        assert fetch("https://a.test/", policy).reason is Reason.CONNECTION_RESET
