"""What tests ask of receipts."""

from typing import Any

import httpx
import msgspec
from tests.http.exchange import Api, body

from pithead.client import verify_receipt
from pithead.wire.miners import Receipt, ReceiptKeys

#: What of a receipt says how it was signed. All else says what happened, and is the same whoever signs it.
SIGNED = {"key_id", "signature", "batch"}


async def keys_of(api: Api) -> ReceiptKeys:
    """What receipts are checked with."""
    return msgspec.convert(body(await api.http.get("/v1/receipt-keys")), ReceiptKeys)


def facts_of(answer: httpx.Response, keys: ReceiptKeys) -> dict[str, Any]:
    """What a completion was answered with, but for how its receipt was signed: which must hold."""
    outcome = body(answer)
    given = outcome["receipt"]
    assert verify_receipt(msgspec.convert(given, Receipt), keys)
    return outcome | {"receipt": {name: value for name, value in given.items() if name not in SIGNED}}
