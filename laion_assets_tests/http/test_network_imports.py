"""Only http/ opens network connections: a lint rule enforces it, and this test covers what the rule cannot detect."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import laion_assets

PACKAGE = Path(laion_assets.__file__).parent
ROOT = PACKAGE.parent
NETWORK = {
    "socket", "ssl", "socketserver", "http.client", "http.server", "urllib.request", "ftplib", "xmlrpc", "aiohttp",
    "requests", "httpx", "httpcore", "urllib3", "websockets", "fsspec.implementations.http",
}  # fmt: skip
NAMED_EXCEPTIONS = {
    "sample/site.py": {"socket"},
    "stages/image_shards/decoding/decoder_process.py": {"socket"},
    "server/run.py": {"socket"},
    "store/lease.py": {"socket"},
    "tables/parquet_process.py": {"socket"},
    "tables/parquet_child.py": {"socket"},
}
"""What each uses it for stands in pyproject.toml."""


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at any depth, by its full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def test_nothing_but_http_imports_what_opens_connections() -> None:
    users: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        used = {banned for banned in NETWORK for each in imported(path) if f"{each}.".startswith(f"{banned}.")}
        if used and not name.startswith("http/"):
            users[name] = used
    assert users == NAMED_EXCEPTIONS


def test_http_imports_no_stage() -> None:
    layers = ("images", "metadata", "embeddings", "index", "search", "sample", "assets", "datasets", "commit", "cli")
    for path in (PACKAGE / "http").rglob("*.py"):
        used = {each.split(".")[1] for each in imported(path) if each.startswith("laion_assets.")}
        assert not used & set(layers), path


@pytest.mark.parametrize(("name", "refused"), [("tables/new.py", 9), ("http/new.py", 0)])
def test_make_lint_refuses_it(name: str, refused: int) -> None:
    lines = [
        "import socket", "import ssl", "import urllib.request", "from urllib.request import urlopen",
        "import http.client", "import aiohttp", "import requests",
        "from fsspec.implementations.http import HTTPFileSystem", "import asyncio", "asyncio.open_connection('h', 80)",
    ]  # fmt: skip
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--no-cache", "--output-format", "concise"]
    command += ["--stdin-filename", f"laion_assets/{name}", "-"]
    run = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.count("TID251") == refused, run.stdout + run.stderr


def test_the_rule_is_part_of_make_lint() -> None:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "TID251" in configured["select"]
    exempt = {"laion_assets_tests/**", "bench/**", "laion_assets/http/**"}
    exempt |= {f"laion_assets/{name}" for name in NAMED_EXCEPTIONS}
    assert {name for name, rules in configured["per-file-ignores"].items() if "TID251" in rules} == exempt
    assert set(configured["flake8-tidy-imports"]["banned-api"]) >= NETWORK
