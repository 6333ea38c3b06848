"""Fixtures that every test file shares."""

import getpass
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

# Compiled programs are kept between tests and runs; /tmp is one machine's, as they are.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    os.path.join(tempfile.gettempdir(), f"vqa_jax_test_programs_{getpass.getuser()}"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import pytest

_SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Folder with goldens and real clips beside the checkout; tests skip where it is absent."""
    if not _SHARED.is_dir():
        pytest.skip(f"no {_SHARED}: goldens and real clips are not at hand")
    return _SHARED


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
    """Drops a file's compiled programs after it: kept, they add up to gigabytes."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> str:
    """Corpus of `tiny_corpus`; read only."""
    from tests.fixtures import tiny_corpus

    return tiny_corpus.write_corpus(str(tmp_path_factory.mktemp("corpus")))


@pytest.fixture(scope="session")
def trained(corpus, tmp_path_factory) -> str:
    """Folder of a student that has learned `tiny_corpus`, with anchors; read only."""
    from tests.fixtures import tiny_corpus

    return tiny_corpus.train_student(corpus, str(tmp_path_factory.mktemp("trained")))
