"""This machine, as timing sees it: cores, allocator, processor; the standard library only, for it travels with kits."""

from __future__ import annotations

import os
import platform
import re
from functools import lru_cache
from pathlib import Path

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
}
"""glibc keeps freed memory instead of asking the kernel again: a quarter of the variation between processes."""


def usable_cores() -> tuple[int, ...]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def sizes_up_to(batch: int) -> tuple[int, ...]:
    """Numbers of samples for which calls are timed: as samples leave, calls get smaller. The last is `batch`."""
    return (*(2**i for i in range((batch - 1).bit_length())), batch)


def pin(threads: int) -> None:
    """Stay on the last cores, where the system can: the first ones serve the machine's interrupts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, usable_cores()[-threads:])


def allocator_settings() -> dict[str, str]:
    """Environment variables that steady the allocator; none where the C library is not glibc."""
    return dict(ALLOCATOR) if platform.libc_ver()[0] == "glibc" else {}


def steady_environment(threads: int) -> dict[str, str]:
    """Environment variables of a measuring process: its threads and its allocator."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), **allocator_settings()}


def machine_facts(threads: int) -> dict[str, str]:
    """What a measured figure depends on besides the network and the versions of libraries."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "threads": str(threads),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "allocator": "steadied" if allocator_settings() else "default",
        "pinned": "yes" if hasattr(os, "sched_setaffinity") else "no",
    }


@lru_cache(None)
def processor() -> str:
    """Its name, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    model = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()
