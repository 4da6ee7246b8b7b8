"""Text files are opened with an encoding, so that another locale changes no bytes and fails no run."""

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
FILES = sorted(path for folder in ("laion_assets", "bench") for path in (TOP / folder).rglob("*.py"))


def find_opens_without_encoding(source: str) -> list[int]:
    """Return the lines of calls that read or write text in the encoding of the locale."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if "encoding" in keywords:
            continue
        if name in ("read_text", "write_text", "TextIOWrapper"):
            found.append(node.lineno)
        elif name == "open" and isinstance(node.func, ast.Name):
            found += [node.lineno] if "b" not in _mode(node, 1, keywords, "r") else []
        elif name == "open" and node.args[:1] and "b" not in _mode(node, 0, keywords, "b"):
            found.append(node.lineno)
        elif name == "fdopen":
            found += [node.lineno] if "b" not in _mode(node, 1, keywords, "r") else []
        elif name in ("NamedTemporaryFile", "TemporaryFile"):
            found += [node.lineno] if "b" not in _mode(node, 0, keywords, "b") else []
        elif any(isinstance(keywords.get(text), ast.Constant) for text in ("text", "universal_newlines")):
            found.append(node.lineno)
    return found


def _mode(node: ast.Call, position: int, keywords: dict[str | None, ast.expr], default: str) -> str:
    """Return the mode of a call that opens a file. Anything else, such as a path or a variable, counts as binary."""
    given = keywords.get("mode") or (node.args[position] if len(node.args) > position else None)
    if given is None:
        return default
    mode = given.value if isinstance(given, ast.Constant) else "b"
    return mode if isinstance(mode, str) and set(mode) <= set("rwxabt+") else "b"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TOP)))
def test_text_is_read_and_written_with_an_encoding(path: Path) -> None:
    assert not find_opens_without_encoding(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "open('a')",
        "open('a', 'w')",
        "path.read_text()",
        "path.write_text('x')",
        "path.open('w')",
        "os.fdopen(3, 'w')",
        "subprocess.run(['a'], text=True)",
        "NamedTemporaryFile('w')",
    ],
)
def test_check_finds_each_way_to_open_text(source: str) -> None:
    assert find_opens_without_encoding(source) == [1]


@pytest.mark.parametrize(
    "source",
    [
        "open('a', 'rb')",
        "path.open('rb')",
        "store.open(path)",
        "tarfile.open(fileobj=file, mode='r|')",
        "path.read_text(encoding='utf-8')",
        "os.fdopen(3, 'rb')",
        "os.open(path, flags)",
    ],
)
def test_check_accepts_bytes_and_encodings(source: str) -> None:
    assert find_opens_without_encoding(source) == []
