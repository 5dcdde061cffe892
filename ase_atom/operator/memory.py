"""Keep the C library from giving memory back to the system between two layers."""

from __future__ import annotations

from functools import cache

import torch

_LARGEST = 2**25 - 2**16  # bytes; glibc raises its limit to no more than 32 MiB


@cache
def keep_freed_memory() -> None:
    """Let blocks of up to 32 MiB be reused after they are freed.

    glibc maps each block above a limit from the system, and unmaps it when it is freed: every
    layer's output is then paid for page by page, which can take as long as computing it. The
    limit starts at 128 KiB and rises to the largest block ever freed (mallopt(3),
    M_MMAP_THRESHOLD), so one that is never touched will do. Other C libraries take no notice.
    """
    torch.empty(_LARGEST, dtype=torch.uint8)
