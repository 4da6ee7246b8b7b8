"""`laion-assets init` finds what the files hold, and appends an entry that every command understands."""

import gzip
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.cli import run_command
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.stages.raw_csv.build import fetch_raw_csv
from laion_assets.store.store import Store
from laion_assets_tests.end_to_end.conftest import BIN, TOP, environment
from laion_assets_tests.inspection.forms import FORMS
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.site import answer, running

ROWS = [(f"http://photos.test/{n}.jpg", f"caption {n}, with a comma") for n in range(40)]


class Done:
    """The outcome of a command: exit status and output. `entry` is the text of the settings file."""

    def __init__(self, status: int, out: str, err: str, folder: Path) -> None:
        self.status, self.out, self.err = status, out, err
        file = folder / "laion-assets.toml"
        self.entry = file.read_text(encoding="utf-8") if file.exists() else ""

    def dataset(self, name: str = "mine") -> Dataset:
        settings = Settings(tomllib.loads(self.entry), "laion-assets.toml", {})
        return settings.apply(settings.datasets[name])


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run `laion-assets init` in an empty folder and in this process. URLs are fetched only with `check`."""

    def call(*arguments: str, name: str = "mine", check: bool = False) -> Done:
        monkeypatch.chdir(tmp_path)
        for key, value in environment(tmp_path).items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(
            sys, "argv", ["laion-assets", "init", name, *arguments, *([] if check else ["--no-check-urls"])]
        )
        capfd.readouterr()
        status = 0
        try:
            run_command()
        except SystemExit as ended:
            status = int(ended.code or 0)
        return Done(status, *capfd.readouterr(), tmp_path)

    return call


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_found_with_its_columns_and_rows(init: Callable[..., Done], tmp_path: Path, form: str) -> None:
    FORMS[form](tmp_path / "pairs", ROWS)
    done = init("--from", "pairs")
    assert done.status == 0, done.err
    assert "rows:      40 (exact)" in done.out
    assert f"examples:  {ROWS[0][0]} | {ROWS[0][1]}" in done.out
    dataset = done.dataset()
    assert (dataset.layout.shards, dataset.layout.rows_per_shard) == (1, 10_000)
    assert dataset.dedup.separator == ("," if form == "comma_csv" else "|")
    is_parquet = form in ("parquet", "hugging_face")
    assert (dataset.source, dataset.published) == (("", ("pairs",)) if is_parquet else ("pairs", ()))
    assert dataset.dedup.url_column == ("image_url" if form == "hugging_face" else "")


def test_the_file_keeps_its_bytes_and_an_existing_name_is_refused(init: Callable[..., Done], tmp_path: Path) -> None:
    FORMS["pipe_csv"](tmp_path / "pairs", ROWS)
    before = "# mine\r\nmodel = 'sample-clip'   # no newline at the end\n[images]\nthreads = 3"
    (tmp_path / "laion-assets.toml").write_bytes(before.encode())
    done = init("--from", "pairs")
    assert done.status == 0, done.err
    assert (tmp_path / "laion-assets.toml").read_bytes().startswith(before.encode() + b"\n\n# Written by")
    assert done.dataset().images.threads == 3
    again = init("--from", "pairs", name="MINE")
    assert again.status == 1
    assert "already declares the dataset MINE. Choose another name, change its settings in [dataset.MINE]" in again.err
    assert again.entry == done.entry
    assert "built in" in init("--from", "pairs", name="sample").err
    assert "reserved for settings" in init("--from", "pairs", name="images").err
    second = init("--from", "pairs", name="second")
    assert {"mine", "second"} <= tomllib.loads(second.entry)["dataset"].keys()


def test_dry_run_prints_the_entry_and_writes_nothing(init: Callable[..., Done], tmp_path: Path) -> None:
    FORMS["comma_csv"](tmp_path / "pairs", ROWS)
    done = init("--from", "pairs", "--dry-run")
    assert (done.status, done.entry) == (0, "")
    assert '[dataset.mine.dedup]\nseparator = ","' in done.out


def test_files_of_several_formats_are_an_error_with_the_choice(init: Callable[..., Done], tmp_path: Path) -> None:
    FORMS["pipe_csv"](tmp_path / "pairs", ROWS)
    (tmp_path / "pairs" / "c.jsonl").write_text(json.dumps({"url": ROWS[0][0]}))
    done = init("--from", "pairs")
    assert done.status == 1
    assert "files of several formats: 1 json_lines (c.jsonl), 2 csv (a.csv). Choose one with a pattern" in done.err
    chosen = init("--from", "pairs/*.csv")
    assert chosen.status == 0, chosen.err
    assert (chosen.dataset().source, chosen.dataset().csv.pattern) == ("pairs", r"^[^/]*\.csv$")
    single = init("--from", "pairs/c.jsonl", name="single")
    assert single.dataset("single").source == "pairs/c.jsonl"
    assert re.search(single.dataset("single").csv.pattern, "c.jsonl")


def test_a_struct_with_the_urls_is_named_with_its_type(init: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    table = pa.table({"image": [{"url": "http://a.test/1.jpg", "width": 3}], "caption": ["x"]})
    pq.write_table(table, tmp_path / "pairs" / "a.parquet")
    done = init("--from", "pairs")
    assert (done.status, done.entry) == (1, "")
    assert "The columns are caption." in done.err
    assert "Columns of lists and structs are not read: image (struct<url: string, width: int64>)." in done.err


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "No parquet, CSV or JSON lines file in pairs"),
        ({"a.pdf": b"x"}, "No parquet, CSV or JSON lines file in pairs, but 1 other files (.pdf)"),
        ({"a.csv": b""}, "is empty"),
        ({"a.csv": b"url,caption\n"}, "There are no rows after the header line url, caption"),
        ({"a.csv": b"name,size\na,1\nb,2\n"}, "No column holds http or https URLs. The columns are name, size"),
        ({"a.parquet": b"PAR1 not really"}, "is not a readable parquet file"),
        ({"a.json": b'[\n{"url": "http://a.test/1"}\n]\n'}, "is a JSON array, not JSON lines"),
        ({"a.csv": b"BZh91AY&SY"}, "another program than gzip and Zstandard"),
        ({"a.csv": b"PAR1"}, "Give it a name that ends in .parquet"),
    ],
)
def test_files_that_cannot_be_used_are_an_error(
    init: Callable[..., Done], tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    (tmp_path / "pairs").mkdir()
    for name, content in files.items():
        (tmp_path / "pairs" / name).write_bytes(content)
    done = init("--from", "pairs")
    assert (done.status, done.entry) == (1, "")
    assert message in done.err
    assert "Traceback" not in done.err


def test_places_that_cannot_be_read_are_an_error(
    init: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "nowhere does not exist" in init("--from", "nowhere").err
    assert "is not valid UTF-8, so a settings file cannot hold it" in init("--from", os.fsdecode(b"a\xff")).err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = init("--from", "hf://datasets/someone/pairs")
    assert done.status == 1
    assert "Without a network, download the folder elsewhere and use --from FOLDER" in done.err


def test_several_candidates_are_asked_for_and_chosen_by_options(init: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    rows = {"thumb": ROWS, "full": ROWS, "de": ROWS, "en": ROWS}
    columns: dict[str, Any] = {name: [row[name in ("de", "en")] for row in values] for name, values in rows.items()}
    pq.write_table(pa.table(columns | {"score": [0.5] * 40}), tmp_path / "pairs" / "a.parquet")
    done = init("--from", "pairs")
    assert done.status == 1
    assert "several candidates: thumb, full. Choose one with --url-column, or use --yes" in done.err
    assert "--caption-column" in init("--from", "pairs", "--url-column", "full").err
    chosen = init("--from", "pairs", "--url-column", "FULL", "--caption-column", "en", "--keep", "score")
    assert chosen.status == 0, chosen.err
    dedup = chosen.dataset().dedup
    assert (dedup.url_column, dedup.caption_column, dedup.keep_columns) == ("full", "en", ("score:float64",))
    assert "not used: thumb, de" in chosen.out
    assert init("--from", "pairs", "--yes", name="other").dataset("other").dedup.url_column == "thumb"
    assert "No column named 'x' (--url-column)" in init("--from", "pairs", "--url-column", "x", name="third").err


def test_a_file_without_header_captions_and_ascii(init: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text("\n".join(url for url, _ in ROWS))
    (tmp_path / "other.txt").write_text("another file beside it")
    done = init("--from", "urls.txt")
    assert done.status == 0, done.err
    dedup = done.dataset().dedup
    assert (dedup.column_names, dedup.url_column, dedup.required_columns) == (("column_1",), "column_1", ("URL",))
    fetched = fetch_raw_csv(done.dataset(), Store.of(done.dataset()), lambda line: None)
    assert [entry.path for entry in fetched.files] == ["raw_csv/urls.txt"]
    (tmp_path / "pairs.dat").write_text("url,caption\nhttp://photos.test/1.jpg,a cat\n")
    assert init("--from", "pairs.dat", name="dat").dataset("dat").csv.pattern == r"^(pairs\.dat)$"
    (tmp_path / "k.tsv.gz").write_bytes(
        gzip.compress("".join(f"{url}\tКошка сидит на окне {n}\n" for n, (url, _) in enumerate(ROWS)).encode("cp1251"))
    )
    tsv = init("--from", "k.tsv.gz", name="tsv")
    assert tsv.status == 0, tsv.err
    assert 'CSV, separator tab, quote ", no header line, windows-1251, gz' in tsv.out
    assert "Кошка сидит на окне 0" in tsv.out


def test_rows_without_nsfw_tags_are_explained_and_the_entry_can_show_them(
    init: Callable[..., Done], tmp_path: Path
) -> None:
    FORMS["comma_csv"](tmp_path / "pairs", ROWS)
    done = init("--from", "pairs")
    assert "remove the # before [dataset.mine.search_report]" in done.out
    assert not done.dataset().search_report.show_untagged
    done.entry = re.sub(r"^# (?=\[dataset.mine.search_report|show_untagged)", "", done.entry, flags=re.MULTILINE)
    assert done.dataset().search_report.show_untagged
    (tmp_path / "tagged.csv").write_text("url,caption,NSFW\nhttp://a.test/1.jpg,a caption,UNLIKELY\n")
    assert "search_report" not in init("--from", "tagged.csv", name="tagged").out


def test_files_that_describe_a_dataset_are_not_its_rows(init: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "a.json").write_text(json.dumps({"url": ROWS[0][0], "text": "one"}))
    (tmp_path / "pairs" / "dataset_info.json").write_text("{}")
    (tmp_path / "pairs" / "metadata.json").write_text("{}")
    done = init("--from", "pairs")
    assert done.status == 0, done.err
    assert "files:     1, 0.00 MB (2 other files are ignored)" in done.out
    fetched = fetch_raw_csv(done.dataset(), Store.of(done.dataset()), lambda line: None)
    assert [entry.path for entry in fetched.files] == ["raw_csv/a.json"]


def test_rejected_rows_of_the_sample_are_shown(init: Callable[..., Done], tmp_path: Path) -> None:
    FORMS["comma_csv"](tmp_path / "pairs", ROWS)
    with (tmp_path / "pairs" / "pairs.csv").open("ab") as file:
        file.write(b"http://a.test/1,a,b\nnot a url,x\n")
    assert "2 of 42 sampled rows: 1 wrong_token_count, 1 url_without_scheme" in init("--from", "pairs").out


def test_text_from_the_files_reaches_neither_terminal_nor_file_raw(init: Callable[..., Done], tmp_path: Path) -> None:
    rows = [(url, f"a \x1b[31mred\x07 caption {n}") for n, (url, _) in enumerate(ROWS)]
    FORMS["json_lines"](tmp_path / "pa\x1b[32mirs", rows)
    done = init("--from", "pa\x1b[32mirs")
    assert done.status == 0, done.err
    assert "\x1b" not in done.out.replace("\x1b[0m", "").replace("\x1b[33m", "") + done.entry
    assert done.dataset().source == "pa\x1b[32mirs"


def test_urls_are_fetched_and_a_refused_host_is_explained(init: Callable[..., Done], tmp_path: Path) -> None:
    pages = {f"/{n}.jpg": answer(jpeg(20, 20, n)) for n in range(30)}
    with running(pages) as site:
        rows = [(f"http://127.0.0.1:{site.port}/{n}.jpg", f"caption {n}") for n in range(40)]
        FORMS["comma_csv"](tmp_path / "pairs", rows)
        refused = init("--from", "pairs", check=True)
        allow = f"--resolve 127.0.0.1=127.0.0.1:{site.port}"
        assert "URLs:      0 of 10 could be fetched; 10 blocked_address" in refused.out
        assert allow in refused.out
        assert site.seen == []
        assert f'# "127.0.0.1" = "127.0.0.1:{site.port}"' in refused.entry
        assert refused.dataset().resolve == {}
        done = init("--from", "pairs", *allow.split(), name="second", check=True)
    assert "URLs:      7 of 10 could be fetched; 3 http_404" in done.out
    assert done.dataset("second").resolve == {"127.0.0.1": f"127.0.0.1:{site.port}"}


def test_a_listing_over_http_is_a_source(init: Callable[..., Done], tmp_path: Path) -> None:
    FORMS["pipe_csv"](tmp_path / "pairs", ROWS)
    names = ("a.csv", "b.csv")
    listing = "".join(f'<a href="{name}">{name}</a>' for name in names).encode()
    pages = {f"/csv/{name}": answer((tmp_path / "pairs" / name).read_bytes()) for name in names}
    with running({"/csv/": answer(listing, "200 OK", "Content-Type: text/html"), **pages}) as site:
        place = f"http://127.0.0.1:{site.port}/csv/"
        done = init("--from", place)
        assert done.status == 0, done.err
        assert done.dataset().source == place
        assert "rows:      40 (exact)" in done.out
        single = init("--from", f"{place}a.csv", name="single")
        assert "rows:      20 (exact)" in single.out, single.err


def test_a_truncated_file_is_named_and_its_whole_rows_count(init: Callable[..., Done], tmp_path: Path) -> None:
    FORMS["json_lines"](tmp_path / "pairs", [(f"{url}?{n * 7919}", text) for n, (url, text) in enumerate(ROWS * 50)])
    file = tmp_path / "pairs" / "pairs.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-2_000])
    done = init("--from", "pairs")
    assert done.status == 0, done.err
    assert "pairs.jsonl.gz: truncated_gzip, its rest cannot be read" in done.out


def test_on_a_terminal_init_asks(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    urls, captions = zip(*ROWS, strict=True)
    columns = {"a": urls, "b": urls, "de": captions, "en": captions}
    pq.write_table(pa.table(columns), tmp_path / "pairs" / "a.parquet")

    def answer_with(*answers: str) -> subprocess.CompletedProcess[bytes]:
        ours, theirs = os.openpty()
        try:
            os.write(ours, "".join(f"{line}\n" for line in answers).encode())
            command = [BIN / "laion-assets", "init", "mine", "--from", "pairs", "--no-check-urls"]
            return subprocess.run(
                command, stdin=theirs, capture_output=True, cwd=tmp_path, timeout=100,
                env={**environment(tmp_path), "PYTHONPATH": str(TOP)},
            )  # fmt: skip
        finally:
            os.close(ours)
            os.close(theirs)

    refused = answer_with("b", "en", "n")
    assert b"Which column has the URLs of the images? Candidates: a, b" in refused.stdout
    assert b"nothing was written" in refused.stdout
    assert not (tmp_path / "laion-assets.toml").exists()
    done = answer_with("b", "en", "")
    assert done.returncode == 0, done.stderr
    table = tomllib.loads((tmp_path / "laion-assets.toml").read_text())["dataset"]["mine"]
    assert table["dedup"] == {"url_column": "b", "caption_column": "en"}
