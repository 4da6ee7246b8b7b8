"""The embedded web site of the sample as a Dagster resource: it runs while a run needs it."""

import contextlib
from typing import Any

import dagster as dg
from pydantic import PrivateAttr

from laion_assets.dataset.dataset import Dataset


class CrawlSiteResource(dg.ConfigurableResource):
    """Starts the embedded site for datasets whose source is `sample-site:`; does nothing for the others."""

    _stack: Any = PrivateAttr(default=None)
    _site: Any = PrivateAttr(default=None)

    def attach(self, dataset: Dataset) -> Dataset:
        """Return the dataset, with the address of the running site in `resolve` if it uses the embedded site."""
        if not dataset.uses_sample_site:
            return dataset
        if self._site is None:
            from laion_assets.sample.running import running_site

            self._stack = contextlib.ExitStack()
            self._site = self._stack.enter_context(running_site())
        return dataset.with_resolve(self._site.resolve)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Stop the site."""
        if self._stack is not None:
            self._stack.close()
            self._stack = self._site = None
