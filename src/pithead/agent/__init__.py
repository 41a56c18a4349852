"""What runs on a miner's machine: what GPUs it has, how it runs jobs, and the loop that speaks with the coordinator.

`loop.Agent` holds it together; `gpus` looks at the machine, `runners` do the work, `spool` keeps finished results until
they are delivered, `delivery` brings them in, `line` makes calls until they are answered, `rhythm` says when a heartbeat
is due, `registration` keeps the key.
"""
