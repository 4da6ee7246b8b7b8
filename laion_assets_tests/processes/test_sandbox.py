"""Operations that the decoder's sandbox denies: each layer alone, and the decoder process itself.

The child processes apply the sandbox as the decoder does, and then try an attacker's operations. Layers that the kernel
does not support are not applied; the tests expect those in `available`.
"""

import json
import os
import resource
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from laion_assets.processes import sandbox as decoder_sandbox
from laion_assets.stages.image_shards.decoding import decoder_process
from laion_assets.stages.image_shards.decoding.decoder_child import ANSWER
from laion_assets.stages.image_shards.decoding.decoder_process import Decoder, reencode
from laion_assets.stages.image_shards.decoding.reencoding import Reencoder
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets_tests.stages.image_shards.images import encode, jpeg, png16, scene

PHOTO = scene(300, 200, 2)
TRY = """
import ctypes, json, mmap, os, resource, signal, socket, sys, threading
from laion_assets.processes import sandbox as decoder_sandbox

library = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    if library.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

def ports():
    with socket.socket() as sock:
        sock.connect(("127.0.0.1", int(sys.argv[1])))

def unix():
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\\0" + sys.argv[2])

def fork():
    if os.fork() == 0:
        os._exit(0)

operations = {
    "open": lambda: open("/etc/passwd").close(),
    "create": lambda: open(sys.argv[3], "w").close(),
    "list": lambda: os.listdir("/"),
    "stat": lambda: os.stat("/etc/passwd"),
    "delete": lambda: os.unlink(sys.argv[4]),
    "process list": lambda: os.listdir("/proc"),
    "its own memory as a file": lambda: open("/proc/self/mem").close(),
    "socket": lambda: socket.socket().close(),
    "TCP": ports,
    "abstract socket": unix,
    "fork": fork,
    "thread": lambda: threading.Thread(target=int).start(),
    "exec": lambda: os.execv("/bin/sh", ["sh", "-c", "exit 0"]),
    "signal the parent": lambda: os.kill(os.getppid(), signal.SIGCONT),
    "signal by a descriptor": lambda: __import__("fcntl").fcntl(0, 8, os.getppid()),
    "trace": lambda: call(101, 16, os.getppid(), 0, 0),
    "read the parent's memory": lambda: call(310, os.getppid(), None, 0, None, 0, 0),
    "new program code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "a system call by its 32-bit number": lambda: call(0x40000000),
    "a later system call": lambda: call(462),
    "more file size": lambda: os.ftruncate(memory, 2 << 20),
    "more descriptors": lambda: [os.dup(0) for _ in range(100)],
}
chosen = json.loads(sys.argv[5])
memory = os.memfd_create("test")
MODE
results = {}
for name in chosen:
    try:
        operations[name]()
        results[name] = "done"
    except OSError as error:
        results[name] = error.errno
    except RuntimeError:
        results[name] = 1
os.write(1, json.dumps(results).encode())
"""
PREPARED = {
    "everything": "decoder_sandbox.enter(8 << 30, 1 << 20)",
    "files": "assert decoder_sandbox.forbid_privileges(); decoder_sandbox.restrict_files()",
    "system calls": "assert decoder_sandbox.forbid_privileges(); decoder_sandbox.restrict_system_calls()",
    "resources": "decoder_sandbox.limit_resources(8 << 30, 1 << 20)",
    "nothing": "",
}
LAYERS = decoder_sandbox.available()
BY_SYSTEM_CALLS = [
    "open", "create", "list", "stat", "delete", "process list", "its own memory as a file", "socket", "fork", "thread",
    "exec", "signal the parent", "signal by a descriptor", "trace", "read the parent's memory", "new program code",
    "a system call by its 32-bit number", "a later system call",
]  # fmt: skip
BY_FILES = ["open", "create", "list", "delete", "process list", "its own memory as a file", "exec"]
BY_RESOURCES = ["more file size", "more descriptors"]


def try_operations(tmp_path, mode, names):
    """Return the result of each operation, "done" or its error number, in a process with this part of the sandbox."""
    victim = tmp_path / "victim"
    victim.write_text("here")
    name = f"laion-assets-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0" + name)
        unix.listen()
        arguments = [str(server.getsockname()[1]), name, str(tmp_path / "made"), str(victim), json.dumps(names)]
        script = TRY.replace("MODE", PREPARED[mode])
        done = subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, timeout=60)
    if "delete" in names and mode != "nothing":
        assert victim.exists()
        assert not (tmp_path / "made").exists()
    return json.loads(done.stdout)


def test_all_operations_succeed_without_a_sandbox(tmp_path):
    """Shows that the operations fail only because of the sandbox."""
    names = [name for name in BY_FILES if name != "exec"]
    names += ["stat", "socket", "TCP", "abstract socket", "fork", "thread", "signal the parent", "new program code"]
    names += BY_RESOURCES
    assert try_operations(tmp_path, "nothing", names) == dict.fromkeys(names, "done")


@pytest.mark.parametrize("mode", ["everything", "system calls"])
def test_seccomp_denies_files_sockets_processes_and_signals(tmp_path, mode):
    wanted = dict.fromkeys(BY_SYSTEM_CALLS, 1) | {
        "a system call by its 32-bit number": 38, "a later system call": 38,
    }  # fmt: skip
    found = try_operations(tmp_path, mode, BY_SYSTEM_CALLS)
    assert (found == wanted) is ("seccomp" in LAYERS)


def test_landlock_alone_denies_files(tmp_path):
    found = try_operations(tmp_path, "files", BY_FILES)
    assert (set(found.values()) == {13}) is ("Landlock" in LAYERS)


def test_recent_landlock_alone_denies_connections_and_signals(tmp_path):
    version = int(LAYERS.partition("Landlock ")[2].partition(",")[0] or 0)
    found = try_operations(tmp_path, "files", ["TCP", "abstract socket", "signal the parent"])
    assert found["TCP"] == (13 if version >= 4 else "done")
    assert [found["abstract socket"], found["signal the parent"]] == ([1, 1] if version >= 6 else ["done", "done"])


def test_resource_limits_alone_limit_file_size_and_descriptors(tmp_path):
    assert try_operations(tmp_path, "resources", BY_RESOURCES) == {"more file size": 27, "more descriptors": 24}


def test_all_available_layers_are_applied():
    with Decoder(ImageSettings()):
        assert decoder_process.sandbox_in_force() == LAYERS
    process = psutil.Process(decoder_process.running_process())
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert f"Seccomp:\t{2 if 'seccomp' in LAYERS else 0}" in status
    for kind, bound in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 0), (resource.RLIMIT_NOFILE, 64)):
        assert resource.prlimit(process.pid, kind) == (bound, bound)
    assert resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1] < 1 << 30
    assert resource.prlimit(process.pid, resource.RLIMIT_AS)[1] < 8 << 30


def test_the_decoder_does_not_inherit_environment_and_descriptors(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LAION_ASSETS_ROOT", "s3://private")
    decoder_process._stop_running()
    with (tmp_path / "own").open("w"), Decoder(ImageSettings()):
        process = psutil.Process(decoder_process.running_process())
        variables = set(process.environ())
        files = {os.readlink(file) for file in Path(f"/proc/{process.pid}/fd").iterdir()}
    assert variables <= {
        "PYTHONPATH", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_LOG_LEVEL",
        "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE",
    }  # fmt: skip
    kinds = {file.partition(":")[0].partition(" ")[0] for file in files}
    assert kinds == {"/dev/null", "socket", "/memfd"}


FORMATS = {
    "jpeg": (jpeg(), "jpg"),
    "grey jpeg": (encode(PHOTO.convert("L"), "JPEG"), "jpg"),
    "CMYK jpeg": (encode(PHOTO.convert("CMYK"), "JPEG"), "jpg"),
    "progressive jpeg": (encode(PHOTO, "JPEG", progressive=True), "jpg"),
    "damaged jpeg": (jpeg()[:3_000] + b"\xff\x00" + jpeg()[3_002:], "jpg"),
    "large jpeg": (jpeg(3_000, 2_000), "jpg"),
    "png": (encode(PHOTO, "PNG"), "png"),
    "16-bit png": (png16(PHOTO), "png"),
    "webp": (encode(PHOTO, "WEBP"), "webp"),
    "lossless webp": (encode(PHOTO, "WEBP", lossless=True), "webp"),
    "gif": (encode(PHOTO.quantize(16), "GIF"), "jpg"),
    "bmp": (encode(PHOTO, "BMP"), "jpg"),
    "foreign": (encode(PHOTO, "TIFF"), "jpg"),
}


@pytest.mark.parametrize("exact", [False, True])
def test_every_format_has_the_same_result_in_the_sandbox(exact):
    for name, (data, kind) in FORMATS.items():
        images = ImageSettings(encode_format=kind, encode_quality=9 if kind == "png" else 90, exact_pixels=exact)
        assert reencode(images, data) == Reencoder(images)(data), name


WITHOUT_SECCOMP = """
import sys
if "laion_assets.stages.image_shards.decoding.decoder_child" in sys.orig_argv:
    from laion_assets.processes import sandbox as decoder_sandbox

    decoder_sandbox.restrict_system_calls = lambda: False
"""


def test_a_decoder_without_seccomp_is_reported(tmp_path, monkeypatch, caplog):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_SECCOMP)
    monkeypatch.syspath_prepend(str(tmp_path))
    decoder_process._stop_running()
    try:
        assert reencode(ImageSettings(), jpeg()).error_message is None
        layers = decoder_process.sandbox_in_force()
    finally:
        decoder_process._stop_running()
    assert "seccomp" not in layers
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"decoder sandbox: {layers}"
    ]


HOSTILE = """
import sys
if "laion_assets.stages.image_shards.decoding.decoder_child" in sys.orig_argv:
    import os
    import cv2, simplejpeg

    decode = simplejpeg.decode_jpeg

    def hostile(data, *arguments, **options):
        if bytes(data[-8:]) == b"LENGTHS!":
            os.write(int(sys.argv[1]), {answer!r})
        if bytes(data[-8:]) == b"SHRINK!!":
            os.ftruncate(int(sys.argv[2].split(",")[0]), 0)
        if bytes(data[-8:]) == b"GROWTH!!":
            os.ftruncate(int(sys.argv[2].split(",")[0]), 300_000_000)
        return decode(data, *arguments, **options)

    simplejpeg.decode_jpeg = hostile
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """Make decoders that write a given answer, or resize a shared file, if an image ends in a mark."""

    def make(answer):
        script = textwrap.dedent(HOSTILE).replace("{answer!r}", repr(ANSWER.pack(*answer)))
        (tmp_path / "sitecustomize.py").write_text(script)
        monkeypatch.syspath_prepend(str(tmp_path))
        decoder_process._stop_running()

    yield make
    decoder_process._stop_running()


@pytest.mark.parametrize(
    ("mark", "answer", "error"),
    [
        (b"LENGTHS!", (True, 1, 1, 1, 1, 1 << 40, -1), "decoder_crash: "),
        (b"LENGTHS!", (True, 1, 1, 1, 1, 5, 1 << 62), "decoder_crash: "),
        (b"LENGTHS!", (True, 1, 1, 1, 1, (1 << 64) - 1, -1), "decoder_crash: "),
        (b"LENGTHS!", (False, 1, 1, 1, 1, 1 << 19, -1), ""),
        (b"SHRINK!!", (True, 0, 0, 0, 0, 0, 0), "internal: PermissionError"),
    ],
)
def test_a_compromised_decoder_fails_only_its_image(hostile, mark, answer, error):
    """Whatever it answers, the worker neither crashes nor reads beyond the end of a file."""
    hostile(answer)
    found = reencode(ImageSettings(), jpeg() + mark)
    assert (found.content, found.width, found.original_width) == (None, None, None)
    assert found.error_message.startswith(error)
    assert len(found.error_message) <= 1_000 + len("internal: ")
    decoder_process._stop_running()
    assert reencode(ImageSettings(), jpeg()) == Reencoder(ImageSettings())(jpeg())


def test_a_shared_file_extended_by_the_decoder_accepts_larger_bodies(hostile):
    hostile((True, 0, 0, 0, 0, 0, -1))
    assert reencode(ImageSettings(), jpeg() + b"GROWTH!!") == Reencoder(ImageSettings())(jpeg())
    large = jpeg() + bytes(5_000_000)
    assert reencode(ImageSettings(), large) == Reencoder(ImageSettings())(large)
