"""The decoder process: an image that crashes it fails alone, and the process ends with its parent.

The crashes are real: a `sitecustomize.py` on the import path makes the decoders read address 0, loop or allocate
endlessly in their process if a file ends in a mark.
"""

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from laion_assets.reasons import Reason
from laion_assets.stages.image_shards.decoding import decoder_process
from laion_assets.stages.image_shards.decoding.decoder_child import ANSWER, SLOTS, cpu_limit_s
from laion_assets.stages.image_shards.decoding.decoder_process import Decoder, reencode
from laion_assets.stages.image_shards.decoding.reencoded import Reencoded
from laion_assets.stages.image_shards.decoding.reencoding import Reencoder
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.workers.pool import run_tasks
from laion_assets_tests.stages.image_shards.images import jpeg, png_bomb
from laion_assets_tests.stages.image_shards.shards import committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running

IMAGES = ImageSettings(decode_cpu_s=1.0)
CRASHES = """
import sys
if "laion_assets.stages.image_shards.decoding.decoder_child" in sys.orig_argv:
    import ctypes, os, signal
    import cv2, simplejpeg

    def crash_at_marks(decode):
        def decode_until_mark(data, *arguments, **options):
            end = bytes(data[-8:])
            if end == b"SEGFAULT":
                ctypes.string_at(0)
            if end == b"ABORTED!":
                os.abort()
            while end == b"ENDLESS!":
                pass
            if end == b"MEMORY!!":
                bytearray(1 << 40)
            if end == b"SECONDS!":
                raise type(f"Left{round(signal.getitimer(signal.ITIMER_PROF)[0])}", (Exception,), {})
            return decode(data, *arguments, **options)

        return decode_until_mark

    cv2.imdecode = crash_at_marks(cv2.imdecode)
    simplejpeg.decode_jpeg = crash_at_marks(simplejpeg.decode_jpeg)
"""


@pytest.fixture
def crashing_decoder(tmp_path, monkeypatch):
    """Make decoder processes that start from now on crash at the marks."""
    (tmp_path / "sitecustomize.py").write_text(CRASHES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[4])]))
    decoder_process._stop_running()
    yield
    decoder_process._stop_running()


def resized(data, images=IMAGES):
    return reencode(images, data)


def test_the_result_equals_that_of_the_same_code_in_this_process():
    for data in (jpeg(), jpeg(1500, 1100), png_bomb(30_000, 30_000), b"<html>", b"", jpeg(4_000, 3_000, seed=3)):
        assert resized(data) == Reencoder(IMAGES)(data)


def test_one_process_serves_all_images_with_equal_settings():
    resized(jpeg())
    first = decoder_process.running_process()
    resized(jpeg(seed=1))
    assert decoder_process.running_process() == first
    resized(jpeg(), ImageSettings(image_size=128))
    assert decoder_process.running_process() != first
    assert not psutil.pid_exists(first)


@pytest.mark.parametrize(
    ("mark", "error"),
    [
        (b"SEGFAULT", "decoder_crash: the decoder ended by signal SIGSEGV"),
        (b"ABORTED!", "decoder_crash: the decoder ended by signal SIGABRT"),
        (b"ENDLESS!", "decode_timeout: the decoder's time is over"),
        (b"MEMORY!!", "decoder_crash: the memory bound of a decoder"),
    ],
)
def test_an_image_that_crashes_the_decoder_fails_alone_each_time(crashing_decoder, mark, error):
    for _ in range(2):
        image = resized(jpeg() + mark)
        assert (image.content, image.error_message) == (None, error)
        assert resized(jpeg()) == Reencoder(IMAGES)(jpeg())


def test_cpu_time_is_limited_in_proportion_to_the_pixels(crashing_decoder):
    images = ImageSettings()
    bounds = [cpu_limit_s(images, pixels) for pixels in (0, 20_000_000, 50_000_000, 100_000_000)]
    assert bounds == [2.0, 2.0, 5.0, 10.0]
    with Decoder(images) as decoder:
        process = psutil.Process(decoder_process.running_process())
        before = process.cpu_times()
        decoder.put(jpeg() + b"ENDLESS!")
        time.sleep(1.0)
        assert process.is_running()
        assert sum(process.cpu_times()[:2]) - sum(before[:2]) < 1.5
        assert decoder.take().reencoded.error_message == "decode_timeout: the decoder's time is over"


def test_a_large_image_gets_more_cpu_time(crashing_decoder):
    images = ImageSettings()
    for data, seconds in ((jpeg(), 2), (png_bomb(8_000, 5_000), 4), (png_bomb(10_000, 10_000), 10)):
        assert resized(data + b"SECONDS!", images).error_message == f"internal: Left{seconds}"


def test_answers_come_in_the_order_of_the_bodies(crashing_decoder):
    bodies = [jpeg(90 + n, 80, n) + (b"SEGFAULT" if n in (3, 4) else b"ENDLESS!" if n == 7 else b"") for n in range(12)]
    made = []
    with Decoder(IMAGES) as decoder:
        for body in bodies:
            while decoder.full:
                made.append(decoder.take().reencoded)
            decoder.put(body)
        assert decoder.full
        made += [decoder.take().reencoded for _ in range(SLOTS)]
    crash = Reencoded(reason=Reason.DECODER_CRASH, detail="the decoder ended by signal SIGSEGV")
    timeout = Reencoded(reason=Reason.DECODE_TIMEOUT, detail="the decoder's time is over")
    wanted = [Reencoder(IMAGES)(body) for body in bodies]
    wanted[3] = wanted[4] = crash
    wanted[7] = timeout
    assert made == wanted


def test_modules_in_the_current_folder_are_not_imported(tmp_path, monkeypatch):
    """A run's working folder may contain any file, also a `numpy.py`."""
    (tmp_path / "numpy.py").write_text("raise SystemExit(3)")
    (tmp_path / "struct.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    decoder_process._stop_running()
    assert resized(jpeg()) == Reencoder(IMAGES)(jpeg())


def test_an_unread_answer_is_not_taken_for_the_next_image():
    def leave_it():
        with Decoder(IMAGES) as decoder:
            decoder.put(jpeg(90, 80))
            decoder.put(jpeg(70, 80))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave_it()
    assert resized(jpeg()) == Reencoder(IMAGES)(jpeg())


def test_descriptors_of_an_ended_decoder_are_closed_once(crashing_decoder):
    """A closed descriptor is soon reused: closing it again would close another file."""
    resized(jpeg())
    for _ in range(3):
        others = []
        stop = decoder_process._DecoderProcess.stop

        def stop_and_let_others_open(self, stop=stop, others=others):
            stop(self)
            others.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(8))

        decoder_process._DecoderProcess.stop = stop_and_let_others_open
        try:
            resized(jpeg() + b"SEGFAULT")
        finally:
            decoder_process._DecoderProcess.stop = stop
        assert len(others) >= 16
        for file in others:
            os.close(file)


def test_a_process_killed_while_idle_is_replaced():
    resized(jpeg())
    os.kill(decoder_process.running_process(), signal.SIGKILL)
    assert resized(jpeg()) == Reencoder(IMAGES)(jpeg())


def test_an_image_whose_process_is_killed_is_tried_again(crashing_decoder):
    import threading

    images = ImageSettings(decode_cpu_s=0.5)
    resized(jpeg(), images)
    process = psutil.Process(decoder_process.running_process())
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(resized(jpeg() + b"ENDLESS!", images)))
    thread.start()
    time.sleep(0.2)
    process.kill()
    thread.join(20)
    assert outcome[0].error_message == "decode_timeout: the decoder's time is over", "the second try decides"


PARENT = """
import io, os, sys, time
from laion_assets.stages.image_shards.decoding import decoder_process
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets_tests.stages.image_shards.images import jpeg
images = ImageSettings(decode_cpu_s=60.0)
decoder_process.reencode(images, jpeg())
print(decoder_process.running_process(), flush=True)
if sys.argv[1] == "busy":
    decoder_process.reencode(images, jpeg() + b"ENDLESS!")
elif sys.argv[1] == "idle":
    time.sleep(60)
"""


@pytest.mark.parametrize(("act", "kill"), [("busy", signal.SIGKILL), ("idle", signal.SIGTERM), ("end", None)])
def test_the_process_ends_with_its_parent(crashing_decoder, tmp_path, act, kill):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    parent = subprocess.Popen([sys.executable, str(script), act], stdout=subprocess.PIPE)
    child = psutil.Process(int(parent.stdout.readline()))
    if kill is not None:
        time.sleep(0.2)
        parent.send_signal(kill)
    parent.communicate(timeout=10)
    _, alive = psutil.wait_procs([child], 5)
    assert not alive


def test_a_worker_builds_its_shard_despite_crashing_images(crashing_decoder, tmp_path):
    pages = {f"/{n}.jpg": answer(jpeg(200 + n, 150, n)) for n in range(12)}
    pages |= {"/3.jpg": answer(jpeg() + b"SEGFAULT"), "/7.jpg": answer(jpeg() + b"ABORTED!")}
    rows = [(f"http://photos.test/{n}.jpg", f"image {n}") for n in range(12)]
    with running(pages) as site:
        datasets = [dataset_of(tmp_path / name, rows, site.resolve, shards=2) for name in ("one", "other")]
        for dataset in datasets:
            outcomes = []
            assert run_tasks([ShardTask(dataset, shard) for shard in range(2)], 1, outcomes.append) == []
            assert sum(outcome.successes for outcome in outcomes) == 10
    tables = [pq.read_table(io.BytesIO(committed_files(datasets[0])[f"0000{shard}.parquet"])) for shard in range(2)]
    failed = [row for table in tables for row in table.to_pylist() if row["status"] != "success"]
    assert {(row["status"], row["reason"]) for row in failed} == {("failed_to_resize", "decoder_crash")}
    assert {row["url"].rpartition("/")[2] for row in failed} == {"3.jpg", "7.jpg"}
    assert committed_files(datasets[0]) == committed_files(datasets[1])


def test_missing_sizes_are_transferred_as_none():
    assert ANSWER.unpack(ANSWER.pack(True, -1, 256, -1, 0, 5, -1)) == (True, -1, 256, -1, 0, 5, -1)
    kept = resized(jpeg(), ImageSettings(disable_all_reencoding=True, keep_personal_exif=True))
    assert kept == Reencoded(jpeg())
