"""The IO manager of the search report."""

import io

import dagster as dg

from laion_assets.orchestration.partition_io import Metadata, PartitionIOManager
from laion_assets.orchestration.ui.metadata_values import images, table, text
from laion_assets.stages.search_report.handle import CONTACT_SHEET, PAGE, SEARCH_REPORT
from laion_assets.store.manifest import Manifest, read_committed_file

_SHEET_WIDTH, _SHEET_HEIGHT = 1_000, 2_000
"""Size of the part of the contact sheet that the event log keeps, in px: some 100 kB."""
_MAX_SHEET_BYTES = 256_000_000


class SearchReportIOManager(PartitionIOManager):
    """Returns `SearchReport`; shows the first contact sheets, the results, recall and latency."""

    asset = SEARCH_REPORT

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """The path of the page, tables of recall, latency and results, the plot and the first contact sheets."""
        from laion_assets.stages.search_report.build import read_figures
        from laion_assets.stages.search_report.page import draw_plots

        figures = read_figures(self.store, manifest)
        copies = figures["near_duplicates"]
        sheet = read_committed_file(self.store, manifest.entry(CONTACT_SHEET), _MAX_SHEET_BYTES)
        drawn = [(title, "image/svg+xml", svg.encode()) for title, svg in draw_plots(figures)]
        return {
            "report": dg.MetadataValue.path(self.store.address(PAGE)),
            "model": text(figures["model"]),
            "recall_at_10": table(
                ("index", "query", "queries", "recall@10"),
                [(each["index"], each["kind"], each["queries"], each["recall_at_10"]) for each in figures["recall"]],
            ),
            "near_duplicates": text(
                f"{copies['first']:,} of {copies['images']:,} originals are the first result of a changed copy, "
                f"{copies['in_ten']:,} are among ten results"
            ),
            "latency": table(
                ("step", "repetitions", "p50 ms", "p99 ms"),
                [(each["step"], each["samples"], each["p50_ms"], each["p99_ms"]) for each in figures["latency"]],
            ),
            "results": table(
                ("query", "rank", "similarity", "caption", "uid"),
                [
                    (answer["query"], rank, result["similarity"], result["caption"], result["uid"])
                    for answer in figures["queries"]
                    for rank, result in enumerate(answer["results"], 1)
                ],
            ),
            "hidden": dg.MetadataValue.int(sum(answer["hidden"] for answer in figures["queries"])),
            "contact_sheet": images([("Results of the first queries", "image/jpeg", _preview(sheet))]),
            "plots": images(drawn),
        }


def _preview(sheet: bytes) -> bytes:
    """Return the top of a contact sheet as a small JPEG."""
    from PIL import Image

    with Image.open(io.BytesIO(sheet)) as opened:
        top = opened.convert("RGB")
    if top.width > _SHEET_WIDTH:
        top = top.resize((_SHEET_WIDTH, max(1, round(top.height * _SHEET_WIDTH / top.width))))
    buffer = io.BytesIO()
    top.crop((0, 0, top.width, min(top.height, _SHEET_HEIGHT))).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()
