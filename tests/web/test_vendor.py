"""What lies in the tree from elsewhere is what was fetched: nobody has changed it, and its licence lies beside it."""

import tomllib
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]


def recorded() -> dict[str, str]:
    lines = (ROOT / "requirements" / "vendor.sha256").read_text(encoding="utf-8").splitlines()
    return {path: digest for digest, path in (line.split("  ") for line in lines)}


def test_vendored_files_are_those_whose_hashes_are_recorded() -> None:
    for path, digest in recorded().items():
        assert sha256((ROOT / path).read_bytes()).hexdigest() == digest, path


def test_every_vendored_file_is_recorded_and_comes_with_its_licence() -> None:
    packages = tomllib.loads((ROOT / "requirements" / "vendor.toml").read_text(encoding="utf-8"))["package"]
    named = {f"{package['into']}/{name}" for package in packages for name in package["files"].values()}
    assert named == recorded().keys()
    for folder in {package["into"] for package in packages}:
        assert {f"{folder}/{file.name}" for file in (ROOT / folder).iterdir()} <= named
    for package in packages:
        assert "LICENSE" in package["files"]
        assert package["integrity"].startswith("sha512-")
