"""Everything that can be done on the dashboard: each one call of the API, asked once more before it is made.

An action has a page of its own that says what it does, and asks for what is to be known. It works without scripts, with the
keyboard alone, and twice as well as once: the form carries an idempotency key.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from pithead.exchange.ports import OwnerKind
from pithead.http.api import perform
from pithead.http.problems import HttpProblem
from pithead.web.forms import Field, fields, typed
from pithead.web.visits import Done, Visit
from pithead.wire.endpoints import ENDPOINTS, Endpoint

_ENDPOINTS: Final = {endpoint.name: endpoint for endpoint in ENDPOINTS}

#: What undoes an action that was done with these path parameters and these fields: another action, and what it is filled with.
Undo = Callable[[Mapping[str, str], Mapping[str, str]], tuple[str, dict[str, str]] | None]


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be done. `{…}` in texts is filled with what its path names."""

    #: The name of the API's call.
    name: str
    title: str
    #: What follows from it.
    means: str
    #: On the button, and after it was done.
    verb: str
    past: str
    #: Where it is done, and where one comes back to.
    back: str
    danger: bool = False
    undo: Undo | None = None
    #: Fields of the call that the form does not ask for.
    leave_out: frozenset[str] = frozenset()

    @property
    def endpoint(self) -> Endpoint:
        """The call."""
        return _ENDPOINTS[self.name]

    @property
    def audience(self) -> tuple[OwnerKind, ...]:
        """Whose it is."""
        audience = self.endpoint.audience
        if audience == "account":
            return ("operator", "client", "miner")
        assert audience != "public"
        return (audience,)

    def asks(self, values: Mapping[str, str]) -> list[Field]:
        """The fields of its form."""
        request = self.endpoint.request
        return fields(request, values, self.leave_out) if request is not None else []


def _as_it_was(name: str, subject: str, *kept: str) -> Undo:
    """The same action with what the fields were before; the form carries that along."""
    return lambda path, given: (
        (name, {subject: path[subject]} | {field: given.get(f"was.{field}", "") for field in kept})
        if any(f"was.{field}" in given for field in kept)
        else None
    )


def _taken_back(path: Mapping[str, str], given: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    amount = given.get("amount", "").strip()
    back = amount.removeprefix("-") if amount.startswith("-") else f"-{amount}"
    return "credit_client", {"client_id": path["client_id"], "amount": back, "note": "taken back"}


_MINER, _CLIENT, _JOB = "/dashboard/miners/{miner_id}", "/dashboard/clients/{client_id}", "/dashboard/jobs/{job_id}"
_WEBHOOK: Final = "/dashboard/webhooks/{webhook_id}"

ACTIONS: Final[Mapping[str, Action]] = {
    action.name: action
    for action in (
        Action(
            name="approve_miner", title="Let this miner work", verb="Approve", past="The miner may work.", back=_MINER,
            means="It is offered jobs from now on.", undo=lambda path, _: ("suspend_miner", dict(path)),
        ),
        Action(
            name="suspend_miner", title="Suspend this miner", verb="Suspend", past="The miner is suspended.", back=_MINER, danger=True,
            means="It is given no more jobs. What it holds it may finish, and is paid for.", undo=lambda path, _: ("approve_miner", dict(path)),
        ),
        Action(
            name="retire_miner", title="Retire this miner for good", verb="Retire", past="The miner is retired.", back=_MINER, danger=True,
            means="The jobs that it holds go back to the queue and its keys end. This cannot be undone: its owner can only register anew. "
            "What it earned stays, and can be paid out.",
        ),
        Action(
            name="set_limits", title="Limits for this miner", verb="Set limits", past="The limits hold from now on.", back=_MINER,
            means="How much this one miner may ask of the coordinator.",
            undo=_as_it_was("set_limits", "miner_id", "requests_per_minute", "job_operations_per_minute"),
        ),
        Action(
            name="create_payout", title="Pay this miner out", verb="Create payout", past="The payout waits to be approved.", back=_MINER,
            means="The amount is set aside from its earnings, as if it had asked itself. Empty: all that is there.",
        ),
        Action(
            name="approve_payout", title="Let this payout be paid", verb="Approve", past="The payout is approved: pay it, and say so.",
            back="/dashboard/money", means="It is then ready for the bank or the wallet. The exchange itself sends no money.",
            undo=lambda path, _: ("reject_payout", dict(path)),
        ),
        Action(
            name="reject_payout", title="Reject this payout", verb="Reject", past="The payout is rejected.", back="/dashboard/money", danger=True,
            means="Its amount goes back to the miner, which can ask again.",
        ),
        Action(
            name="mark_payout_paid", title="This payout was paid", verb="Mark as paid", past="The payout is paid.", back="/dashboard/money",
            means="Say so once the money has left. This cannot be undone.",
        ),
        Action(
            name="cancel_any_job", title="Cancel this job", verb="Cancel job", past="The job is cancelled.", back=_JOB, danger=True,
            means="Its price goes back to the client, and a miner that works on it is told to stop. This cannot be undone.",
        ),
        Action(
            name="create_client", title="New client", verb="Create client", past="The client is made.", back="/dashboard/clients",
            means="Its key is shown once.",
        ),
        Action(
            name="credit_client", title="Change this client's balance", verb="Change balance", past="The balance has changed.", back=_CLIENT,
            means="A negative amount takes away, at most what is there.", undo=_taken_back,
        ),
        Action(
            name="set_credit_line", title="Credit line of this client", verb="Set credit line", past="The credit line holds from now on.",
            back=_CLIENT, means="How far below 0 its balance may go.", undo=_as_it_was("set_credit_line", "client_id", "amount"),
        ),
        Action(
            name="rotate_key", title="New key for {account_id}", verb="Make a new key", past="The key is made.", back="{account}",
            means="It is shown once. The old keys end, at once or after a time in which a machine can be moved over; so do the sessions "
            "that were opened with them.", danger=True,
        ),
        Action(
            name="revoke_keys", title="End all keys of {account_id}", verb="End all keys", past="All its keys have ended.", back="{account}",
            danger=True, means="Nobody gets in with them any more, and whoever is signed in with them is signed out. A new key lets them in again.",
            undo=lambda path, _: ("rotate_key", dict(path)),
        ),
        Action(
            name="create_enrollment_token", title="Enrolment token", verb="Make a token", past="The token is made.", back="/dashboard/miners",
            means="It lets somebody register a miner, where the coordinator asks for one. It is shown once.",
        ),
        # A client's.
        Action(
            name="cancel_job", title="Cancel this job", verb="Cancel job", past="The job is cancelled.", back=_JOB, danger=True,
            means="Its price comes back, and a miner that works on it is told to stop. This cannot be undone.",
        ),
        Action(
            name="delete_file",
            title="Delete this file",
            verb="Delete",
            past="The file is deleted.",
            back="/dashboard/files",
            danger=True,
            means="Jobs can name it no more, until it is uploaded again. A file that an unfinished job needs stays.",
        ),
        # Of all who have a key.
        Action(
            name="create_webhook",
            title="New webhook",
            verb="Create webhook",
            past="The webhook is made.",
            back="/dashboard/webhooks",
            means="The coordinator sends a signed message to a URL of yours whenever one of these events happens. What messages are "
            "signed with is shown once.",
        ),
        Action(
            name="update_webhook",
            title="Change this webhook",
            verb="Save",
            past="The webhook is changed.",
            back=_WEBHOOK,
            means="What is pending goes to the new address too.",
            undo=_as_it_was("update_webhook", "webhook_id", "url", "events", "description", "enabled"),
        ),
        Action(
            name="rotate_webhook_secret",
            title="Another secret for this webhook",
            verb="Make a new secret",
            past="The secret is made.",
            back=_WEBHOOK,
            means="It is shown once. Messages are signed with the one before, too, for a day.",
        ),
        Action(
            name="test_webhook",
            title="Try this webhook",
            verb="Send",
            past="A message is on its way.",
            back=_WEBHOOK,
            means="A message is sent that tells of nothing.",
        ),
        Action(
            name="replay_delivery",
            title="Send this message again",
            verb="Send again",
            past="The message is on its way.",
            back=_WEBHOOK,
            means="It is sent under the same id, so that a receiver can tell that it has it already.",
        ),
        Action(
            name="delete_webhook",
            title="Delete this webhook",
            verb="Delete",
            past="The webhook is deleted.",
            back="/dashboard/webhooks",
            danger=True,
            means="Nothing more is sent, and the log of what was sent goes with it. This cannot be undone.",
        ),
        # A miner's.
        Action(
            name="request_payout", title="Ask to be paid out", verb="Ask for it", past="The payout waits for the operator.",
            back="/dashboard/payouts", means="The amount is set aside from what you earned. Empty: all that is there.",
        ),
        Action(
            name="deregister_miner",
            title="End this registration for good",
            verb="End it",
            past="The registration has ended.",
            back="/dashboard",
            danger=True,
            means="The jobs that it holds go back to the queue, and its key ends: you are signed out. What it earned stays, and the "
            "operator can pay it out. This cannot be undone.",
        ),
        Action(
            name="update_miner", title="Change this machine", verb="Save", past="The registration is changed.", back="/dashboard",
            means="What it offers from now on. Jobs that it holds go on as they are.",
            undo=_as_it_was("update_miner", "miner_id", "name", "location", "price_per_hour", "max_concurrent", "draining", "payout_destination"),
            leave_out=frozenset({"gpu_type", "gpu_count", "models", "speeds"}),
        ),
    )
}  # fmt: skip


def _action(visit: Visit) -> Action:
    action = ACTIONS.get(visit.path["action"])
    if action is None or visit.caller.kind not in action.audience:
        raise HttpProblem(404, "not-found", "Not Found", "There is no such action.")
    return action


def _path(action: Action, given: Mapping[str, str], visit: Visit) -> dict[str, str]:
    """What the call's path names."""
    names = [part[1:-1] for part in action.endpoint.path.split("/") if part.startswith("{")]
    found = {name: given.get(name, "") for name in names}
    if action.audience == ("miner",):
        found["miner_id"] = visit.caller.id
    if not all(found.values()):
        raise HttpProblem(404, "not-found", "Not Found", "It does not say about whom or what.")
    return found


def _back(action: Action, path: Mapping[str, str]) -> str:
    account = path.get("account_id", "")
    room = {"miner": "miners", "client": "clients"}.get(account.partition("_")[0])
    return action.back.format_map(
        {**path, "account": f"/dashboard/{room}/{account}" if room else "/dashboard/settings"}
    )


async def ask(visit: Visit) -> Response:
    """What the action does, and what it wants to know."""
    action, given = _action(visit), dict(visit.request.query_params)
    path = _path(action, given, visit)
    filled = await _before(visit, action, path) | given
    return _form(visit, action, path, action.asks(filled), filled)


async def _before(visit: Visit, action: Action, path: Mapping[str, str]) -> dict[str, str]:
    """What the fields are now, where the action changes what there is; under `was.` too, so that it can be undone."""
    if action.name == "set_limits":
        limits = (await perform(visit.web.services, "inspect_miner", visit.caller, path=path)).limits
        now = {name: getattr(limits, name) for name in ("requests_per_minute", "job_operations_per_minute")}
    elif action.name == "set_credit_line":
        now = {"amount": (await perform(visit.web.services, "get_client", visit.caller, path=path)).credit_line}
    elif action.name == "update_miner":
        view = await perform(visit.web.services, "get_miner", visit.caller, path=path)
        now = {
            name: getattr(view, name)
            for name in ("name", "location", "price_per_hour", "max_concurrent", "payout_destination")
        }
        now["draining"] = "on" if view.status == "draining" else ""
    elif action.name == "update_webhook":
        webhook = await perform(visit.web.services, "get_webhook", visit.caller, path=path)
        now = {"url": webhook.url, "events": " ".join(webhook.events), "description": webhook.description}
        now["enabled"] = "on" if webhook.enabled else ""
    else:
        return {}
    words = {name: "" if value is None else str(value) for name, value in now.items()}
    return words | {f"was.{name}": value for name, value in words.items()}


def _form(
    visit: Visit,
    action: Action,
    path: Mapping[str, str],
    asked: list[Field],
    given: Mapping[str, str],
    problem: HttpProblem | None = None,
) -> Response:
    faults = {fault.field: fault.message for fault in (problem.errors or [])} if problem else {}
    known = {field.name for field in asked}
    values = {
        "action": action,
        "names": path,
        "title": action.title.format_map(path),
        "fields": asked,
        "carried": {name: value for name, value in given.items() if name.startswith("was.")},
        "back": _back(action, path),
        "once": given.get("once") or secrets.token_urlsafe(24),
        "faults": faults,
        "problem": problem if problem and not faults.keys() & known else None,
    }
    return visit.page("action.html", values, status=problem.status if problem else 200)


async def act(visit: Visit) -> Response:
    """Do it: back to where it shows, or to the secret that is shown once."""
    action, given = _action(visit), await visit.form()
    path = _path(action, given, visit)
    asked = action.asks(given)
    body = msgspec.json.encode(typed(asked, given)) if action.endpoint.request is not None else b""
    try:
        answer = await perform(
            visit.web.services, action.name, visit.caller, path=path, body=body, once_key=given.get("once") or None
        )
    except HttpProblem as problem:
        if problem.status not in (402, 409, 422):
            raise
        return _form(visit, action, path, asked, given, problem)
    if action.endpoint.secret:
        return visit.page(
            "secret.html", {"action": action, "answer": msgspec.to_builtins(answer), "back": _back(action, path)}
        )
    undo = action.undo(path, given) if action.undo else None
    visit.tell(Done(action.past, f"/dashboard/do/{undo[0]}?{urlencode(undo[1])}" if undo else ""))
    return visit.go(_back(action, path))


def address(name: str, params: Mapping[str, Any]) -> str:
    """Where an action is asked for."""
    return f"/dashboard/do/{name}?{urlencode(params)}"
