"""Fetching and decoding each kind of page ends with its declared reason."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.sample.faults import FAULT_BY_KIND
from laion_assets.sample.pages import Page, crawl_pages
from laion_assets.sample.running import running_site
from laion_assets.stages.image_shards.preview import preview_url

PAGES = {page.kind: page for page in reversed(crawl_pages())}
PATIENT = replace(SAMPLE.images.fetch, connect_timeout_s=20.0, deadline_s=30.0)
HASTY = replace(SAMPLE.images.fetch, connect_timeout_s=2.0, deadline_s=2.0)


def test_every_kind_of_page_ends_as_declared() -> None:
    with running_site() as site, ThreadPoolExecutor(12) as pool:
        dataset = SAMPLE.with_resolve(site.resolve)

        def reason(page: Page) -> str:
            fault = FAULT_BY_KIND.get(page.kind)
            images = replace(dataset.images, fetch=HASTY if fault and fault.slow else PATIENT)
            return preview_url(page.url.replace(" ", "%20"), replace(dataset, images=images)).reason

        found = dict(zip(PAGES, pool.map(reason, PAGES.values()), strict=True))
    assert found == {kind: page.expected for kind, page in PAGES.items()}
