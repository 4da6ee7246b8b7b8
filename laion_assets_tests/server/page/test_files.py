"""Static files of the search page: nothing inline or from another host, no broken reference, readable colours."""

import configparser
import fnmatch
import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import laion_assets
from laion_assets.plain_text import one_line

PACKAGE = Path(laion_assets.__file__).parent
PAGE = PACKAGE / "server" / "page"
HTML = (PAGE / "index.html").read_text()
SCRIPTS = {path.relative_to(PAGE / "scripts").as_posix(): path.read_text() for path in sorted(PAGE.rglob("*.js"))}
"""The scripts by their path, for example results/grid.js."""
STYLES = {path.name: path.read_text() for path in sorted(PAGE.glob("styles/*.css"))}
CODE = "\n".join(SCRIPTS.values())
CSS = re.sub(r"/\*.*?\*/", "", "\n".join(STYLES.values()), flags=re.DOTALL)
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
MIN_CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3."""


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.found and data.strip():
            self.text.setdefault(self.found[-1][0], []).append(data)


def elements() -> list[tuple[str, dict[str, str]]]:
    parser = _Elements()
    parser.feed(HTML)
    assert "script" not in parser.text
    assert len(parser.found) > 50
    return parser.found


ELEMENTS = elements()
IDS = [attributes["id"] for _, attributes in ELEMENTS if "id" in attributes]


def test_the_html_has_no_inline_script_or_style() -> None:
    for tag, attributes in ELEMENTS:
        assert tag != "style"
        assert tag != "script" or attributes["src"], "a script without a src"
        inline = [name for name in attributes if name == "style" or name.startswith("on")]
        assert not inline, (tag, inline)


def test_every_file_that_the_html_names_exists() -> None:
    named = [
        attributes.get("src") or attributes.get("href", "")
        for tag, attributes in ELEMENTS
        if tag in ("script", "link", "img")
    ]
    assert len(named) == len(STYLES) + 3  # the theme, the main module and the icon
    for path in named:
        assert path.startswith("page/"), path
        assert (PAGE / path.removeprefix("page/")).is_file(), path


@pytest.mark.parametrize("path", [path for path in PAGE.rglob("*") if path.is_file()], ids=lambda path: path.name)
def test_no_file_names_another_host(path: Path) -> None:
    text = path.read_text().replace(SVG_NAMESPACE, "")
    assert re.findall(r"https?://[^\s\"'`]+|[\"'(]//[^\s\"'`]+|@import|\burl\(", text) == []


def test_scripts_never_parse_html_or_code_from_strings() -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|setHTML|DOMParser"
    assert not re.search(forbidden, CODE)
    assert 'setAttribute("style"' not in CODE  # the policy would block it


def test_ids_are_unique_and_every_id_that_is_used_exists() -> None:
    made = re.findall(r"\bid: \"([\w-]+)\"", CODE)
    assert len(IDS) == len(set(IDS))
    assert not set(IDS) & set(made)
    used = re.findall(r"(?:byId|getElementById)\(\"([\w-]+)\"\)", CODE)
    used += re.findall(r"htmlFor: \"([\w-]+)\"", CODE)
    for _, attributes in ELEMENTS:
        for name in ("for", "aria-controls", "aria-labelledby", "aria-describedby"):
            used += attributes.get(name, "").split()
        if attributes.get("href", "").startswith("#"):
            used.append(attributes["href"][1:])
    assert len(used) > 50
    assert set(used) - set(IDS) - set(made) == set()


def test_every_icon_exists_and_is_used() -> None:
    symbols = {attributes["id"].removeprefix("icon-") for tag, attributes in ELEMENTS if tag == "symbol"}
    used = set(re.findall(r"(?:icon|action|step)\(\"([a-z]+)\"", CODE)) | set(re.findall(r"#icon-([a-z]+)\"", HTML))
    used |= {name for pair in re.findall(r"icon\(\w+ \? \"(\w+)\" : \"(\w+)\"\)", CODE) for name in pair}
    assert used == symbols


def test_imports_of_modules_exist() -> None:
    imports = [
        (name, posixpath.normpath(posixpath.join(posixpath.dirname(name), module)), imported.split(","))
        for name, code in SCRIPTS.items()
        for imported, module in re.findall(r"import \{([^}]+)\} from \"(\.[\w./]+)\"", code)
    ]
    assert len(imports) > 20
    assert len(imports) == len(re.findall(r"^import ", CODE, re.MULTILINE))
    for name, module, names in imports:
        for imported in names:
            exported = rf"export (?:async )?(?:function|const|class) {imported.strip()}\b"
            assert re.search(exported, SCRIPTS[module]), f"{name} imports {imported} from {module}"
    modules = {module for _, module, _ in imports} | {"main.js", "theme.js"}
    assert modules == set(SCRIPTS), "a script that nothing imports"


def test_every_control_of_the_html_has_a_name() -> None:
    labels = {attributes["for"] for tag, attributes in ELEMENTS if tag == "label" and "for" in attributes}
    for tag, attributes in ELEMENTS:
        if tag in ("input", "select") and attributes.get("type") not in ("radio", "checkbox"):
            assert attributes["id"] in labels or attributes.get("aria-label"), attributes
        if tag == "button" and "icon" in attributes.get("class", "").split():
            assert attributes.get("aria-label"), attributes


def test_the_package_includes_every_file_of_the_page() -> None:
    settings = configparser.ConfigParser()
    settings.read(PACKAGE.parent / "setup.cfg")
    patterns = [line.split("/") for line in settings["options.package_data"]["laion_assets"].split()]
    for path in PAGE.rglob("*"):
        parts = path.relative_to(PACKAGE).parts
        packed = any(
            len(parts) == len(pattern) and all(map(fnmatch.fnmatchcase, parts, pattern)) for pattern in patterns
        )
        assert path.is_dir() or packed, path


def test_the_documentation_lists_every_parameter_of_the_address() -> None:
    page = (PACKAGE.parent / "docs" / "operations" / "search-page.md").read_text()
    table = page.partition("## Addresses")[2].partition("##")[0]
    listed = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    script = SCRIPTS["query/query.js"]
    constants = re.findall(r"const (?:TERM_NAMES|NUMBERS|TEXTS) = (.*?);", script, re.DOTALL)
    assert len(constants) == 3
    used = {name for value in constants for name in re.findall(r"\"(\w+)\"", value)}
    used |= set(re.findall(r"address\.(?:set|append)\(\"(\w+)\"", script))
    assert used == listed


# Colours.

VARIABLES = dict(re.findall(r"(--[\w-]+):\s*([^;]+);", STYLES["theme.css"]))
COLOURS = {
    name: (found[1], found[2])
    for name, value in VARIABLES.items()
    if (found := re.fullmatch(r"light-dark\((#\w{6}), (#\w{6})\)", value))
}


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, 0 to 1 (WCAG 2.2)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def pairs() -> list[tuple[str, str]]:
    """Each text colour on each surface, and each `--on-NAME` on `--NAME`."""
    texts = [name for name in COLOURS if name.startswith("--text-")]
    surfaces = [name for name in COLOURS if name.startswith("--surface-")]
    on = [(name, f"--{name.removeprefix('--on-')}") for name in COLOURS if name.startswith("--on-")]
    assert len(texts) >= 4
    assert len(surfaces) >= 4
    assert len(on) >= 2
    return [*((text, surface) for text in texts for surface in surfaces), *on]


@pytest.mark.parametrize(("text", "surface"), pairs())
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_on_every_surface(text: str, surface: str, scheme: str) -> None:
    at = ["light", "dark"].index(scheme)
    assert contrast(COLOURS[text][at], COLOURS[surface][at]) >= MIN_CONTRAST


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_text_and_backgrounds_use_these_colours_only() -> None:
    for colour in re.findall(r"(?<![\w-])color:\s*([^;}]+)", CSS):
        assert re.fullmatch(r"var\(--(text|on)-[\w-]+\)|inherit|transparent", colour), colour
    for background in re.findall(r"background(?:-color)?:\s*([^;}]+)", CSS):
        allowed = r"none|(var\(--(surface-[\w-]+|accent|accent-hover|ink|line|line-strong|backdrop)\))"
        assert re.fullmatch(allowed, background) or background.startswith("linear-gradient"), background


def test_a_rule_that_sets_a_filled_background_sets_its_text_colour() -> None:
    for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", CSS):
        filled = re.search(r"background: var\(--(accent|accent-hover|ink)\)", body)
        if filled and "::" not in selector and ".track" not in selector:
            assert f"color: var(--on-{filled[1]})" in body, selector


def test_every_variable_of_the_styles_is_defined() -> None:
    set_by_scripts = {"--ratio", "--gap", "--zoom"}
    assert set(re.findall(r"var\((--[\w-]+)", CSS)) - set(VARIABLES) == set_by_scripts
    assert {"--ratio", "--gap", "--zoom"} <= set(re.findall(r"\"(--[\w-]+)\"", CODE))


def test_the_page_makes_the_same_characters_visible_as_terminals() -> None:
    """`visible` in text.js has the same character class as `one_line`, except joiners and white space."""
    script = re.search(r"const INVISIBLE =\s*/\[(.*?)\]/gu;", SCRIPTS["text.js"], re.DOTALL)
    assert script is not None
    ours = re.sub(r"\\u\{(\w+)\}", lambda found: rf"\U{int(found[1], 16):08x}", script[1])
    hidden = re.compile(f"[{ours}]")
    for code in [*range(0x3000), *range(0xD800, 0xE000), *range(0xFE00, 0x10000), *range(0x1BC00, 0x1BD00)]:
        character = chr(code)
        if character.isspace() or character in "\u200c\u200d":
            continue
        assert bool(hidden.match(character)) == (one_line(character) != character), f"U+{code:04X}"
