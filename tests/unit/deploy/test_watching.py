"""The alert rules and the dashboard: promtool accepts them, the rules do what they say, and every metric in them exists."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.http.exchange import Clock, run_world
from tests.http.test_metrics import TOKEN, busy, page

from pithead.exchange.tally import BATCHES, COMMITS, Histogram, Load
from pithead.http.metrics import _loaded

ROOT: Final = Path(__file__).parents[3]
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
DASHBOARD: Final[dict[str, Any]] = json.loads(
    (ROOT / "deploy" / "grafana" / "pithead.json").read_text(encoding="utf-8")
)
RULES: Final[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "pithead.rules.yml").read_text(encoding="utf-8"))

#: Labels that Prometheus adds, and those that histograms have.
GIVEN: Final = {"job", "instance", "le"}


def promtool(*arguments: str | Path) -> str:
    tool = shutil.which("promtool")
    assert tool, "promtool is missing: make promtool"
    done = subprocess.run([tool, *map(str, arguments)], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_rules_and_the_configuration_names_them() -> None:
    assert "12 rules found" in promtool("check", "rules", "pithead.rules.yml")
    promtool("check", "config", "--syntax-only", "prometheus.yml")
    named = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    assert named["rule_files"] == ["pithead.rules.yml"]


def test_the_rules_do_what_they_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", "pithead.rules.test.yml")


def test_every_alert_is_tried() -> None:
    tests = yaml.safe_load((PROMETHEUS / "pithead.rules.test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}
    assert fired == {rule["alert"] for group in RULES["groups"] for rule in group["rules"]}


def shown() -> Iterator[str]:
    """Every expression of the dashboard, with its variables filled in."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            expression: str = target["expr"]
            yield expression.replace("$__rate_interval", "5m").replace("$job", "pithead").replace("$instance", ".*")


def test_the_dashboards_expressions_can_be_read(tmp_path: Path) -> None:
    rules = [{"record": f"shown:{number}", "expr": one} for number, one in enumerate(shown())]
    assert len(rules) > 30
    file = tmp_path / "shown.yml"
    file.write_text(json.dumps({"groups": [{"name": "shown", "rules": rules}]}), encoding="utf-8")
    promtool("check", "rules", file)


def test_panels_have_places_and_names_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert all(0 <= x < 24 for x, _ in cells)


@pytest.fixture
async def exposed(tmp_path: Path) -> dict[str, set[str]]:
    """Every sample's name that a coordinator shows, with its labels."""
    async with run_world(tmp_path, Clock(), metrics={"token": TOKEN}) as world:
        await busy(world)
        text = (await page(world)).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    # What only PostgreSQL has.
    load = Load(Histogram(BATCHES), Histogram(COMMITS), 0, {"used": 1, "idle": 2, "waited_for": 0})
    samples += [sample for family in _loaded(load) for sample in family.samples]
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


async def test_every_metric_that_is_named_exists(exposed: dict[str, set[str]]) -> None:
    expressions = [*shown(), *(rule["expr"] for group in RULES["groups"] for rule in group["rules"])]
    named = {name for one in expressions for name in re.findall(r"\b(?:pithead|process|python)_[a-z_]+", one)}
    assert named <= exposed.keys()
    for one in expressions:
        for name, matchers in re.findall(r"\b(pithead_[a-z_]+)\{([^}]*)\}", one):
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= exposed[name] | GIVEN, one


async def test_every_metric_of_ours_is_shown_or_explained(exposed: dict[str, set[str]]) -> None:
    """The page on monitoring names each, and no other."""
    text = (ROOT / "docs" / "how-to" / "monitor.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `(pithead_[a-z_]+)`", text, re.MULTILINE))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed if name.startswith("pithead_")}
    # Where a histogram's name ends like a counter's, it is the family that is meant.
    assert explained == families
