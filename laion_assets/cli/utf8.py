"""UTF-8 whatever the locale: arguments, settings, file names and output are the same bytes everywhere."""

import codecs
import io
import locale
import os
import sys
from pathlib import Path

PROGRAM = "laion-assets"


def use_utf8() -> None:
    """Start this program again in Python's UTF-8 mode where the locale has another encoding; print what cannot be
    encoded as an escape.

    Names of files, arguments and the encoding of worker processes are decided when Python starts, so nothing less than
    a new start changes them. Only the installed program starts again, not a Python that imported it.
    """
    encodings = {codecs.lookup(name).name for name in (sys.getfilesystemencoding(), locale.getencoding())}
    is_program = [Path(argument).name for argument in sys.orig_argv[1:2]] == [PROGRAM]
    tried = os.environ.get("PYTHONUTF8") == "1"
    if encodings != {"utf-8"} and not sys.flags.utf8_mode and is_program and not tried:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
