"""The documentation names files, modules, settings, commands and links that exist."""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from laion_assets.cli import cli
from laion_assets.dataset.built_in import BUILT_IN
from laion_assets.dataset.settings.declared import OWN_KEYS, TABLE, declared_datasets
from laion_assets.dataset.settings.declared_sets import SETS
from laion_assets.dataset.settings.names import FIELDS
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.stages.registry import STAGES, list_stages
from laion_assets_tests.conftest import TOP

PAGES = [
    *(TOP / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    TOP / "bench" / "README.md",
    TOP / "deploy" / "README.md",
    *sorted((TOP / "docs").rglob("*.md")),
]
SOURCES = (TOP, TOP / "laion_assets", TOP / "laion_assets_tests")
READER_FILES = {"mine.py"}
"""Files that a reader makes."""
NAMING_PAGES = {".py", ".yaml", ".toml", ".conf", ".example"}
NOT_SETTINGS = re.compile(
    r"^spark\.(local|pyspark|executor|driver|task|worker|yarn|kubernetes)\.|\.(py|json|parquet|npy|index|yaml)$"
)
"""Spark's own configuration and files, which look like settings."""
SECTIONS = {name.rpartition(".")[0] for name in FIELDS} - {""}
FIRST_NAMES = {section.partition(".")[0] for section in SECTIONS} | {"metadata"}
"""First parts of the names of settings; `metadata` was one."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, by GitHub's rule."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", _without_code_blocks(text_of(page)), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = sum(1 for other in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other))
        found.add(f"{slug}-{number}" if number else slug)
    return frozenset(found)


@cache
def file_names() -> frozenset[str]:
    """Return the names of all Python files of the project."""
    folders = (TOP / "laion_assets", TOP / "laion_assets_tests", TOP / "bench", TOP / "tools")
    return frozenset(path.name for folder in folders for path in folder.rglob("*.py"))


@each_page
def test_relative_links_and_their_anchors_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", _without_code_blocks(text_of(page))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_named_files_of_the_package_exist(page: Path) -> None:
    for name in re.findall(r"\blaion_assets(?:_tests)?/[\w./<>-]*", text_of(page)):
        pattern = re.sub(r"<\w+>", "*", name.rstrip("."))
        assert any(TOP.glob(pattern.rstrip("/"))), name


@each_page
def test_named_python_files_exist(page: Path) -> None:
    for name in re.findall(r"`([\w/.-]+\.py)(?:::?\w+)?`", text_of(page)):
        if "/" in name:
            assert any((folder / name).is_file() for folder in (*SOURCES, page.parent)), name
        else:
            assert name in file_names() | READER_FILES, name


@each_page
def test_named_modules_and_their_attributes_exist(page: Path) -> None:
    for name in re.findall(r"\blaion_assets(?:_tests)?(?:\.[A-Za-z_]\w*)+", text_of(page)):
        parts = name.split(".")
        path = TOP
        while parts and (path / parts[0]).is_dir():
            path /= parts.pop(0)
        if parts and (path / f"{parts[0]}.py").is_file():
            path /= f"{parts.pop(0)}.py"
        source = path if path.is_file() else path / "__init__.py"
        assert len(parts) <= 1, name
        assert not parts or re.search(rf"\b{parts[0]}\b", source.read_text(encoding="utf-8")), name


@each_page
def test_named_settings_exist(page: Path) -> None:
    for name in re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+)(?: = [^`]*)?`", text_of(page)):
        if name.partition(".")[0] in FIRST_NAMES and not NOT_SETTINGS.search(name):
            assert name in FIELDS or name in SECTIONS, name


@each_page
def test_settings_in_toml_examples_exist(page: Path) -> None:
    for block in re.findall(r"^```toml\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE):
        table = tomllib.loads(block)
        found = [_setting_name(name) for name in _leaves(table)]
        assert found
        for name in found:
            assert name in FIELDS or name.partition(".")[0] in OWN_KEYS, name
        for dataset in declared_datasets(table, str(page)).values():
            Settings(table, str(page), {}).apply(dataset)


@each_page
def test_named_commands_and_make_targets_exist(page: Path) -> None:
    for name in re.findall(r"(?:`|^ {4}|^\$ )laion-assets ([a-z]+)", text_of(page), re.MULTILINE):
        assert name in cli.commands, name
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z-]+)", text_of(page)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@each_page
def test_options_of_commands_in_examples_exist(page: Path) -> None:
    for name, rest in re.findall(r"^(?: {4}|\$ )laion-assets ([a-z]+) (.*)$", text_of(page), re.MULTILINE):
        known = {
            option for parameter in cli.commands[name].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        for word in shlex.split(rest, comments=True):
            assert not re.match(r"--?[a-z]", word) or word.partition("=")[0] in known | {"--help"}, f"{name} {word}"


def test_pages_named_in_code_comments_and_configuration_exist() -> None:
    folders = ("laion_assets", "bench", "deploy", "dagster_home", "tools")
    files = [path for folder in folders for path in (TOP / folder).rglob("*") if path.suffix in NAMING_PAGES]
    for path in [*files, TOP / "Makefile", TOP / "setup.cfg", TOP / "pyproject.toml"]:
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(encoding="utf-8", errors="replace")):
            assert (TOP / name).is_file(), f"{path}: {name}"


def test_the_error_messages_of_the_troubleshooting_page_exist() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (TOP / "laion_assets").rglob("*.py"))
    text = re.sub(r'"\n\s*f?"', "", sources)
    page = text_of(TOP / "docs" / "operations" / "troubleshooting.md")
    cells = re.findall(r"^\| (`.*?`) \| ", page, re.MULTILINE)
    assert cells
    for message in re.findall(r"`([^`]*\.\.\.[^`]*)`", " ".join(cells)):
        for part in filter(None, (part.strip() for part in message.split("..."))):
            assert part in text, f"{message}: {part}"


def test_the_architecture_lists_every_stage_with_its_summary() -> None:
    page = text_of(TOP / "docs" / "architecture.md")
    rows = re.findall(r"^\| `(\w+)` \| ([A-Z].*) \|$", page, re.MULTILINE)
    assert rows == [(stage.name, stage.summary) for stage in STAGES]


def test_the_architecture_lists_every_dataset_with_its_partitions() -> None:
    page = text_of(TOP / "docs" / "architecture.md")
    header = re.search(r"^\| partitions \| (.*) \|$", page, re.MULTILINE)
    assert header
    columns = header[1].replace("`", "").split(" | ")
    for name, dataset in BUILT_IN.items():
        counts = {stage.name: len(stage.handle.numbers(dataset.layout)) for stage in list_stages(dataset)}
        assert f"| `{name}` | {' | '.join(f'{counts[column]:,}' for column in columns)} |" in page


def test_the_architecture_lists_every_folder() -> None:
    folders = {path.parent.name for path in (TOP / "laion_assets").glob("*/__init__.py")}
    listed = re.findall(r"^\| `(\w+)/` \|", text_of(TOP / "docs" / "architecture.md"), re.MULTILINE)
    assert set(listed) == folders


def test_the_diagram_of_the_layers_is_that_of_the_import_contract() -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```", text_of(TOP / "docs" / "architecture.md"), re.DOTALL | re.MULTILINE)
    diagram = next(block for block in blocks if "\u250c" in block).splitlines()
    settings = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = [contract["layers"] for contract in settings["contracts"] if contract["id"] == "layers"]
    lowest_above = -1
    for layer in layers:
        modules = re.findall(r"laion_assets\.(\w+)", layer)
        rows = [[n for n, line in enumerate(diagram) if re.search(rf"\b{module}\b", line)] for module in modules]
        assert all(rows), layer
        assert min(map(min, rows)) > lowest_above, layer
        lowest_above = max(map(max, rows))


def test_the_index_lists_every_page() -> None:
    listed = set(re.findall(r"\]\(([^)#]+)\)", text_of(TOP / "docs" / "README.md")))
    pages = {str(page.relative_to(TOP / "docs")) for page in (TOP / "docs").rglob("*.md")}
    assert {page for page in pages if not page.startswith("decisions/")} - {"README.md"} <= listed


def test_the_index_of_decisions_lists_every_decision() -> None:
    folder = TOP / "docs" / "decisions"
    listed = set(re.findall(r"\]\(([^)#/]+)\)", text_of(folder / "README.md")))
    records = {page.name: text_of(page) for page in folder.glob("*.md") if page.name != "README.md"}
    assert listed == set(records)
    for name, text in records.items():
        assert re.search(r"^Date: 20\d\d-\d\d-\d\d$", text, re.MULTILINE), name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], name


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and _setting_name(name) not in FIELDS:
            yield from _leaves(value, f"{name}.")
        else:
            yield name


def _setting_name(name: str) -> str:
    """Return the name of a setting without its dataset or embedding set."""
    if f".{SETS}." in name:
        return name.partition(f".{SETS}.")[2].partition(".")[2]
    owner, _, rest = name.partition(".")
    if owner == TABLE:
        return rest.partition(".")[2]
    return rest if owner in BUILT_IN else name


def _without_code_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
