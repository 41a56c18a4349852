"""Where a stranger's work is run: with nothing in sight that it does not need, nothing in reach, and an end.

What it rests on is the kernel's: namespaces through bubblewrap (`bubblewrap`), a filter of system calls (`seccomp`), and
control groups or, where there are none, limits for each process and a watch over their sum (`cgroups`, `box`). Where any
of this cannot be had, `Sandbox` raises `Unavailable`: nothing is ever run bare.
"""

from pithead.agent.sandbox.box import Outcome, Sandbox, Unavailable
from pithead.agent.sandbox.bubblewrap import INPUT, WORK, View
from pithead.agent.sandbox.limits import Limits

__all__ = ["INPUT", "WORK", "Limits", "Outcome", "Sandbox", "Unavailable", "View"]
