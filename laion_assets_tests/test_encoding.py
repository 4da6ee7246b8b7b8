"""Text files are opened with an encoding, so that they have the same bytes in every locale."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import laion_assets

PACKAGE = Path(laion_assets.__file__).parent
_ENCODING_PLACE = {"read_text": 0, "write_text": 1}


def without_encoding(source: str) -> Iterator[int]:
    """The lines on which text is read or written in the encoding of the locale."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _ENCODING_PLACE and len(node.args) <= _ENCODING_PLACE[name]:
            yield node.lineno
        elif name in ("open", "fdopen"):
            # Of a method `open`, the mode may be the first argument; without one it is most often not a file's.
            of_builtin = isinstance(node.func, ast.Name)
            modes = [each.value for each in node.args[of_builtin:] if isinstance(each, ast.Constant)]
            modes += [
                each.value.value
                for each in node.keywords
                if each.arg == "mode" and isinstance(each.value, ast.Constant)
            ]
            texts = [mode for mode in modes if isinstance(mode, str) and set(mode) <= set("rwaxt+")]
            if texts or (of_builtin and len(node.args) == 1):
                yield node.lineno


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_text_files_are_opened_with_an_encoding(file: Path) -> None:
    assert not list(without_encoding(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "source", ["open(p)", "open(p, 'w')", "p.open('r')", "p.read_text()", "p.write_text(s)", "open(p, mode='a')"]
)
def test_calls_without_an_encoding_are_found(source: str) -> None:
    assert list(without_encoding(source)) == [1]


@pytest.mark.parametrize(
    "source",
    ["open(p, 'rb')", "store.open(path)", "p.read_text('utf-8')", "p.write_text(s, encoding='utf-8')", "p.open('wb')"],
)
def test_calls_with_one_and_bytes_are_fine(source: str) -> None:
    assert not list(without_encoding(source))
