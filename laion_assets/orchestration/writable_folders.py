"""Check before the work that the folders of a command can be written."""

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
        require_writable(folder, "root", "Set root (LAION_ASSETS_ROOT) to a writable folder.")


def require_folder(dataset: Dataset) -> None:
    """Refuse a root on a local disk that is a file, or below one. Raises SettingError."""
    root = Store.of(dataset).local_root
    for folder in () if root is None else (root, *root.parents):
        if folder.is_dir():
            return
        if os.path.lexists(folder):
            raise SettingError(f"root: {folder} is not a folder. Set root (LAION_ASSETS_ROOT) to a writable folder.")


def require_writable(folder: Path, setting: str, fix: str) -> None:
    """Create a folder if it does not exist, and write to it. Raises SettingError naming the setting and the fix."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(_PROBE)
            probe.flush()
    except FileExistsError as error:
        raise SettingError(f"{setting}: {folder} is a file, not a folder. {fix}") from error
    except (OSError, UnicodeEncodeError) as error:
        raise SettingError(f"{setting}: {folder} cannot be written: {describe_error(error)}. {fix}") from error


def describe_error(error: Exception) -> str:
    """Return the system's message for an error, without number and path."""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def describe(error: OSError) -> str:
    """Return one line for an unexpected error of the system: what, where, and what to check."""
    where = f"{error.filename}: " if isinstance(error.filename, str) else ""
    return (
        f"{where}{describe_error(error)}. Check the disk, the permissions and the setting root (laion-assets settings)."
    )
