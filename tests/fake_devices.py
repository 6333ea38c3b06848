"""How many devices XLA makes of the CPU, beside whatever else the caller's XLA_FLAGS ask for."""

_COUNT = "--xla_force_host_platform_device_count"


def xla_flags(given: str, count: int) -> str:
    """`given` XLA_FLAGS with this count of devices, in place of any other; the rest is kept."""
    kept = [flag for flag in given.split() if not flag.startswith(f"{_COUNT}=")]
    return " ".join([*kept, f"{_COUNT}={count}"])
