"""The first page of each role."""

from starlette.responses import Response

from pithead.web import operator, owners, work
from pithead.web.visits import Visit


async def home(visit: Visit) -> Response:
    """The exchange for an operator, their jobs for a client, the machine for a miner."""
    if visit.caller.kind == "operator":
        return await operator.overview(visit)
    return await (work.listing(visit) if visit.caller.kind == "client" else owners.machine(visit))
