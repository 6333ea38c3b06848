"""Which processor this is; needs no JAX, so that it can be asked before JAX starts."""

import hashlib
import pathlib
import platform
import re


def processor() -> str:
    """Short hash of the processor's kind and abilities; programs for one may not run on another."""
    facts = [platform.machine(), platform.processor()]
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        text = ""
    for name in ("vendor_id", "model name", "flags", "CPU part", "Features"):
        found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
        facts.append(found[1] if found else "")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
