"""Settings of the image stage that img2dataset cannot honour. Changing one of them is an error with this engine."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from laion_assets.errors import SettingError

UNSUPPORTED = {
    "robots_txt": "it never requests robots.txt",
    "requests_per_host": "it has no limit per host",
    "requests_per_address": "it has no limit per address",
    "max_retry_after_s": "it retries at once",
    "host_wait_s": "it has no queue per host",
    "idle_connections": "it closes each connection after one response",
    "max_bytes_in_flight": "it holds up to two bodies per thread",
    "decode_cpu_s": "it decodes in the worker process itself",
}
"""Name of the setting, and why img2dataset cannot honour it."""


def check_supported(images: Any) -> None:
    """Refuse settings of an `ImageSettings` that img2dataset cannot honour.

    Raises SettingError for a value other than the default of a setting in UNSUPPORTED, and for unsafe EXIF.
    """
    changed = [
        f"{name} is {value!r} ({UNSUPPORTED[name.rpartition('.')[2]]})"
        for name, value, default in _list_values(images, "images.")
        if name.rpartition(".")[2] in UNSUPPORTED and value != default
    ]
    if changed:
        raise SettingError(
            f"images.engine is img2dataset, which cannot honour these settings: {'; '.join(changed)}. Set "
            "images.engine to laion_assets, or leave them at their defaults."
        )
    if images.skip_reencode and not images.keep_personal_exif:
        raise SettingError(
            "images.engine is img2dataset, whose images.skip_reencode keeps files with the place and person that their "
            "EXIF names, and images.keep_personal_exif is false. Set it to true, or set images.engine to laion_assets."
        )


def _list_values(group: Any, prefix: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, value and default of each setting of a group and of the groups in it."""
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if dataclasses.is_dataclass(value):
            yield from _list_values(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value, field.default
