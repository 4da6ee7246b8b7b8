"""UTF-8 in every locale: arguments, settings, file names and output are the same bytes everywhere."""

import codecs
import io
import locale
import os
import sys
from pathlib import Path

PROGRAM = "laion-assets"


def use_utf8() -> None:
    """Restart this program in Python's UTF-8 mode if the locale has another encoding.

    Python fixes the encoding of file names, arguments and worker processes at its start, so only a restart changes it.
    Only the installed program restarts, not another program that imports this module. Characters that the output
    encoding lacks are printed as escapes.
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
