"""What XLA makes of the CPU: how many devices, and code for which processor and flags."""

import hashlib
import pathlib
import platform
from collections.abc import Mapping

_COUNT = "--xla_force_host_platform_device_count"


def xla_flags(given: str, count: int) -> str:
    """`given` XLA_FLAGS with this count of devices, in place of any other; the rest is kept."""
    kept = [flag for flag in given.split() if not flag.startswith(f"{_COUNT}=")]
    return " ".join([*kept, f"{_COUNT}={count}"])


def machine(environment: Mapping[str, str]) -> str:
    """Short name of the kind of processor and of the XLA_FLAGS that programs are compiled for."""
    facts = [platform.machine(), platform.processor(), environment.get("XLA_FLAGS", "")]
    known = pathlib.Path("/proc/cpuinfo")
    if known.exists():
        lines = known.read_text(encoding="utf-8").splitlines()
        facts += sorted({x for x in lines if x.startswith(("model name", "flags", "Features"))})
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
