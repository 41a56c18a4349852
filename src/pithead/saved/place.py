"""Where it is kept, and what is said where it is of no use."""

from __future__ import annotations

import os
from pathlib import Path


class Unusable(Exception):
    """What is kept is not there, or not to be used or replaced; the message says what to do."""


def config_folder() -> Path:
    """The user's folder of configuration, or `PITHEAD_CONFIG_DIR` where that is set."""
    from platformdirs import user_config_path

    chosen = os.environ.get("PITHEAD_CONFIG_DIR")
    return Path(chosen) if chosen else user_config_path("pithead")
