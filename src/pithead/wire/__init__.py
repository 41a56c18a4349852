"""The JSON shapes that travel between coordinator, agent and client.

msgspec structs, shared by the server and the SDK, so that the two cannot drift apart; the OpenAPI document is made
from them. This package imports nothing else of Pithead's.

Units: times are seconds (instants are seconds since the Unix epoch, by the coordinator's clock); prices and amounts are
decimal numbers in the coordinator's one currency unit, exact to the millionth.
"""
