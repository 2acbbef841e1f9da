"""Memory of process trees, each shared page counted by its share."""

from __future__ import annotations

from pathlib import Path

MIB = 1024.0


def resident_mib(pid: int) -> float:
    """Proportional set size of the process and its descendants, in MiB; 0 where the kernel does not tell."""
    return sum(own_mib(one) for one in family(pid))


def own_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / MIB


def family(pid: int) -> list[int]:
    """The process and all its descendants. The host's own are its children, which are counted by themselves."""
    found = [pid]
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found
