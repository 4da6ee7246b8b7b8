"""Strangers' text is one visible line, and no markup; the package has one place for each kind of output."""

import ast
import json
import pickle
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import laion_assets
from laion_assets.errors import SourceError
from laion_assets.plain_text import for_json, for_markdown, one_line
from laion_assets_tests.hostile_text import HOSTILE, INVISIBLE, markup, rendered

PACKAGE = Path(laion_assets.__file__).parent
MARKDOWN_BITS = st.sampled_from(
    [*"![]()<>&;:/\\`*_~#|-+=.@1 \n\t'\"", "http://", "www.", "a", "&sol;", "\u202e", "\x1b"]
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_one_visible_line_and_no_markup(text: str) -> None:
    assert not INVISIBLE.search(one_line(text))
    assert markup(for_markdown(text)) == []
    assert rendered(for_markdown(text)).replace("\u2060", "") == one_line(text).strip()


def test_the_renderer_of_these_tests_finds_images_links_and_html() -> None:
    found = " ".join(found for text in HOSTILE for found in markup(text))
    for kind in ("image", "link_open", "html_inline", "html_block", "autolink http", "mail@leak.test", "table_open"):
        assert kind in found


@given(st.one_of(st.text(), st.lists(MARKDOWN_BITS, max_size=40).map("".join)))
def test_any_text_is_one_visible_line_and_no_markup(text: str) -> None:
    line = one_line(text)
    assert not INVISIBLE.search(line)
    assert one_line(line) == line
    assert markup(for_markdown(text)) == []
    assert rendered(for_markdown(text)).replace("\u2060", "") == line.strip()


def test_every_control_surrogate_and_line_separator_is_escaped() -> None:
    shown = [
        hex(number)
        for number in range(0x110000)
        if unicodedata.category(chr(number)) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(chr(number)) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
        if one_line(chr(number)) == chr(number)
    ]
    assert shown == []


def test_ordinary_text_of_any_script_is_unchanged() -> None:
    text = "Ein Bild: 写真 صورة תמונה रोटी ❤️ ½ – 100 %, a_b (c) #1 [x] & <y>\u00a0z"
    assert one_line(text) == text
    assert rendered(for_markdown(text)) == text
    assert for_markdown("23 complete, 1 stale of 24 partitions (of this run)") == (
        "23 complete, 1 stale of 24 partitions (of this run)"
    )


def test_long_text_ends_with_an_ellipsis() -> None:
    assert one_line("a" * 9, 9) == "a" * 9
    assert one_line("a" * 10, 9) == "a" * 8 + "…"
    assert len(one_line("\x00" * 50, 20)) == 20


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_keeps_its_value_and_shows_no_invisible_character(value: object) -> None:
    document = for_json(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(document) == value
    assert not INVISIBLE.search(document.replace("\n", ""))


def test_errors_are_one_visible_line_also_from_another_process() -> None:
    error = SourceError("http://a.test/\x1b]0;x\x07\nlaion-assets: all is well")
    assert str(error) == "http://a.test/\\x1b]0;x\\x07\\nlaion-assets: all is well"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (SourceError, str(error))


def calls() -> Iterator[tuple[str, ast.Call, str]]:
    """Every call in the package: file, node, and the dotted name that is called."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(PACKAGE)), node, ast.unparse(node.func)


def files_that_call(*names: str) -> set[str]:
    return {file for file, _, name in calls() if name.endswith(names)}


def test_markdown_tables_links_and_paths_of_the_ui_are_each_built_in_one_place() -> None:
    assert files_that_call("MetadataValue.md") == {"orchestration/ui/metadata_values.py"}
    assert files_that_call("MetadataValue.text", "MetadataValue.table", "MetadataValue.json", "TableRecord") == {
        "orchestration/ui/metadata_values.py"
    }
    assert files_that_call("MetadataValue.url") == set()
    assert files_that_call("MetadataValue.notebook", "MarkdownMetadataValue", "UrlMetadataValue") == set()


def test_descriptions_which_the_ui_renders_as_markdown_pass_one_function() -> None:
    for file, call, name in calls():
        if name.endswith(("AssetCheckResult", "AssetMaterialization", "AssetObservation", "ObserveResult", "Failure")):
            for keyword in call.keywords:
                if keyword.arg == "description":
                    made = [ast.unparse(node.func) for node in ast.walk(keyword.value) if isinstance(node, ast.Call)]
                    assert "description" in made, f"{file}:{call.lineno}"


def test_the_terminal_is_written_to_in_one_place() -> None:
    assert files_that_call("click.echo", "click.secho") == {"cli/output.py"}
    printing = {file for file, _, name in calls() if name == "print" and not file.startswith("sample/")}
    assert printing == set()
    assert {file for file, _, name in calls() if name in ("sys.stdout.write", "sys.stderr.write")} == set()


def test_lines_of_a_run_s_log_pass_one_function() -> None:
    for file, call, name in calls():
        if name.endswith((".log.info", ".log.warning", ".log.error", ".log.debug", ".log.critical")):
            assert ast.unparse(call.args[0]).startswith("one_line("), f"{file}:{call.lineno}"
