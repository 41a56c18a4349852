"""Lists as CSV, profiles, completion, and help that reads like a page."""

from __future__ import annotations

import csv
import io
import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from pithead.cli.job import job
from pithead.cli.main import cli
from pithead.cli.page import Page

ADMIN = "/v1/admin"


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(
    ("line", "call", "name", "shape", "field", "value"),
    [
        ("job list", "GET /v1/jobs", "jobs", "job", "price", "0.05"),
        ("admin job list", f"GET {ADMIN}/jobs", "jobs", "job", "job_id", "job_1"),
        ("admin client list", f"GET {ADMIN}/clients", "clients", "client", "balance", "99.95"),
        ("admin miner list", f"GET {ADMIN}/miners", "miners", "miner", "models", '["gpt2"]'),
        ("admin payout list", f"GET {ADMIN}/payouts", "payouts", "payout", "miner_name", "'=rig"),
    ],
)
def test_lists_as_csv(
    keyed: Any,
    coordinator: Any,
    refused: Any,
    shapes: Any,
    line: str,
    call: str,
    name: str,
    shape: str,
    field: str,
    value: str,
) -> None:
    coordinator.answers[call] = {name: [shapes[shape]] * 2, "next_cursor": None}
    outcome = keyed(*line.split(), "--csv")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    first, second = table(outcome.stdout)
    assert first == second
    assert first[field] == value
    assert next(iter(first)).endswith("_id")
    assert refused(keyed(*line.split(), "--csv", "--json")) == "there are --json and --csv; give one of them"


def test_other_lists_as_csv(run: Any, keyed: Any, coordinator: Any, tmp_path: Path) -> None:
    entry = {"at": 1.5, "actor": "operator", "action": "credit", "subject": "client_1", "detail": "-5"}
    coordinator.answers[f"GET {ADMIN}/audit"] = {"entries": [entry], "next_cursor": None}
    assert table(keyed("admin", "audit", "--csv").stdout) == [entry | {"at": "1.5", "detail": "'-5"}]
    assert {row["name"] for row in table(run("settings", "--csv").stdout)} >= {"port", "leases.ttl"}
    assert {row["key"] for row in table(run("miner", "settings", "--csv").stdout)} >= {"hours", "minimum_price"}
    (tmp_path / "one.gguf").write_bytes(b"GGUF")
    models = table(run("miner", "models", "--models-dir", str(tmp_path), "--csv").stdout)
    assert {"model": "one", "path": str(tmp_path / "one.gguf"), "bytes": "4"} in models


def test_a_state_that_there_is_not_is_refused_here(keyed: Any, coordinator: Any, refused: Any) -> None:
    assert "'done' is not one of 'queued', 'assigned'" in refused(keyed("job", "list", "--status", "done"))
    assert "'done' is not one of 'pending', 'active'" in refused(keyed("admin", "miner", "list", "--status", "done"))
    assert coordinator.requests == []


# ---- profiles


def test_profiles_are_listed_chosen_and_forgotten(run: Any, refused: Any, coordinator: Any, config: Path) -> None:
    coordinator.answers["GET /v1/jobs"] = {"jobs": [], "next_cursor": None}

    def asks() -> str:
        assert run("job", "list").exit_code == 0
        return str(coordinator.requests[-1].url.host)

    run("login", "--url", "http://one", "--key", "key_1")
    run("login", "--url", "http://two", "--key", "key_2", "--profile", "lab")
    assert asks() == "one"
    assert run("profile", "use", "lab").stdout == "Commands go by 'lab' (http://two) from now on.\n"
    assert asks() == "two"
    said = run("profile", "list").stdout
    assert [line.split() for line in said.splitlines()] == [
        ["PROFILE", "URL", "KEY"], ["default", "http://one", "saved"], ["*", "lab", "http://two", "saved"],
    ]  # fmt: skip
    assert "key_" not in said + run("profile", "list", "--json").stdout
    assert [row["in_use"] for row in table(run("profile", "list", "--csv").stdout)] == ["False", "True"]
    # A new key for the one in use; the choice stays.
    run("login", "--url", "http://three", "--key", "key_3")
    assert asks() == "three"
    assert stat.S_IMODE((config / "profiles.toml").stat().st_mode) == 0o600
    assert json.loads(run("profile", "remove", "lab", "--json").stdout) == {"removed": "lab"}
    assert "key_3" not in (config / "profiles.toml").read_text()
    assert asks() == "one"
    assert "there is no profile 'lab' (known: default); see 'pithead profile list'" in refused(
        run("profile", "use", "lab")
    )
    assert "a profile's name is printable text" in refused(run("login", "--key", "k", "--profile", ".in-use"))
    (config / "profiles.toml").write_text('".in-use" = 5\n')
    assert "is not the name of a profile; mend it" in refused(run("job", "list"))


# ---- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_that_shell(run: Any, shell: str) -> None:
    outcome = run("completion", shell)
    assert outcome.exit_code == 0
    assert f"_PITHEAD_COMPLETE={shell}_complete" in outcome.stdout
    assert run("completion", SHELL=f"/usr/bin/{shell}").stdout == outcome.stdout
    if found := shutil.which(shell):
        checked = subprocess.run([found, "-n"], input=outcome.stdout, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_completion_of_a_shell_that_is_not_known(run: Any, refused: Any) -> None:
    assert "there is no completion for tcsh; name one of bash, zsh, fish" in refused(
        run("completion", SHELL="/bin/tcsh")
    )


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("pithead jo", {"job"}),
        ("pithead job su", {"submit"}),
        ("pithead job list --status que", {"queued"}),
        ("pithead job list --profile la", {"lab"}),
        ("pithead profile use la", {"lab"}),
        ("pithead admin miner app", {"approve"}),
    ],
)
def test_what_is_completed(run: Any, words: str, found: set[str]) -> None:
    run("login", "--key", "key_1", "--profile", "lab")
    typed = words.split()
    outcome = run(_PITHEAD_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(typed) - 1))
    assert {line.partition(",")[2] for line in outcome.stdout.splitlines()} == found


# ---- help


def groups(command: click.Command) -> list[Page]:
    if not isinstance(command, click.Group):
        return []
    context = click.Context(command)
    inner = [group for name in command.list_commands(context) for group in groups(command.get_command(context, name))]  # type: ignore[arg-type]
    return [command, *inner] if isinstance(command, Page) else inner


def test_every_command_stands_in_one_section_and_every_example_is_a_command() -> None:
    pages = groups(cli)
    assert job in pages
    for page in pages:
        context = click.Context(page)
        rows = page.rows(context)
        named = [name for section in rows.values() for name, _ in section]
        assert sorted(named) == sorted(page.list_commands(context))
        for example in page.examples:
            words = example.split()
            assert words[0] == "pithead"
            command: click.Command = cli
            for word in words[1:]:
                if not isinstance(command, click.Group):
                    break
                found = command.get_command(click.Context(command), word)
                assert found is not None, example
                command = found
            assert not isinstance(command, click.Group), example


def test_help_of_a_group_reads_like_a_page() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pithead.cli.main", "job", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "\nHave work done:\n  submit" in done.stdout
    assert "\nExamples:\n  pithead job submit" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_table_for_a_spreadsheet_has_all_and_a_page_for_people_some(
    keyed: Any, coordinator: Any, shapes: Any
) -> None:
    pages = [{"jobs": [shapes["job"]] * 60, "next_cursor": "c"}, {"jobs": [shapes["job"]] * 10, "next_cursor": None}]
    coordinator.answers["GET /v1/jobs"] = list(pages)
    assert len(table(keyed("job", "list", "--csv").stdout)) == 70
    assert [dict(one.url.params)["limit"] for one in coordinator.requests] == ["200", "200"]
    coordinator.answers["GET /v1/jobs"] = list(pages)
    assert len(keyed("job", "list").stdout.splitlines()) == 51
    coordinator.answers["GET /v1/jobs"] = list(pages)
    assert len(table(keyed("job", "list", "--csv", "--limit", "65").stdout)) == 65
