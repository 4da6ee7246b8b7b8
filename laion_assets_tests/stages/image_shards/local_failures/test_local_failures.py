"""A fault of this machine or its network is never committed as the sites' own, and costs nothing once it is gone."""

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
from laion_assets_tests.stages.image_shards.shards import IMAGES, dataset_of, published
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
def _forget():
    """Each test is a new process to the memory of the network."""
    network_memory._memories.clear()


def state_of(dataset, shard=0):
    return DatasetStatus(dataset).state("image_shards", shard)


def refused(dataset, says):
    """The shard is refused, and says so to whoever looks at it."""
    with pytest.raises(LocalFailureError, match=says):
        ShardTask(dataset, 0).run()
    state = state_of(dataset)
    assert (state.state, state.local_failure) == ("missing", True)
    assert re.search(says, state.reason)
    assert Store.of(dataset).names("image_shards") == []


@pytest.mark.parametrize("kind", EVERY_PAGE)
def test_a_shard_where_every_site_answers_alike_is_refused(kind, tmp_path):
    page, reason = EVERY_PAGE[kind]
    with running(dict.fromkeys(PAGES, page)) as site:
        refused(dataset_of(tmp_path, ROWS, site.resolve, images=HASTY), rf"unrelated sites failed .*{reason} \d+")


def test_a_shard_whose_connections_are_all_refused_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    dataset = dataset_of(tmp_path, ROWS, {"*.test": f"127.0.0.1:{port}"}, images=HASTY)
    refused(dataset, r"connect_failure \d+\): check the network, firewall and proxy")


def test_a_shard_whose_connects_all_time_out_is_refused(tmp_path):
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # a queue that is full drops every further SYN
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        dataset = dataset_of(tmp_path, ROWS, {"*.test": f"127.0.0.1:{full.getsockname()[1]}"}, images=HASTY)
        refused(dataset, r"(deadline|local_failure) \d+")


def test_a_shard_whose_certificates_no_ca_of_ours_signed_is_refused(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=h.test", "-addext", "subjectAltName=DNS:*.test"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with running(PAGES, context) as secure, running(PAGES) as plain:
        # Every seventh site has no TLS: they answer, and say nothing about the CAs.
        rows = [(url.replace("http:", "https:") if n % 7 else url, caption) for n, (url, caption) in enumerate(ROWS)]
        resolve = {f"h{number}.test": f"127.0.0.1:{plain.port}" for number in range(0, SITES, 7)} | secure.resolve
        refused(dataset_of(tmp_path, rows, resolve, images=HASTY), r"tls_failure \d+\): check the CA certificates")


def test_a_portal_that_redirects_every_site_is_named(tmp_path):
    pages = {path: answer(b"", "302 Found", "Location: http://login.portal.test/in") for path in PAGES}
    with running({**pages, "/in": PORTAL}) as site:
        dataset = dataset_of(tmp_path, ROWS, site.resolve, images=HASTY)
        refused(dataset, r"\d+ were redirected to portal\.test.*captive portal")


def dead(numbers, page=None):
    """The site's pages, of which these are dead."""
    return PAGES | dict.fromkeys((f"/{number}.jpg" for number in numbers), page or answer(b"", "503 No"))


def test_a_third_of_dead_sites_is_no_local_failure(tmp_path):
    numbers = random.Random(1).sample(range(SITES), SITES // 3)
    with running(dead(numbers)) as site:
        dataset = dataset_of(tmp_path, ROWS, site.resolve, images=HASTY)
        assert ShardTask(dataset, 0).run().reasons == {"http_5xx": len(numbers)}
        assert not state_of(dataset).local_failure


def test_one_dead_site_with_half_of_the_rows_is_no_local_failure(tmp_path):
    rows = [row for pair in zip(ROWS, [(f"http://big.test/{n}.png", "") for n in range(SITES)], strict=True)
            for row in pair]  # fmt: skip
    with running(PAGES | {f"/{n}.png": answer(b"", "503 No") for n in range(SITES)}) as site:
        dataset = dataset_of(tmp_path, rows, site.resolve, images=HASTY)
        assert ShardTask(dataset, 0).run().reasons == {"http_5xx": SITES}


def test_a_dataset_of_one_site_is_not_committed_without_any_answer(tmp_path):
    rows = [(f"http://one.test/{number}.jpg", "") for number in range(SITES)]
    with running(dict.fromkeys(PAGES, answer(b"", "503 No"))) as site:
        dataset = dataset_of(tmp_path, rows, site.resolve, images=HASTY)
        refused(dataset, f"none of {SITES} rows was answered, and no URL is known to work .http_5xx")
        site.pages["/known.jpg"] = PAGES["/1.jpg"]
        known = replace(dataset, images=replace(HASTY, probe_urls=("http://known.test/known.jpg",)))
        assert ShardTask(known, 0).run().reasons == {"http_5xx": SITES}


@pytest.mark.parametrize("left", [2, 12, 40])
def test_a_network_that_dies_within_a_shard_is_noticed_by_urls_that_worked(left, tmp_path):
    """Two rows are too few for any statistics: the URLs that worked before are asked."""
    with running(dict(PAGES)) as site:
        # One thread: the rows come in their order, and the last `left` of them meet the fault.
        dataset = dataset_of(tmp_path, ROWS, site.resolve, images=replace(HASTY, threads=1))

        def die(sock):
            site.pages.update(dict.fromkeys(PAGES, answer(b"", "503 No")))
            answer(b"", "503 No")(sock)

        site.pages[f"/{SITES - left}.jpg"] = die
        refused(dataset, "none of 5 URLs that worked before answers now .http_5xx")
        site.pages.update(PAGES)
        assert ShardTask(dataset, 0).run().successes == SITES


def test_an_outage_that_passed_is_made_good_within_the_shard(tmp_path):
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
    assert published(dataset) == published(undisturbed)


@pytest.mark.parametrize("recovers", [True, False])
def test_rows_that_a_busy_machine_did_not_serve_are_fetched_again_and_never_a_deadline(recovers, tmp_path, monkeypatch):
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
            refused(dataset, r"6 of 48 rows failed twice on this machine .local_failure 6.*check the CPU load")


def test_shards_of_four_rows_are_judged_by_other_shards_rows(tmp_path):
    with running(dict.fromkeys(PAGES, PORTAL)) as site:
        dataset = dataset_of(tmp_path, ROWS, site.resolve, shards=12, images=HASTY)
        with pytest.raises(LocalFailureError, match=r"sites of this and other shards failed.*not_an_image"):
            ShardTask(dataset, 5).run()
        site.pages.update(dead(range(20, 24)))  # the rows of shard 5 alone
        assert ShardTask(dataset, 5).run().reasons == {"http_5xx": 4}


def test_probe_urls_decide_where_a_few_rows_fail(tmp_path):
    with running(dict.fromkeys(PAGES, PORTAL)) as site:
        images = replace(HASTY, probe_urls=("http://known.test/0.jpg", "http://other.test/1.jpg"))
        dataset = dataset_of(tmp_path, ROWS[:3], site.resolve, images=images)
        refused(dataset, "none of 2 URLs that worked before answers now")
        site.pages.update(PAGES)
        site.pages.update({f"/{number}.jpg": PORTAL for number in range(1, 3)})
        assert ShardTask(dataset, 0).run().reasons == {"not_an_image": 2}


def test_a_share_far_above_the_other_shards_is_refused(tmp_path):
    """A resolver that drops most queries, in no order."""
    rows = [(f"http://h{n}.test/{n % SITES}.jpg", str(n)) for n in range(600)]
    broken = {f"h{n}.test" for n in random.Random(2).sample(range(300, 600), 150)}
    with running(dict(PAGES)) as site:
        resolve = {f"{host}": "127.0.0.1:9" for host in sorted(broken)} | site.resolve
        dataset = dataset_of(tmp_path, rows, resolve, shards=2, images=HASTY)
        assert ShardTask(dataset, 0).run().reasons == {}
        with pytest.raises(LocalFailureError, match=r"50% of 300 sites failed, and 0% in this run's other shards"):
            ShardTask(dataset, 1).run()


def test_a_run_stops_after_some_refused_shards_and_goes_on_once_the_fault_is_gone(tmp_path):
    with running(dict(PAGES)) as site:
        dataset = dataset_of(tmp_path / "run", ROWS, site.resolve, shards=12, images=HASTY)
        done, said = [], []

        def portal_after(shard, manifest):
            done.append(shard)
            if shard == 3:
                site.pages.update(dict.fromkeys(PAGES, PORTAL))

        with pytest.raises(LocalFailureError) as error:
            build_image_shards(dataset, range(12), said.append, portal_after)
        assert "incomplete and stopped early: 3 of 12 shards failed because of a local failure" in str(error.value)
        assert "captive portal" in str(error.value)
        states = DatasetStatus(dataset).states("image_shards")
        assert sum(state.local_failure for state in states) == 3
        assert {shard for shard, state in enumerate(states) if state.state == "complete"} == set(done)
        site.pages.update(PAGES)
        build_image_shards(dataset, range(12), said.append)
        assert {state.state for state in DatasetStatus(dataset).states("image_shards")} == {"complete"}
        undisturbed = dataset_of(tmp_path / "undisturbed", ROWS, site.resolve, shards=12, images=HASTY)
        build_image_shards(undisturbed, range(12), said.append)
        assert published(dataset) == published(undisturbed)
