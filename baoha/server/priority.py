"""
The process's share of the CPU, where its neighbours want all of it.

Rule of this file: it asks, and takes no for an answer; a server that may not raise itself runs.

Theory of operation. A node that gets no CPU time cannot renew its lock. So the process asks for a
better nice value than others have (``CAP_SYS_NICE`` or RLIMIT_NICE allow it; root has both). Where
the kernel groups processes by session, nice counts only inside of a group, and the group has a
value of its own: it is set too, if the process leads its session and so shares it with nobody else.
A cgroup's weight or quota stands above both (``CPUWeight=`` of a systemd unit).

Source: sched(7), "The nice value and group scheduling" and "The autogroup feature".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_AUTOGROUP: Final = Path("/proc/self/autogroup")


def raise_priority(nice: int) -> bool:
    """
    Ask for a nice value; returns whether the process has it now.

    A value that somebody has given the process already (not 0) is left alone, as is 0 asked for.
    """
    if nice == 0 or os.getpriority(os.PRIO_PROCESS, 0) != 0:
        return False
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError:
        return False
    if os.getsid(0) == os.getpid():
        try:
            _AUTOGROUP.write_text(str(nice))
        except OSError:
            return True  # a kernel without such groups: the nice value is all there is
    return True
