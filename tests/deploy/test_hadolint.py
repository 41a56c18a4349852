"""The container files, by hadolint; it has a package for Linux alone."""

import subprocess
import sys
from pathlib import Path

from tests.deploy import parts

BIN = Path(sys.executable).parent


def test_the_container_files_have_no_fault() -> None:
    done = subprocess.run(
        [BIN / "hadolint", *parts.CONTAINERFILES], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
