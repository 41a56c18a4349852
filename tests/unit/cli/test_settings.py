"""`pithead settings`: every setting with its value and source, and no secret."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from pithead.settings import options

Run = Callable[..., Result]

SECRET = "key_that-nobody-may-read"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "pithead.toml"
    file.write_text(f'operator_key = "{SECRET}"\n[leases]\nttl = 77\n')
    return file


def test_every_setting_with_its_value_and_source(run: Run, file: Path) -> None:
    shown = run("settings", "--config", str(file), "--json", PITHEAD_PORT="1234", PITHEAD_PROT="1")
    document = json.loads(shown.stdout)
    rows = {row["name"]: row for row in document["settings"]}
    assert list(rows) == [option.name for option in options()]
    assert (rows["port"]["value"], rows["port"]["source"]) == (1234, "PITHEAD_PORT")
    assert (rows["leases.ttl"]["value"], rows["leases.ttl"]["source"]) == (77, str(file))
    assert (rows["host"]["value"], rows["host"]["source"]) == ("127.0.0.1", "default")
    assert rows["leases.ttl"]["variable"] == "PITHEAD_LEASES__TTL"
    assert rows["leases.ttl"]["meaning"].startswith("Seconds that a lease lasts")
    assert document["warnings"] == ["PITHEAD_PROT is no setting and is ignored; did you mean PITHEAD_PORT?"]


def test_for_reading(run: Run, file: Path) -> None:
    shown = run("settings", "--config", str(file), PITHEAD_PROT="1", COLUMNS="200")
    for option in options():
        assert f"\n{option.name} " in shown.stdout
    assert str(file)[:20] in shown.stdout
    assert "did you mean PITHEAD_PORT?" in shown.stderr


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_secrets_are_only_said_to_be_set(run: Run, file: Path, more: list[str]) -> None:
    shown = run("settings", "--config", str(file), *more)
    assert shown.exit_code == 0
    assert SECRET not in shown.output
    assert "(set)" in shown.stdout
    bare = run("settings", *more)
    assert "(set)" not in bare.stdout


def test_the_file_in_the_data_folder(run: Run, file: Path) -> None:
    shown = run("settings", "--data", str(file.parent), "--json")
    rows = {row["name"]: row for row in json.loads(shown.stdout)["settings"]}
    assert (rows["leases.ttl"]["value"], rows["leases.ttl"]["source"]) == (77, str(file))
    assert (rows["data"]["value"], rows["data"]["source"]) == (str(file.parent), "command line")


def test_what_cannot_be_used(run: Run, refused: Callable[[Result], str], file: Path) -> None:
    file.write_text("prot = 1")
    assert refused(run("settings", "--config", str(file))) == f"{file}: there is no setting prot; did you mean port?"
