"""Memory and processor time of a process and its descendants, as Linux counts them in /proc."""

import os
from collections.abc import Iterator
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> Iterator[int]:
    """All processes below `pid`; FileNotFoundError or ProcessLookupError if one has just ended."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):  # of each thread
        for child in map(int, children.read_text().split()):
            yield child
            yield from descendants(child)


def memory(pid: int) -> float:
    """MB that a process has allocated, and its part of the memory that it shares with others.

    This is its proportional set size (PSS) without files: which pages of libraries and mapped files the system keeps,
    and for which process it counts them, depends on what else runs.

    Raises:
        FileNotFoundError, ProcessLookupError: it has ended.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {name: int(size) for name, size, _ in (line.split() for line in lines[1:])}
    if not sizes:
        raise ProcessLookupError(pid)
    return (sizes["Pss_Anon:"] + sizes["Pss_Shmem:"]) * 1024 / 1e6


def processor_seconds(pid: int) -> float:
    """Seconds of processor time of all threads of a process, since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # its name may contain spaces
    return (int(fields[11]) + int(fields[12])) / _TICK  # in user and in kernel mode
