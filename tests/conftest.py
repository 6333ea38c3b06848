"""Fixtures that every test file shares."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import pytest

_SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Folder with goldens and real clips beside the checkout; tests skip where it is absent."""
    if not _SHARED.is_dir():
        pytest.skip(f"no {_SHARED}: goldens and real clips are not at hand")
    return _SHARED
