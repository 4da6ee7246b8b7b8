"""Local failures are never committed as failures of sites, and leave no trace once they are over."""

import contextlib
import random
import re
import socket
import ssl
import struct
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from laion_assets.errors import LocalFailureError
from laion_assets.http import clock
from laion_assets.stages.image_shards.build import build_image_shards
from laion_assets.stages.image_shards.local_failures import network_memory
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.store import Store
from laion_assets_tests.http.test_busy_time import Losing
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import IMAGES, committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running

SITES = 48
HASTY = replace(IMAGES, fetch=replace(IMAGES.fetch, connect_timeout_s=0.4, deadline_s=0.8), threads=48, processes=1)
ROWS = [(f"http://h{number}.test/{number}.jpg", f"caption {number}") for number in range(SITES)]
PAGES = {f"/{number}.jpg": answer(jpeg(60 + number, 60, number)) for number in range(SITES)}
PORTAL = answer(b"<html>Please log in.</html>", "200 OK", "Content-Type: text/html")


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


EVERY_PAGE = {
    "resets": (reset, "connection_reset"),
    "503": (answer(b"", "503 Service Unavailable"), "http_5xx"),
    "403": (answer(b"", "403 Forbidden"), "http_403"),
    "429": (answer(b"", "429 Too Many Requests"), "http_429"),
    "portal": (PORTAL, "not_an_image"),
}


@pytest.fixture(autouse=True)
def _clear_memory():
    """Clear the network memory, as in a new process."""
    network_memory._memories.clear()


def state_of(dataset, shard=0):
    return DatasetStatus(dataset).state("image_shards", shard)


def check_refused(dataset, message):
    """Check that the shard is refused and that its status shows the reason."""
    with pytest.raises(LocalFailureError, match=message):
        ShardTask(dataset, 0).run()
    state = state_of(dataset)
    assert (state.state, state.local_failure) == ("missing", True)
    assert re.search(message, state.reason)
    assert Store.of(dataset).names("image_shards") == []


@pytest.mark.parametrize("kind", EVERY_PAGE)
def test_a_shard_whose_sites_all_fail_the_same_way_is_refused(kind, tmp_path):
    page, reason = EVERY_PAGE[kind]
    with running(dict.fromkeys(PAGES, page)) as site:
        check_refused(dataset_of(tmp_path, ROWS, site.resolve, images=HASTY), rf"unrelated sites failed .*{reason} \d+")


def test_a_shard_whose_connections_are_all_refused_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    dataset = dataset_of(tmp_path, ROWS, {"*.test": f"127.0.0.1:{port}"}, images=HASTY)
    check_refused(dataset, r"connect_failure \d+\): check the network, firewall and proxy")


def test_a_shard_whose_connections_all_time_out_is_refused(tmp_path):
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # a queue that is full drops every further SYN
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        dataset = dataset_of(tmp_path, ROWS, {"*.test": f"127.0.0.1:{full.getsockname()[1]}"}, images=HASTY)
        check_refused(dataset, r"(deadline|local_failure) \d+")


def test_a_shard_whose_certificates_are_all_untrusted_is_refused(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=h.test", "-addext", "subjectAltName=DNS:*.test"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with running(PAGES, context) as secure, running(PAGES) as plain:
        # Every seventh site has no TLS: its responses are not evidence about CA certificates.
        rows = [(url.replace("http:", "https:") if n % 7 else url, caption) for n, (url, caption) in enumerate(ROWS)]
        resolve = {f"h{number}.test": f"127.0.0.1:{plain.port}" for number in range(0, SITES, 7)} | secure.resolve
        check_refused(
            dataset_of(tmp_path, rows, resolve, images=HASTY), r"tls_failure \d+\): check the CA certificates"
        )


def test_a_portal_that_redirects_every_site_is_named(tmp_path):
    pages = {path: answer(b"", "302 Found", "Location: http://login.portal.test/in") for path in PAGES}
    with running({**pages, "/in": PORTAL}) as site:
        dataset = dataset_of(tmp_path, ROWS, site.resolve, images=HASTY)
        check_refused(dataset, r"\d+ were redirected to portal\.test.*captive portal")


def with_dead_pages(numbers, page=None):
    """Return the site's pages, with these pages dead."""
    return PAGES | dict.fromkeys((f"/{number}.jpg" for number in numbers), page or answer(b"", "503 No"))


def test_a_third_of_dead_sites_is_not_a_local_failure(tmp_path):
    numbers = random.Random(1).sample(range(SITES), SITES // 3)
    with running(with_dead_pages(numbers)) as site:
        dataset = dataset_of(tmp_path, ROWS, site.resolve, images=HASTY)
        assert ShardTask(dataset, 0).run().reasons == {"http_5xx": len(numbers)}
        assert not state_of(dataset).local_failure


def test_one_dead_site_with_half_of_the_rows_is_not_a_local_failure(tmp_path):
    rows = [row for pair in zip(ROWS, [(f"http://big.test/{n}.png", "") for n in range(SITES)], strict=True)
            for row in pair]  # fmt: skip
    with running(PAGES | {f"/{n}.png": answer(b"", "503 No") for n in range(SITES)}) as site:
        dataset = dataset_of(tmp_path, rows, site.resolve, images=HASTY)
        assert ShardTask(dataset, 0).run().reasons == {"http_5xx": SITES}


def test_a_dataset_of_one_site_is_not_committed_without_a_response(tmp_path):
    rows = [(f"http://one.test/{number}.jpg", "") for number in range(SITES)]
    with running(dict.fromkeys(PAGES, answer(b"", "503 No"))) as site:
        dataset = dataset_of(tmp_path, rows, site.resolve, images=HASTY)
        check_refused(dataset, f"none of {SITES} rows got a response, and no URL is known to work .http_5xx")
        site.pages["/known.jpg"] = PAGES["/1.jpg"]
        known = replace(dataset, images=replace(HASTY, probe_urls=("http://known.test/known.jpg",)))
        assert ShardTask(known, 0).run().reasons == {"http_5xx": SITES}


@pytest.mark.parametrize("left", [2, 12, 40])
def test_a_network_that_fails_within_a_shard_is_detected_by_working_urls(left, tmp_path):
    """Two rows are too few for statistics, so URLs that worked before are fetched."""
    with running(dict(PAGES)) as site:
        # One thread: the rows are fetched in their order, and the last `left` of them fail.
        dataset = dataset_of(tmp_path, ROWS, site.resolve, images=replace(HASTY, threads=1))

        def die(sock):
            site.pages.update(dict.fromkeys(PAGES, answer(b"", "503 No")))
            answer(b"", "503 No")(sock)

        site.pages[f"/{SITES - left}.jpg"] = die
        check_refused(dataset, "none of 5 URLs that worked before responds now .http_5xx")
        site.pages.update(PAGES)
        assert ShardTask(dataset, 0).run().successes == SITES


def test_rows_of_a_short_outage_are_fetched_again_within_the_shard(tmp_path):
    down, seen = range(10, 30), set()

    def flaky(number):
        def talk(sock):
            page = PAGES[f"/{number}.jpg"] if number in seen else answer(b"", "503 No")
            seen.add(number)
            page(sock)

        return talk

    with running(PAGES | {f"/{number}.jpg": flaky(number) for number in down}) as site:
        dataset = dataset_of(tmp_path / "outage", ROWS, site.resolve, images=replace(HASTY, threads=1))
        assert ShardTask(dataset, 0).run().successes == SITES
    with running(dict(PAGES)) as site:
        undisturbed = dataset_of(tmp_path / "undisturbed", ROWS, site.resolve, images=HASTY)
        ShardTask(undisturbed, 0).run()
    assert committed_files(dataset) == committed_files(undisturbed)


@pytest.mark.parametrize("recovers", [True, False])
def test_rows_that_a_busy_machine_delayed_are_fetched_again_and_never_fail_as_deadline(recovers, tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "MAX_STRETCH", 1.5)
    slow, lock = set(range(6)), threading.Lock()

    def starved(number):
        def talk(sock):
            with lock:
                waits = number in slow
                if recovers:
                    slow.discard(number)
            time.sleep(3 if waits else 0)
            with contextlib.suppress(OSError):
                PAGES[f"/{number}.jpg"](sock)

        return talk

    with running(PAGES | {f"/{number}.jpg": starved(number) for number in range(6)}) as site, Losing(0.9):
        dataset = dataset_of(tmp_path, ROWS, site.resolve, images=HASTY)
        if recovers:
            assert ShardTask(dataset, 0).run().successes == SITES
        else:
            check_refused(dataset, r"6 of 48 rows failed twice on this machine .local_failure 6.*check the CPU load")


def test_shards_of_four_rows_are_checked_with_rows_of_other_shards(tmp_path):
    with running(dict.fromkeys(PAGES, PORTAL)) as site:
        dataset = dataset_of(tmp_path, ROWS, site.resolve, shards=12, images=HASTY)
        with pytest.raises(LocalFailureError, match=r"sites of this and other shards failed.*not_an_image"):
            ShardTask(dataset, 5).run()
        site.pages.update(with_dead_pages(range(20, 24)))  # the rows of shard 5 alone
        assert ShardTask(dataset, 5).run().reasons == {"http_5xx": 4}


def test_probe_urls_decide_if_few_rows_fail(tmp_path):
    with running(dict.fromkeys(PAGES, PORTAL)) as site:
        images = replace(HASTY, probe_urls=("http://known.test/0.jpg", "http://other.test/1.jpg"))
        dataset = dataset_of(tmp_path, ROWS[:3], site.resolve, images=images)
        check_refused(dataset, "none of 2 URLs that worked before responds now")
        site.pages.update(PAGES)
        site.pages.update({f"/{number}.jpg": PORTAL for number in range(1, 3)})
        assert ShardTask(dataset, 0).run().reasons == {"not_an_image": 2}


def test_a_share_far_above_the_other_shards_is_refused(tmp_path):
    """A resolver that drops most queries, at random."""
    rows = [(f"http://h{n}.test/{n % SITES}.jpg", str(n)) for n in range(600)]
    broken = {f"h{n}.test" for n in random.Random(2).sample(range(300, 600), 150)}
    with running(dict(PAGES)) as site:
        resolve = {f"{host}": "127.0.0.1:9" for host in sorted(broken)} | site.resolve
        dataset = dataset_of(tmp_path, rows, resolve, shards=2, images=HASTY)
        assert ShardTask(dataset, 0).run().reasons == {}
        with pytest.raises(LocalFailureError, match=r"50% of 300 sites failed, but 0% in this run's other shards"):
            ShardTask(dataset, 1).run()


def test_a_run_stops_after_refused_shards_and_continues_later(tmp_path):
    with running(dict(PAGES)) as site:
        dataset = dataset_of(tmp_path / "run", ROWS, site.resolve, shards=12, images=HASTY)
        done, logged = [], []

        def portal_after(shard, manifest):
            done.append(shard)
            if shard == 3:
                site.pages.update(dict.fromkeys(PAGES, PORTAL))

        with pytest.raises(LocalFailureError) as error:
            build_image_shards(dataset, range(12), logged.append, portal_after)
        assert "stopped early: 3 of 12 shards were not committed because of local failures" in str(error.value)
        assert "captive portal" in str(error.value)
        states = DatasetStatus(dataset).states("image_shards")
        assert sum(state.local_failure for state in states) == 3
        assert {shard for shard, state in enumerate(states) if state.state == "complete"} == set(done)
        site.pages.update(PAGES)
        build_image_shards(dataset, range(12), logged.append)
        assert {state.state for state in DatasetStatus(dataset).states("image_shards")} == {"complete"}
        undisturbed = dataset_of(tmp_path / "undisturbed", ROWS, site.resolve, shards=12, images=HASTY)
        build_image_shards(undisturbed, range(12), logged.append)
        assert committed_files(dataset) == committed_files(undisturbed)
