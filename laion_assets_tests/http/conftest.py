"""A TLS certificate for the tests of this folder, and deadlines that a busy machine does not move."""

import subprocess

import pytest

from laion_assets.http.busy_time import BusyTime


@pytest.fixture(autouse=True)
def _unmoved_deadlines(monkeypatch):
    monkeypatch.setattr(BusyTime, "add", lambda self, elapsed_s, tasks_per_core: None)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for a.test, its own CA."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=photos.test", "-addext", "subjectAltName=DNS:a.test"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key
