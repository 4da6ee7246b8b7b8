"""The settings that change bytes, by their digest, so that a plan can name the setting that changed.

    settings/image_shards/DIGEST.json    {"image_size": 256, ...}

A manifest has only the digest. The values are written once per stage and digest, before its first partition. A store of
an earlier version has no such files; then the old values are unknown.
"""

import json
from dataclasses import dataclass
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.field import compute_digest, format_value
from laion_assets.dataset.settings.names import FIELDS
from laion_assets.errors import StoreError
from laion_assets.stages.stage import Stage
from laion_assets.store.store import Store

_MAX_BYTES = 4 << 20
_ABSENT = "not set"


@dataclass(frozen=True)
class SettingChange:
    """A setting with another value than the one that partitions were built with. `old` is empty if it is unknown."""

    name: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.name} changed from {self.old} to {self.new}" if self.old else f"{self.name} is {self.new}"


def record_settings(dataset: Dataset, store: Store, stage: Stage) -> None:
    """Store the values that change the stage's bytes, if they are not stored yet."""
    path = _path(stage.name, stage.settings_digest(dataset))
    if store.size(path) is None:
        store.write_bytes(path, json.dumps(stage.byte_settings(dataset), indent=1, sort_keys=True).encode())


def find_changes(dataset: Dataset, store: Store, stage: Stage, digest: str) -> tuple[SettingChange, ...]:
    """Return the settings that differ from those with this digest; empty if these are unknown."""
    recorded = _read(store, stage, digest)
    if recorded is None:
        return ()
    before, now = _flatten(recorded), _flatten(json.loads(json.dumps(stage.byte_settings(dataset))))
    return tuple(
        SettingChange(_name(stage, key), _text(before.get(key, _ABSENT)), _text(now.get(key, _ABSENT)))
        for key in sorted(before.keys() | now.keys())
        if before.get(key, _ABSENT) != now.get(key, _ABSENT)
    )


def _path(asset: str, digest: str) -> str:
    return f"settings/{asset}/{digest}.json"


def _read(store: Store, stage: Stage, digest: str) -> dict[str, Any] | None:
    """Return the recorded values, None if there are none or they do not have this digest."""
    if len(digest) != 32 or not digest.isalnum():
        return None
    try:
        values = json.loads(store.read_bytes(_path(stage.name, digest), _MAX_BYTES))  # may have Infinity
        same = compute_digest([stage.name, values]) == digest
    except (FileNotFoundError, ValueError, RecursionError, StoreError):
        return None
    return values if same and isinstance(values, dict) else None


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _name(stage: Stage, key: str) -> str:
    """Return the name of the setting for a key of `byte_settings`."""
    grouped = f"{stage.settings_group}.{key}"
    return grouped if grouped in FIELDS else key


def _text(value: Any) -> str:
    return _ABSENT if value == _ABSENT else format_value(value)
