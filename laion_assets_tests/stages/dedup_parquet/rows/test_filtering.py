"""Row filters: agreement with the rule for one row, domains by labels, bounds that no row can meet."""

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.errors import SettingError
from laion_assets.stages.dedup_parquet.rows.filtering import FILTERS, PASSED, find_filtered
from laion_assets.stages.dedup_parquet.rows.row_filter import RowFilter
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.stages.status import settings_digest
from laion_assets_tests.stages.dedup_parquet.tables import Read, row, table

TYPES = {
    "URL": pa.string(),
    "TEXT": pa.string(),
    "HEIGHT": pa.int32(),
    "WIDTH": pa.int32(),
    "LICENSE": pa.string(),
    "NSFW": pa.string(),
    "similarity": pa.float64(),
}
Row = dict[str, object]


def reasons(rows: list[Row], where: RowFilter) -> list[str | None]:
    """Return the reason of each row, None if it passes."""
    columns = {name: pa.array([each.get(name) for each in rows], kind) for name, kind in TYPES.items()}
    found = find_filtered(columns, len(rows), where)
    assert found is not None
    return [None if place == PASSED else str(FILTERS[place]) for place in found.tolist()]


def reason_of(row: dict[str, object], where: RowFilter) -> str | None:
    """Apply the rule to one row."""

    def outside(value: float | None, least: float | None, most: float | None) -> bool:
        if least is None and most is None:
            return False
        return value is None or (least is not None and value < least) or (most is not None and value > most)

    width, height, similarity = row["WIDTH"], row["HEIGHT"], row["similarity"]
    known = isinstance(width, int) and isinstance(height, int)
    host = (urlsplit(str(row["URL"])).hostname or "") if str(row["URL"]).startswith("http") else ""
    ends = {host.split(".", cut)[cut] for cut in range(host.count(".") + 1)}
    if outside(width, where.min_width, where.max_width):  # type: ignore[arg-type]
        return "filtered_width"
    if outside(height, where.min_height, where.max_height):  # type: ignore[arg-type]
        return "filtered_height"
    if outside(width * height if known else None, where.min_area, where.max_area):  # type: ignore[operator]
        return "filtered_area"
    aspect = max(width, height) / min(width, height) if known else None  # type: ignore[type-var,operator]
    if outside(aspect, None, where.max_aspect):
        return "filtered_aspect"
    if outside(similarity, where.min_similarity, where.max_similarity):  # type: ignore[arg-type]
        return "filtered_similarity"
    if where.nsfw and str(row["NSFW"] or "").lower() not in [tag.lower() for tag in where.nsfw]:
        return "filtered_nsfw"
    if where.licenses and str(row["LICENSE"] or "").lower() not in [name.lower() for name in where.licenses]:
        return "filtered_license"
    if outside(len(str(row["TEXT"] or "")), where.min_caption_chars, where.max_caption_chars):
        return "filtered_caption_length"
    if ends & set(where.blocked_domains) or (where.allowed_domains and not ends & set(where.allowed_domains)):
        return "filtered_domain"
    return None


HOSTS = ("a.test", "www.a.test", "ba.test", "x.y.b.test", "test", "192.0.2.1")
SIDES = st.sampled_from([None, 1, 99, 100, 101, 300, 70_000])
ROWS = st.fixed_dictionaries(
    {
        "URL": st.sampled_from([*(f"https://u@{host}:8080/p?q#f" for host in HOSTS), "ftp://a.test/1.jpg"]),
        "TEXT": st.sampled_from([None, "a", "ä🙂", "a longer caption"]),
        "HEIGHT": SIDES,
        "WIDTH": SIDES,
        "LICENSE": st.sampled_from([None, "?", "CC-BY"]),
        "NSFW": st.sampled_from([None, "UNLIKELY", "unsure", "NSFW"]),
        "similarity": st.sampled_from([None, -1.0, 0.0, 0.3, 0.31]),
    }
)
NO = st.none()
WHERE = st.fixed_dictionaries(
    {
        "min_width": NO | st.just(100),
        "max_width": NO | st.just(300),
        "min_height": NO | st.just(99),
        "max_height": NO | st.just(101),
        "min_area": NO | st.just(10_000),
        "max_area": NO | st.just(30_000),
        "max_aspect": NO | st.sampled_from([1.0, 3.0]),
        "min_similarity": NO | st.just(0.0),
        "max_similarity": NO | st.just(0.3),
        "nsfw": st.sampled_from([(), ("unlikely",), ("UNSURE", "")]),
        "licenses": st.sampled_from([(), ("?", "cc-by"), ("",)]),
        "min_caption_chars": NO | st.just(2),
        "max_caption_chars": NO | st.just(2),
        "allowed_domains": st.sampled_from([(), ("a.test",), ("test",)]),
        "blocked_domains": st.sampled_from([(), ("y.b.test", "www.a.test")]),
    }
)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(ROWS, max_size=12), where=WHERE)
def test_vectorised_filters_agree_with_the_rule_for_one_row(rows: list[Row], where: dict[str, object]) -> None:
    filters = RowFilter(**where)  # type: ignore[arg-type]
    if filters.is_set:
        assert reasons(rows, filters) == [reason_of(each, filters) for each in rows]


def test_without_a_filter_no_column_is_read() -> None:
    assert find_filtered({}, 3, RowFilter()) is None


@pytest.mark.parametrize(
    ("url", "passes"),
    [
        ("https://example.org/a.jpg", False),
        ("https://EXAMPLE.org./a.jpg", False),
        ("https://cdn.example.org:8443/a.jpg", False),
        ("https://example.org@evil.test/a.jpg", True),
        ("https://user:example.org@cdn.example.org?x", False),
        ("https://badexample.org/a.jpg", True),
        ("https://example.org.evil.test/a.jpg", True),
        ("https://other.test/example.org", True),
        ("https://bücher.example/a.jpg", False),
        ("https://xn--bcher-kva.example/a.jpg", False),
        ("data:image/png;base64,AAAA", True),
    ],
)
def test_a_domain_is_matched_by_labels(url: str, passes: bool) -> None:
    where = RowFilter(blocked_domains=("Example.org.", "*.bücher.example"))
    assert reasons([{"URL": url}], where) == [None if passes else "filtered_domain"]


def test_a_list_of_domains_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "blocked.txt"
    file.write_text("# opted out\nexample.org  # since May\n\n.b.test\n")
    where = RowFilter(blocked_domains=(f"@{file}", "c.test"))
    urls = [f"https://{host}/" for host in ("example.org", "x.b.test", "c.test", "d.test")]
    assert reasons([{"URL": url} for url in urls], where) == ["filtered_domain"] * 3 + [None]
    assert where.load_lists().blocked_domains == ("b.test", "c.test", "example.org")

    def digest(domains: tuple[str, ...]) -> str:
        dedup = DedupSettings(where=RowFilter(blocked_domains=domains))
        return settings_digest(replace(SAMPLE, dedup=dedup), "dedup_parquet")

    listed = digest((f"@{file}", "c.test"))
    assert listed == digest(("c.test", "example.org", "b.test")), "the list's content counts, not where it lies"
    file.write_text("example.org\n")
    assert digest((f"@{file}", "c.test")) != listed


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"min_width": 300, "max_width": 200}, "no row can meet both. Raise"),
        ({"min_similarity": 0.5, "max_similarity": 0.2}, "min_similarity is 0.5"),
        ({"min_similarity": 30.0}, "a number from -1 to 1"),
        ({"max_aspect": 0.5}, "a number from 1 to"),
        ({"min_caption_chars": -1}, "an integer from 0 to"),
        ({"min_width": 200, "min_height": 200, "max_area": 100}, "Raise max_area"),
        ({"max_width": 10, "max_height": 10, "min_area": 101}, "Lower min_area"),
        ({"allowed_domains": ("a.b.test",), "blocked_domains": ("b.test",)}, "allows a.b.test and blocks b.test"),
        ({"blocked_domains": ("https://b.test/",)}, "Invalid domain"),
    ],
)
def test_bounds_that_no_row_can_meet_are_refused(where: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        RowFilter(**where)  # type: ignore[arg-type]


@pytest.mark.timeout(10)
def test_list_may_have_a_byte_order_mark_and_must_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes(b"\xef\xbb\xbfexample.org\n")
    assert RowFilter(blocked_domains=(f"@{file}",)).blocked == {"example.org"}
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "."):
        with pytest.raises(SettingError, match="is not a file"):
            RowFilter(blocked_domains=(f"@{tmp_path / name}",)).load_lists()
    file.write_bytes(b"\xff\n")
    with pytest.raises(SettingError, match="Cannot read"):
        RowFilter(blocked_domains=(f"@{file}",)).load_lists()


def test_unreadable_list_is_refused() -> None:
    with pytest.raises(SettingError, match="Cannot read"):
        RowFilter(blocked_domains=("@/nowhere/list.txt",)).load_lists()


def test_filters_come_from_settings_and_make_parquet_files_stale(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[dedup.where]\nmin_width = 200\nnsfw = ["UNLIKELY", ""]\n')
    environment = {"LAION_ASSETS_SETTINGS": str(file), "LAION_ASSETS_DEDUP_WHERE_MIN_SIMILARITY": "0.3"}
    dataset = Settings.load(environment).apply(SAMPLE)
    assert dataset.dedup.where == RowFilter(min_width=200, nsfw=("UNLIKELY", ""), min_similarity=0.3)
    assert settings_digest(dataset, "dedup_parquet") != settings_digest(SAMPLE, "dedup_parquet")
    assert settings_digest(dataset, "raw_csv") == settings_digest(SAMPLE, "raw_csv")


def test_filtered_rows_are_rejects_in_the_partition_of_their_uid() -> None:
    content = table([row(WIDTH="10"), row(WIDTH="900"), row(WIDTH=""), row(URL="nowhere", WIDTH="10")])
    plain = Read(content)
    read = Read(content, DedupSettings(where=RowFilter(min_width=100)))
    assert [(each["source_row"], each["reason"]) for each in read.rejects] == [
        (1, "filtered_width"),
        (3, "filtered_width"),
        (4, "url_without_scheme"),
    ]
    assert read.rejects[0]["digest"] == plain.rows[0]["digest"]
    assert (read.rejects[0]["raw"], read.rejects[0]["raw_bytes"]) == (b"", 0)
    assert read.rows == [plain.rows[1]]


def test_swapped_width_and_height_are_corrected_before_the_filters() -> None:
    content = table([row(HEIGHT="190", WIDTH="143"), row(HEIGHT="143", WIDTH="x")])
    read = Read(content, DedupSettings(width_height_swapped=True, where=RowFilter(min_width=150)))
    assert [(each["WIDTH"], each["HEIGHT"]) for each in read.rows] == [(190, 143)]
    assert read.reasons == ["filtered_width"]
