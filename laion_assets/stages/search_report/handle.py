"""The handle of `search_report`."""

from dataclasses import dataclass

from laion_assets.dataset.layout import Layout
from laion_assets.stages.handle import Handle

SEARCH_REPORT = "search_report"
PAGE = f"{SEARCH_REPORT}/report.html"
FIGURES = f"{SEARCH_REPORT}/report.json"
CONTACT_SHEET = f"{SEARCH_REPORT}/contact_sheet.png"


@dataclass(frozen=True)
class SearchReport(Handle):
    """A page to read or publish, its figures and results as JSON, and its results as one image."""

    asset = SEARCH_REPORT

    @classmethod
    def paths(cls, layout: Layout, key: str) -> tuple[str, ...]:
        return PAGE, FIGURES, CONTACT_SHEET
