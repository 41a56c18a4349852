"""Forms made of the request shapes of the API: which fields, and from what was typed back to JSON."""

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

#: What a field is called and what is to be said of it, where its name alone does not tell.
LABELS: Mapping[str, tuple[str, str]] = {
    "amount": ("Amount", "In currency units."),
    "attempt_timeout": ("Time for one attempt", "Seconds. Empty: what is left of the job's time."),
    "credit": ("Opening credit", "In currency units."),
    "destination": ("Destination", "Empty: the miner's own."),
    "draining": ("Draining", "Finish what is held, and take nothing new."),
    "description": ("Description", "For yourself."),
    "enabled": ("Enabled", "Messages are sent, also those that are pending."),
    "estimated_time": ("Estimated time", "Seconds. Empty: estimated from what miners measured."),
    "events": (
        "Events",
        "Such as job.completed job.failed, with blanks between them. Empty: all that concern the account.",
    ),
    "expires_in": ("Works for", "Seconds."),
    "grace": ("Old keys go on for", "Seconds. 0: they end now."),
    "gpu_count": ("GPUs", ""),
    "gpu_type": ("GPU type", "Such as a100; any takes all."),
    "job_operations_per_minute": ("Job operations a minute", "0 is no limit. Empty: the coordinator's setting."),
    "location": ("Place", ""),
    "max_attempts": ("Attempts", "How many may fail. Empty: the coordinator's setting."),
    "max_concurrent": ("Jobs at a time", ""),
    "model": ("Model", "Its name, exactly as miners list it."),
    "name": ("Name", ""),
    "note": ("Note", "Whoever it is about reads it."),
    "payout_destination": ("Payouts go to", "An account, an address, a name."),
    "price": ("Price", "What completing it pays, in full. It is set aside from your balance now."),
    "price_per_hour": ("Price a GPU-hour", "In currency units."),
    "priority": ("Priority", "Higher goes first."),
    "reason": ("Reason", "Kept in the audit log."),
    "reference": ("Reference", "The bank's or the chain's name for the payment."),
    "requests_per_minute": ("Requests a minute", "0 is no limit. Empty: the coordinator's setting."),
    "require_result": ("The bytes of the result must arrive", "Else its hash is enough."),
    "timeout": ("Time for the job", "Seconds. Empty: the coordinator's setting."),
    "url": ("URL", "Where messages are sent, https://…"),
    "uses": ("How often it can be used", ""),
}


#: How a field is asked for: `words` are several, with blanks between them.
Kind = Literal["text", "number", "check", "words"]


class Field(msgspec.Struct, frozen=True):
    """A field of a form."""

    name: str
    label: str
    hint: str
    kind: Kind
    required: bool
    value: str
    #: Whether leaving it out keeps what is there: then an empty text has to be said.
    keeps: bool = False


def fields(
    shape: type[msgspec.Struct], values: Mapping[str, str], leave_out: frozenset[str] = frozenset()
) -> list[Field]:
    """The fields of a request's shape, filled with these values or with what holds unless somebody says otherwise."""
    hints, found = get_type_hints(shape, include_extras=True), []
    for field in msgspec.structs.fields(shape):
        if field.name in leave_out:
            continue
        kind = _kind(hints[field.name])
        if kind is None:
            continue
        label, hint = LABELS.get(field.name, (field.name.replace("_", " ").capitalize(), ""))
        default = "" if field.required or field.default in (None, msgspec.NODEFAULT, msgspec.UNSET) else field.default
        value = values.get(field.name, f"{default:g}" if isinstance(default, float) else str(default))
        found.append(Field(field.name, label, hint, kind, field.required, value, _keeps(hints[field.name])))
    return found


def _keeps(hint: Any) -> bool:
    return msgspec.UnsetType in get_args(hint)


def _kind(hint: Any) -> Kind | None:
    """How it is asked for; `None` where a form cannot."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        inner = [_kind(one) for one in get_args(hint) if one not in (type(None), msgspec.UnsetType)]
        return inner[0] if len(inner) == 1 else None
    if get_origin(hint) is list:
        return "words" if get_origin(get_args(hint)[0]) is Literal else None
    known: dict[Any, Kind] = {str: "text", int: "number", float: "number", bool: "check"}
    return known.get(hint)


def typed(asked: list[Field], given: Mapping[str, str]) -> dict[str, Any]:
    """What was typed, as the API takes it: what is empty is left out, and what is no number is left to the API to refuse."""
    found: dict[str, Any] = {}
    for field in asked:
        text = given.get(field.name, "").strip()
        if field.kind == "check":
            found[field.name] = text == "on"
        elif field.kind == "words":
            found[field.name] = text.replace(",", " ").split()
        elif text or (field.kind == "text" and (field.required or (field.keeps and field.name in given))):
            found[field.name] = _number(text) if field.kind == "number" else text
    return found


def _number(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode(), type=int | float)
    except msgspec.DecodeError:
        return text
