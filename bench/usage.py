"""What a server costs: the CPU time and the memory of its process and of all below it."""

import os
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all its descendants that are alive, parents first."""
    found = [pid]
    for each in found:  # grows while it is walked
        for thread in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def cpu_s(pid: int) -> float:
    """Seconds of CPU, of all threads, user and system."""
    return sum(cpu_by_process_s(pid).values())


def cpu_by_process_s(pid: int) -> dict[str, float]:
    """`cpu_s` of each process by its name; that of the first is `writer`, and the others are what
    `indelible.processes` calls them. Those of one name are added up."""
    spent: dict[str, float] = {}
    for each in family(pid):
        head, _, rest = Path(f"/proc/{each}/stat").read_text().rpartition(")")
        name = "writer" if each == pid else head.partition("(")[2].removeprefix("indel-")
        fields = rest.split()
        ticks = int(fields[11]) + int(fields[12])
        spent[name] = spent.get(name, 0.0) + ticks / _TICKS_PER_S
    return spent


def by_process(spent_s: dict[str, float], events: float) -> str:
    """Microseconds an event of each process that took any."""
    costs = {name: 1e6 * spent / events for name, spent in spent_s.items()}
    return ", ".join(f"{name} {cost:.1f}" for name, cost in costs.items() if cost >= 0.05)


def pss_mib(pid: int) -> float:
    """Memory, what several processes share counted once (proportional set size)."""
    total = 0
    for each in family(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024
