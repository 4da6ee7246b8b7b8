"""robots.txt by RFC 9309: groups, matching, and what a site that does not answer means."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.http.consent import robots_cache
from laion_assets.http.consent.robots_txt import parse_robots_txt
from laion_assets.http.fetch import Fetcher
from laion_assets.reasons import Reason
from laion_assets_tests.stages.image_shards.site import answer, raw, running

TOKENS = ("laion-assets", "img2dataset")
USAGES = ("train-ai",)


def allowed(text, path):
    return parse_robots_txt(text.encode(), TOKENS).refusal(path, USAGES) is None


RULES = [  # rules for everyone, path, allowed
    ("Disallow: /", "/a", False),
    ("Disallow:", "/a", True),
    ("Disallow: /a", "/a/b.jpg", False),
    ("Disallow: /a", "/b", True),
    ("Disallow: /A", "/a", True),
    ("Allow: /a\nDisallow: /a", "/a", True),
    ("Disallow: /a\nAllow: /a/b", "/a/b/c", True),
    ("Allow: /a\nDisallow: /a/b", "/a/b/c", False),
    ("Disallow: /*.jpg", "/x/y.jpg", False),
    ("Disallow: /*.jpg$", "/x/y.jpg?z", True),
    ("Disallow: /*.jpg$", "/x/y.jpg.jpg", False),
    ("Disallow: /x$", "/xy", True),
    ("Disallow: /x$", "/x", False),
    ("Disallow: *b", "/ab", False),
    ("Disallow: /a*c*e", "/abcde", False),
    ("Disallow: /a*e*c", "/abcde", True),
    ("Disallow: /a*b$", "/ab", False),
    ("Disallow: /ab*b$", "/ab", True),
    ("Disallow: /a?x=1", "/a?x=12", False),
    ("Disallow: /%7ejoe/%c3%a4", "/~joe/%C3%A4", False),
    ("Disallow: /ä", "/%C3%A4", False),
    ("Disallow: /a%2Fb", "/a/b", True),
    ("Disallow: /", "/robots.txt", True),
    ("disallow : /a # why", "/a", False),
    ("Dissallow: /a", "/a", True),
    ("Crawl-delay: 5\nDisallow: /a", "/a", False),
    ("Sitemap: http://a.test/\nUser-agent: x\nDisallow: /a", "/a", False),
]


@pytest.mark.parametrize(("rules", "path", "expected"), RULES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rules(rules, path, expected, end):
    assert allowed(f"User-agent: *\n{rules}\n".replace("\n", end), path) is expected


GROUPS = [
    ("User-agent: *\nDisallow: /\n\nUser-agent: laion-assets\nAllow: /\n", True),
    ("User-agent: LAION-Assets/0.1 (x)\nDisallow: /\n", False),
    ("User-agent: laion-assets-other\nDisallow: /\n", True),
    ("User-agent: laion\nDisallow: /\n", True),
    ("User-agent: googlebot\nUser-agent: img2dataset\nDisallow: /\n", False),
    ("User-agent: img2dataset\nAllow: /b\nUser-agent: x\nDisallow:\nUser-agent: img2dataset\nDisallow: /a\n", False),
    ("User-agent: img2dataset\nUser-agent: *\nDisallow:\n", True),
    ("Disallow: /\n", True),
    ("\ufeffUser-agent: *\nDisallow: /\n", False),
    ("<html>not found</html>", True),
    ("", True),
]


@pytest.mark.parametrize(("text", "expected"), GROUPS)
def test_groups(text, expected):
    assert allowed(text, "/a") is expected


def test_content_usage_rules_match_like_paths_and_conflicts_go_to_the_stricter():
    text = "User-agent: *\nAllow: /\nContent-Usage: / train-ai=n\nContent-Usage: /ok/\ttrain-ai=y\n"
    assert parse_robots_txt(text.encode(), TOKENS).refusal("/a", USAGES) == "robots.txt: Content-Usage train-ai=n"
    assert allowed(text, "/ok/a")
    assert not allowed("User-agent: *\nContent-Usage: train-ai=n", "/a")
    assert not allowed("User-agent: *\nContent-Usage: /a train-ai=y\nContent-Usage: /a train-ai=n", "/a")
    assert allowed("User-agent: *\nContent-Usage: / search=n", "/a")


def test_invalid_bytes_and_hostile_patterns_take_little_time():
    assert parse_robots_txt(b"\xff\xfe\x00" * 1_000, TOKENS).refusal("/a", USAGES) is None
    started = time.thread_time()
    assert not allowed("User-agent: *\nDisallow: /" + "a*" * 5_000 + "b", "/" + "a" * 8_000 + "b")
    assert allowed("User-agent: *\nDisallow: /" + "*a" * 200 + "$", "/" + "b" * 8_000)
    assert time.thread_time() - started < 1


PAGE = answer(b"picture")
NOBODY = answer(b"User-agent: *\nDisallow: /private\n")


def policy_for(site, **changes):
    bounds = {"connect_timeout_s": 0.6, "deadline_s": 1.2, "retries": 0, "resolve": site.resolve, "robots_txt": True}
    return FetchPolicy(**(bounds | changes))


def test_robots_txt_is_fetched_once_and_disallowed_urls_send_nothing():
    slow = lambda sock: (time.sleep(0.2), NOBODY(sock))  # noqa: E731
    with running({"/robots.txt": slow, "/a": PAGE, "/private": PAGE}) as site:
        fetcher = Fetcher(policy_for(site, requests_per_host=16))
        urls = [site.url("/a"), site.url("/private")] * 8
        with ThreadPoolExecutor(16) as threads:
            reasons = [one.reason for one in threads.map(fetcher.fetch, urls)]
        assert reasons == [Reason.SUCCESS, Reason.OPTED_OUT] * 8
        assert sorted(site.seen) == ["/a"] * 8 + ["/robots.txt"]
        assert fetcher.fetch(site.url("/a", host="other.test")).reason is Reason.SUCCESS
        assert site.seen.count("/robots.txt") == 2
        fetcher.close()


def test_robots_txt_is_ignored_by_default():
    with running({"/robots.txt": answer(b"User-agent: *\nDisallow: /"), "/a": PAGE}) as site:
        assert Fetcher(policy_for(site, robots_txt=False)).fetch(site.url("/a")).reason is Reason.SUCCESS
        assert site.seen == ["/a"]


UNAVAILABLE = {
    "404": (answer(b"User-agent: *\nDisallow: /", "404 Not Found"), Reason.SUCCESS),
    "401": (answer(b"", "401 Unauthorized"), Reason.SUCCESS),
    "empty": (answer(b""), Reason.SUCCESS),
    "204": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), Reason.SUCCESS),
    "a loop": (answer(b"", "302 Found", "Location: /robots.txt"), Reason.SUCCESS),
    "a redirect to nowhere": (answer(b"", "302 Found"), Reason.SUCCESS),
    "moved": (answer(b"", "301 Moved", "Location: http://other.test/other-robots.txt"), Reason.OPTED_OUT),
    "an opt-out header": (answer(b"User-agent: *\nDisallow:", "200 OK", "X-Robots-Tag: noai"), Reason.SUCCESS),
    "500": (answer(b"", "500 Error"), Reason.HTTP_5XX),
    "reset": (lambda sock: sock.close(), Reason.CONNECTION_RESET),
    "silence": (lambda sock: sock.recv(1), Reason.DEADLINE),  # until the client closes
    "a redirect inward": (answer(b"", "302 Found", "Location: http://127.0.0.1/"), Reason.BLOCKED_ADDRESS),
}


@pytest.mark.parametrize("kind", UNAVAILABLE)
def test_missing_robots_txt_allows_everything_and_an_error_nothing(kind):
    page, reason = UNAVAILABLE[kind]
    everything = answer(b"User-agent: *\nDisallow: /")
    with running({"/robots.txt": page, "/other-robots.txt": everything, "/a": PAGE}) as site:
        fetcher = Fetcher(policy_for(site))
        fetched = [fetcher.fetch(site.url("/a")) for _ in "12"]
        assert [one.reason for one in fetched] == [reason] * 2
        assert ("/a" in site.seen) is (reason is Reason.SUCCESS)
        if reason not in (Reason.SUCCESS, Reason.OPTED_OUT):
            assert fetched[0].detail.startswith("robots.txt: ")
            assert site.seen.count("/robots.txt") == 1
        fetcher.close()


def test_only_the_first_500_kib_are_read():
    rules = b"User-agent: *\nDisallow: /a\n" + b"# filler\n" * 100_000 + b"Disallow: /b\n"
    endless = raw(b"HTTP/1.1 200 OK\r\n\r\n", rules)
    for page in (answer(rules), endless):
        with running({"/robots.txt": page, "/a": PAGE, "/b": PAGE}) as site:
            fetcher = Fetcher(policy_for(site))
            assert fetcher.fetch(site.url("/a")).reason is Reason.OPTED_OUT
            assert fetcher.fetch(site.url("/b")).reason is Reason.SUCCESS


def test_expired_robots_txt_is_fetched_again(monkeypatch):
    monkeypatch.setattr(robots_cache, "KEPT_S", 0.1)
    with running({"/robots.txt": NOBODY, "/a": PAGE}) as site:
        fetcher = Fetcher(policy_for(site))
        for _ in "12":
            fetcher.fetch(site.url("/a"))
            time.sleep(0.15)
        assert site.seen == ["/robots.txt", "/a", "/robots.txt", "/a"]


def test_cached_rules_are_limited(monkeypatch):
    monkeypatch.setattr(robots_cache, "MAX_SITES", 3)
    with running({"/robots.txt": NOBODY, "/a": PAGE}) as site:
        fetcher = Fetcher(replace(policy_for(site)))
        for number in range(6):
            fetcher.fetch(site.url("/a", host=f"h{number}.test"))
        assert len(fetcher.robots._sites) == 3
        monkeypatch.setattr(robots_cache, "MAX_KEPT_BYTES", 1)
        fetcher.fetch(site.url("/a", host="last.test"))
        assert (len(fetcher.robots._sites), fetcher.robots._bytes) == (0, 0)
