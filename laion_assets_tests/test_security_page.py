"""The security pages name tests, modules and pages that exist."""

import re

import pytest

from laion_assets_tests.conftest import TOP

PAGES = [*sorted((TOP / "docs").glob("security*.md")), TOP / "SECURITY.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tests_and_links_of_a_security_page_exist(page):
    text = page.read_text(encoding="utf-8")
    for named, test in re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(\w+))?`", text):
        path = TOP / "laion_assets_tests" / named
        assert path.is_file(), named
        assert not test or f"def {test}(" in path.read_text(encoding="utf-8"), test
    for folder in re.findall(r"`laion_assets_tests/(\w+)/`", text):
        assert (TOP / "laion_assets_tests" / folder).is_dir(), folder
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link
    targets = (TOP / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([\w-]+)`", text):
        assert re.search(rf"^{target}:", targets, re.MULTILINE), target


def test_the_page_names_a_test_for_each_part():
    parts = re.split(r"^## ", (TOP / "docs" / "security.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    tested = {part.partition("\n")[0] for part in parts if re.search(r"test_\w+\.py", part)}
    assert {"Network", "Store", "Decoder", "Text", "Supply chain"} <= tested
