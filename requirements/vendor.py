"""Fetches the files of `vendor.toml` from the npm registry, checks them, and writes their hashes: `make vendor`."""

import base64
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MANIFEST = ROOT / "requirements" / "vendor.toml"
SUMS = ROOT / "requirements" / "vendor.sha256"


def packages() -> list[dict[str, Any]]:
    """What the manifest names."""
    found: list[dict[str, Any]] = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))["package"]
    return found


def fetch(name: str, version: str) -> bytes:
    """The package as the registry has it."""
    with tempfile.TemporaryDirectory() as folder:
        pack = ["npm", "pack", "--silent", "--ignore-scripts", f"{name}@{version}"]
        subprocess.run(pack, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        [file] = Path(folder).glob("*.tgz")
        return file.read_bytes()


def main() -> int:
    """0, or 1 where a package is not what the manifest says."""
    text, sums = MANIFEST.read_text(encoding="utf-8"), []
    for package in packages():
        content = fetch(package["name"], package["version"])
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
        if not package["integrity"]:
            # A version that is new here: what is fetched now is what it has to be from now on.
            entry = rf'(name = "{re.escape(package["name"])}"\n.*?integrity = ")"'
            text = re.sub(entry, rf'\g<1>{integrity}"', text, count=1, flags=re.DOTALL)
        elif integrity != package["integrity"]:
            print(f"{package['name']} {package['version']} is not what it was: {integrity}", file=sys.stderr)  # noqa: T201
            return 1
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for inside, name in package["files"].items():
                member = archive.extractfile(f"package/{inside}")
                assert member is not None
                data, path = member.read(), Path(package["into"]) / name
                (ROOT / path).write_bytes(data)
                sums.append(f"{hashlib.sha256(data).hexdigest()}  {path}")
    MANIFEST.write_text(text, encoding="utf-8")
    SUMS.write_text("\n".join(sums) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
