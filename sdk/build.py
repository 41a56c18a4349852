"""Builds the JavaScript SDK: `python sdk/build.py`. Its types are made anew from the OpenAPI document each time.

What it makes – the document, the types, the package – is in no repository, so that it cannot be stale.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pithead
from pithead.http.openapi import document

FOLDER: Final = Path(__file__).parent / "js"
#: The oldest Node that the package runs on.
NODE: Final = 18


def build() -> Path:
    """Install what it is built with, from the lock file, and build it; its folder."""
    check_node()
    lock, installed = FOLDER / "package-lock.json", FOLDER / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        run("npm", "ci", "--silent", "--no-audit", "--no-fund")
    text = json.dumps(document("Pithead", pithead.__version__), ensure_ascii=False, indent=1)
    (FOLDER / "openapi.json").write_text(text + "\n", encoding="utf-8")
    run("npm", "run", "--silent", "build")
    return FOLDER


def check_node() -> None:
    """Stop with one line where Node is missing or too old."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        sys.exit("the JavaScript SDK needs Node and npm: 'apt install nodejs npm'")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(re.findall(r"\d+", said)[0]) < NODE:
        sys.exit(f"the JavaScript SDK needs Node {NODE} or newer; this is {said}")


def run(*command: str) -> None:
    """Run it in the package's folder; what it says is shown only where it fails."""
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.stdout.write(f"built {build()}\n")
