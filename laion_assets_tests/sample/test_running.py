"""The process of the site starts, and ends with its block, with its parent, and on SIGTERM."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from laion_assets.errors import SourceError
from laion_assets.sample import running
from laion_assets.sample.running import running_site


def alive(process_id: int) -> bool:
    try:
        with open(f"/proc/{process_id}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_within(process_id: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not alive(process_id):
            return True
        time.sleep(0.02)
    return not alive(process_id)


def test_site_listens_only_on_loopback_and_ends_with_the_block() -> None:
    with running_site(pages=10) as site:
        assert site.source == "http://crawl.test/laion400m/"
        assert site.resolve == {"*.test": f"127.0.0.1:{site.port}"}
        socket.create_connection(("127.0.0.1", site.port)).close()
        # /proc/net/tcp: local address and port in hexadecimal, 0A is listening.
        with open("/proc/net/tcp") as table:
            listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
        assert [place for place in listening if place.endswith(f":{site.port:04X}")] == [f"0100007F:{site.port:04X}"]
    assert not alive(site.process_id)


INSTALLED = """
import sys
from pathlib import Path
sys.path = [path for path in sys.path if not (Path(path) / "laion_assets").is_dir()] + sys.argv[1:]
from laion_assets.sample import running
with running.running_site(pages=10):
    print(running.__file__)
"""


def test_site_starts_from_an_installed_package_next_to_a_module_with_a_standard_name(tmp_path: Path) -> None:
    installed = tmp_path / "site-packages"
    package = Path(running.__file__).parents[1]
    shutil.copytree(package, installed / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    # Like the package `dataclasses` of PyPI, which img2dataset requires and which is installed next to ours.
    (installed / "dataclasses.py").write_text("raise ImportError('not the standard module')")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", INSTALLED, str(installed)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed))


def test_site_ends_when_the_block_raises() -> None:
    with pytest.raises(RuntimeError, match="halfway"), running_site(pages=10) as site:
        raise RuntimeError("halfway")
    assert not alive(site.process_id)


@pytest.mark.parametrize("pipe_held", [False, True], ids=["pipe closed", "pipe held by a sibling"])
def test_site_ends_when_its_parent_is_killed(pipe_held: bool) -> None:
    """Also if a forked sibling survives and holds the other end of the pipe open."""
    fork = "pid = os.fork()\n    if not pid: time.sleep(30); os._exit(0)\n" if pipe_held else "pid = 0\n"
    code = (
        "import os, time, json\n"
        "from laion_assets.sample.running import running_site\n"
        "with running_site(pages=10) as site:\n"
        f"    {fork}"
        "    print(json.dumps([site.process_id, pid]), flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    site_id, sibling = json.loads(parent.stdout.readline())
    assert alive(site_id)
    parent.kill()
    parent.wait()
    try:
        assert gone_within(site_id, 3)
    finally:
        if sibling:
            os.kill(sibling, signal.SIGKILL)
        parent.stdout.close()


def test_site_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "laion_assets.sample.site", "--pages", "10"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HT")
            process.terminate()
            assert process.wait(1) == 0


def test_site_that_does_not_start_raises_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "START_TIMEOUT_S", 5.0)
    with pytest.raises(SourceError, match="did not start"), running_site(pages=0):
        pass
