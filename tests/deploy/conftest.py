"""What is not to be had on every machine: Caddy and systemd, which `make test` installs where it may, and hadolint."""

import shutil
import sys
from pathlib import Path

collect_ignore = [
    *(["test_proxy.py"] if shutil.which("caddy") is None else []),
    *([] if Path(sys.executable).with_name("hadolint").exists() else ["test_hadolint.py"]),
    *(["test_systemd.py"] if shutil.which("systemd-analyze") is None else []),
]
