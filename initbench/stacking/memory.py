"""How much memory a device has left, and how much this process has taken at most."""

import os
import sys

import torch


def peak_bytes(device: torch.device) -> int:
    """The most that was in use at once: since the last call on CUDA, since the start on the CPU; 0 where nobody counts."""
    if device.type == "cuda":
        peak = int(torch.cuda.max_memory_allocated(device))
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    if device.type != "cpu" or sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_bytes(device: torch.device) -> int | None:
    """What can still be taken, None where nobody tells. On CUDA what torch keeps for later counts as free."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "cpu" and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
