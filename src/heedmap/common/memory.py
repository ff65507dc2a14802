"""Amounts of memory, as people write them, and what of it is free."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from heedmap.errors import OptionError

if TYPE_CHECKING:
    import torch

FREE = "free"
"""The word for what is free when the call begins."""
SHARE = 0.9
"""Of what is free, so much is taken."""
SMALLEST = 2**20
"""Bytes that can be meant at least."""
UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
RAN_OUT = ("can't allocate memory", "not enough memory", "std::bad_alloc", "out of memory")
"""What torch says where the processor's memory does not suffice, by system."""
CGROUP = Path("/sys/fs/cgroup")


def memory_bytes(memory: int | str | None) -> int | str | None:
    """``"2GB"`` as a number of bytes; ``"free"`` and None stay what they are.

    Raises:
        OptionError: it is no number of bytes, or too small.

    Examples:
        >>> memory_bytes("1.5 GB"), memory_bytes("free")
        (1500000000, 'free')
    """
    if memory is None:
        return None
    text = "" if isinstance(memory, bool) else str(memory).strip().lower()
    if text == FREE:
        return FREE
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", text)
    if match is None or match[2] not in UNITS:
        raise OptionError(f"memory is {memory!r}; expected bytes, such as 4000000000, 512MB or 2GiB, or {FREE!r}")
    size = int(float(match[1]) * UNITS[match[2]])
    if size < SMALLEST:
        raise OptionError(f"memory is {memory!r}, too small for a block of attention; expected 1MiB or more")
    return size


def free_bytes(device: torch.device) -> int:
    """What of the memory of ``device`` this process could take now, less a tenth.

    Raises:
        OptionError: it cannot be told on this system.
    """
    if device.type == "cuda":
        import torch

        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    known = [amount for amount in (_of_machine(), _of_group()) if amount is not None]
    if device.type != "cpu" or not known:
        raise OptionError(f"memory is {FREE!r}, and what is free on {device} cannot be told; give bytes, such as 4GB")
    return int(SHARE * min(known))


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice: Python's, NumPy's, or torch's on a GPU or the processor.

    Examples:
        >>> ran_out(MemoryError()), ran_out(RuntimeError("DefaultCPUAllocator: can't allocate memory")), ran_out(ValueError())
        (True, True, False)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without its import
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in RAN_OUT)


def _of_machine() -> int | None:
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None


def _of_group() -> int | None:
    """What the control group of a container leaves."""
    try:
        return int((CGROUP / "memory.max").read_text()) - int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # there is none, or it is "max"
        return None


def told_bytes(size: float) -> str:
    """For people: ``1.3 GB``.

    Examples:
        >>> told_bytes(1_340_000_000), told_bytes(12_000)
        ('1.3 GB', '12 kB')
    """
    names = ("bytes", "kB", "MB", "GB", "TB")
    for name in names[:-1]:
        if size < 999.5:
            return f"{size:.1f} {name}" if size < 10 and name not in ("bytes", "kB") else f"{size:.0f} {name}"
        size /= 1000
    return f"{size:.1f} {names[-1]}"
