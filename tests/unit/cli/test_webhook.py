"""`pithead webhook`."""

from __future__ import annotations

import json
from typing import Any

import pytest

VIEW: dict[str, Any] = {
    "webhook_id": "webhook_1", "url": "https://example.org/hook", "events": ["job.failed"], "description": "mine",
    "created_at": 1.7e9, "enabled": True, "disabled_reason": "", "failing_since": None,
}  # fmt: skip
SENT: dict[str, Any] = {
    "delivery_id": "msg_1", "event": "job.failed", "status": "pending", "attempts": 2, "created_at": 1.7e9,
    "attempted_at": 1.7e9, "next_attempt_at": 1.7e9, "response_status": 500, "error": "answered 500",
}  # fmt: skip
PATH = "/v1/webhooks/webhook_1"


@pytest.mark.parametrize(
    ("line", "call", "answer", "body", "shown"),
    [
        ("create https://example.org/hook --event job.failed", "POST /v1/webhooks", VIEW | {"secret": "whsec_x"},
         {"url": "https://example.org/hook", "events": ["job.failed"], "description": ""}, ["whsec_x", "shown once"]),
        ("list", "GET /v1/webhooks", {"webhooks": [VIEW, VIEW | {"enabled": False}]}, None, ["enabled", "disabled", "mine"]),
        ("show webhook_1", f"GET {PATH}", VIEW | {"enabled": False, "disabled_reason": "it is gone"}, None, ["it is gone"]),
        ("update webhook_1 --to https://b --all-events --enable", f"PUT {PATH}", VIEW,
         {"url": "https://b", "events": [], "enabled": True}, ["webhook_1"]),
        ("delete webhook_1", f"DELETE {PATH}", VIEW, None, ["webhook_1 is deleted"]),
        ("rotate webhook_1", f"POST {PATH}/secret", VIEW | {"secret": "whsec_y"}, None, ["whsec_y"]),
        ("test webhook_1", f"POST {PATH}/test", SENT, None, ["msg_1"]),
        ("deliveries webhook_1 --status pending", f"GET {PATH}/deliveries", {"deliveries": [SENT], "next_cursor": None},
         None, ["msg_1", "answered 500"]),
        ("replay webhook_1 msg_1", f"POST {PATH}/deliveries/msg_1/replay", SENT, None, ["sent again"]),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)  # fmt: skip
def test_each_command(
    keyed: Any, coordinator: Any, line: str, call: str, answer: Any, body: Any, shown: list[str]
) -> None:
    coordinator.answers[call] = answer
    outcome = keyed("webhook", *line.split())
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    for text in shown:
        assert text in outcome.stdout
    assert coordinator.bodies == ([] if body is None else [body])
    assert json.loads(keyed("webhook", *line.split(), "--json").stdout) == answer


def test_an_update_of_nothing(refused: Any, keyed: Any) -> None:
    assert "there is nothing to change" in refused(keyed("webhook", "update", "webhook_1"))
