"""What a process needs before it imports and runs img2dataset."""

import logging
import os

QUIET_ENVIRONMENT = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled", "OPENCV_LOG_LEVEL": "ERROR"}
"""albumentations looks for updates on import, wandb for an account; OpenCV prints a line for each odd picture."""


def quieten() -> None:
    """Keep img2dataset's dependencies off the network and out of the log. Call it before importing img2dataset."""
    os.environ.update(QUIET_ENVIRONMENT)
    logging.getLogger("exifread").setLevel(logging.CRITICAL)
