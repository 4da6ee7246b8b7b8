"""Settings of the stage `search_report`."""

from dataclasses import dataclass

from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError

MAX_QUERIES = 100
MAX_QUERY_CHARS = 1_000


@dataclass(frozen=True)
class SearchReportSettings:
    """The queries that the report shows, and the measurements of recall and latency."""

    queries: tuple[str, ...] = setting(
        (
            "a dog playing in the snow",
            "a red vintage car",
            "a bowl of fruit on a table",
            "a mountain lake at sunset",
            "a woman reading a book",
            "a city skyline at night",
            "a hand-drawn map",
            "a blue dress on a white background",
        ),
        f"texts whose results the report shows; at most {MAX_QUERIES}",
        non_empty=True,
        holds_commas=True,
        changes_bytes=True,
    )
    results: int = setting(6, "results shown per query", min=1, max=50, changes_bytes=True)
    recall_queries: int = setting(
        200,
        "number of sampled images and captions that recall@10 is measured with, each against exact search; 0 measures "
        "neither recall nor near-duplicates and reads no vectors",
        min=0,
        max=100_000,
        changes_bytes=True,
    )
    near_duplicates: int = setting(
        50,
        "number of stored images that are cropped, recompressed and searched again; 0 measures none",
        min=0,
        max=10_000,
        changes_bytes=True,
    )
    show_untagged: bool = setting(
        False,
        "whether images without an NSFW tag are shown, here and in the Dagster UI, besides those tagged UNLIKELY; off, "
        "because nobody has judged them",
        changes_bytes=True,
        in_digest_at_default=False,
    )

    def __post_init__(self) -> None:
        check_settings(self, "search_report.")
        if len(self.queries) > MAX_QUERIES:
            raise SettingError(
                f"search_report.queries has {len(self.queries)} texts: the maximum is {MAX_QUERIES}, because the page "
                "holds the images of all of them."
            )
        if len(set(self.queries)) < len(self.queries):
            raise SettingError("search_report.queries has a text twice: each query is answered once. Remove one.")
        long = next((query for query in self.queries if len(query) > MAX_QUERY_CHARS), None)
        if long is not None:
            raise SettingError(
                f"search_report.queries has a text of {len(long):,} characters ({long[:40]!r}...): the maximum is "
                f"{MAX_QUERY_CHARS:,}."
            )
