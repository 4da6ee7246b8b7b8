"""Any content of a manifest, an intent or a lease is either read, or refused with one of our errors."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from laion_assets.errors import IntegrityError, StoreError
from laion_assets.store.intent import Intent, intent_path, read_intent
from laion_assets.store.lease import is_alive, lease
from laion_assets.store.manifest import Counts, FileEntry, Manifest, manifest_path, read_manifest
from laion_assets.store.paths import checked_path, folders_of_asset
from laion_assets.store.store import Store

ASSET, KEY = "image_shards", "00003"
MANIFEST = Manifest(
    ASSET,
    KEY,
    tuple(FileEntry(f"image_shards/{KEY}{suffix}", 12, "0a" * 32) for suffix in (".parquet", ".tar")),
    Counts(3, 2, {"http_404": 1}),
    "settings",
    "inputs",
    {"0": "digest"},
    {"statuses": {"success": 2}, "retries": [{"at": "2026-11-26"}]},
    "2026-11-26T00:00:00+00:00",
    1.5,
)
INTENT = Intent("0123456789abcdef-0123456789ab-1-2.00-3", MANIFEST, ("image_shards/old.csv",))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**15, 10**40)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["..", "../x", "/etc/passwd", "a\0b", "image_shards/../x", "", "\ud800", "raw_csv/a"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in inner for place in places_in(item, (*path, key))]


@st.composite
def changed(draw: st.DrawFn, stored: bytes) -> bytes:
    """The stored JSON with up to three of its values replaced, removed or added to, or some of its bytes changed."""
    if draw(st.booleans()):
        content = bytearray(stored)
        for _ in range(draw(st.integers(0, 4))):
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
        return bytes(content[: draw(st.integers(0, len(content)))])
    fields = json.loads(stored)
    for _ in range(draw(st.integers(1, 3))):
        found = places_in(fields)
        if not found:
            break
        *way, last = draw(st.sampled_from(found))
        inner = fields
        for key in way:
            inner = inner[key]
        kind = draw(st.sampled_from(("replace", "remove", "add")))
        if kind == "replace":
            inner[last] = draw(values)
        elif kind == "remove":
            del inner[last]
        elif isinstance(inner, dict):
            inner[draw(st.text(max_size=8))] = draw(values)
        else:
            inner.append(draw(values))
    return json.dumps(fields).encode()


def check_manifest(manifest: Manifest) -> None:
    """Check that an accepted manifest is one that this program writes, and that its paths stay inside the store."""
    assert Manifest.from_json(manifest.to_json(), "here") == manifest
    for entry in manifest.files:
        assert checked_path(entry.path).startswith(folders_of_asset(manifest.asset))
        assert ".." not in entry.path.split("/")
        assert not entry.path.startswith("/")
        assert 0 <= entry.size < 1 << 60
    manifest.counts.check("here")
    assert manifest.size >= 0
    assert len(manifest.content) == 32


@settings(max_examples=300, deadline=None)
@given(changed(MANIFEST.to_json()) | st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b'{"format": 1, "format": 1}')
@example(b'{"format": ' + b"1" * 10_000 + b"}")
@example(b"1e999")
@example(b'"\\ud800"')
def test_any_content_of_a_manifest_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(IntegrityError):
        check_manifest(Manifest.from_json(content, "here"))


@settings(max_examples=200, deadline=None)
@given(changed(INTENT.to_json()) | st.binary(max_size=100) | values.map(lambda value: json.dumps(value).encode()))
def test_any_content_of_an_intent_is_read_dropped_or_refused(content: bytes) -> None:
    store = Store("memory://fuzzed-intent")
    store.write_bytes(intent_path(ASSET, KEY), content)
    try:
        intent = read_intent(store, ASSET, KEY)
    except (StoreError, json.JSONDecodeError, UnicodeDecodeError):  # the last two: truncated, and dropped
        return
    assert intent is not None
    check_manifest(intent.manifest)
    assert "/" not in checked_path(intent.transaction)
    assert all(checked_path(path).startswith("image_shards/") for path in intent.superseded)


@settings(max_examples=100, deadline=None)
@given(
    st.from_regex("[0-9]{5,8}", fullmatch=True) | st.text(min_size=1, max_size=12).filter(lambda name: "/" not in name),
    st.binary(max_size=60) | values.map(lambda value: json.dumps({"holder": value, "host": value}).encode()),
)
@example("000048", b" " * 4_097)
def test_any_lease_is_read_or_ignored_and_one_that_is_too_large_is_refused(name: str, content: bytes) -> None:
    store = Store("memory://fuzzed-lease")
    store.delete("leases")
    try:
        store.write_bytes(f"leases/{ASSET}/{KEY}/{name}", content)
    except StoreError:  # not a valid file name of a store
        return
    if len(content) > 4_096:
        with pytest.raises(StoreError, match="Remove it"), lease(store, ASSET, KEY, wait_s=0.0):
            pass
    else:
        with lease(store, ASSET, KEY, wait_s=0.0) as held:
            assert held.number >= 1


@given(st.text())
def test_any_folder_name_has_a_live_holder_or_none(name: str) -> None:
    assert is_alive(name) in (True, False)


@given(
    st.text(max_size=80) | st.lists(st.sampled_from(["..", ".", "", "a", "b c", "\\", "\0"]), max_size=6).map("/".join)
)
def test_any_path_is_inside_the_store_or_refused(path: str) -> None:
    try:
        checked_path(path)
    except StoreError:
        return
    inside = Path("/store") / path
    assert str(inside) == f"/store/{path}"
    assert ".." not in inside.parts
    assert len(inside.parts) > 2


def test_manifest_is_equal_after_writing_and_reading() -> None:
    assert Manifest.from_json(MANIFEST.to_json(), "here") == MANIFEST
    store = Store("memory://fuzzed-manifest")
    store.write_bytes(manifest_path(ASSET, KEY), replace(MANIFEST, outputs={}).to_json())
    assert read_manifest(store, ASSET, KEY) == replace(MANIFEST, outputs={})
