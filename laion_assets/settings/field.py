"""How a stage declares a setting, and the digest of those settings that change bytes."""

import dataclasses
import hashlib
import json
from typing import Any


def setting(default: Any, help: str, *, unit: str = "", changes_bytes: bool = False) -> Any:
    """A dataclass field that is a setting.

    `help` is what `laion-assets settings` prints. `changes_bytes` says that artefacts made with another value have
    other bytes, so that they count as stale; settings of speed (processes, batch sizes, devices) do not.
    """
    metadata = {"help": help, "unit": unit, "changes_bytes": changes_bytes}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def byte_settings(settings: Any) -> dict[str, Any]:
    """The values of the fields of a settings dataclass that change bytes, by name."""
    return {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.metadata.get("changes_bytes")
    }


def digest_of(value: Any) -> str:
    """32 hex digits over any JSON value; keys are sorted, so equal values have equal digests in every process."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
