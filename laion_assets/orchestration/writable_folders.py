"""Whether the folders that a command writes to can be written, looked at before the work begins."""

import os
import tempfile
from pathlib import Path

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError
from laion_assets.store.store import Store

_PROBE = b"\0" * 4_096


def require_root(dataset: Dataset) -> None:
    """Refuse a root on a local disk that cannot be written. Raises SettingError."""
    folder = Store.of(dataset).local_root
    if folder is not None:
        require_writable(folder, "root", "Set root (LAION_ASSETS_ROOT) to a folder that can be written.")


def require_folder(dataset: Dataset) -> None:
    """Refuse a root on a local disk that is a file, or below one. Raises SettingError."""
    root = Store.of(dataset).local_root
    for folder in () if root is None else (root, *root.parents):
        if folder.is_dir():
            return
        if os.path.lexists(folder):
            raise SettingError(
                f"root: {folder} is not a folder. Set root (LAION_ASSETS_ROOT) to a folder that can be written."
            )


def require_writable(folder: Path, setting: str, fix: str) -> None:
    """Make a folder if it is not there, and write to it once. Raises SettingError naming the setting and the fix."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(_PROBE)
            probe.flush()
    except FileExistsError as error:
        raise SettingError(f"{setting}: {folder} is a file, and a folder is needed. {fix}") from error
    except (OSError, UnicodeEncodeError) as error:
        raise SettingError(f"{setting}: {folder} cannot be written: {reason_of(error)}. {fix}") from error


def reason_of(error: Exception) -> str:
    """An error of the system in its own words, without number and path."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def describe(error: OSError) -> str:
    """One line for an error of the system that nobody expected: what, where, and what may help."""
    where = f"{error.filename}: " if isinstance(error.filename, str) else ""
    return f"{where}{reason_of(error)}. Check the disk, the permissions and the setting root (laion-assets settings)."
