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
    return sum(map(_cpu_s, family(pid)))


def cpu_s_by_name(pid: int) -> dict[str, float]:
    """Seconds of CPU as in `cpu_s`, by the name of each process."""
    return {_name(each): _cpu_s(each) for each in family(pid)}


def pss_mib(pid: int) -> float:
    """Memory, what several processes share counted once (proportional set size)."""
    total = 0
    for each in family(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
