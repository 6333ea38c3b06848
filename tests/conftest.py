"""Fixtures that every test file shares."""

import ctypes
import gc
import getpass
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.fixtures import fake_devices

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = fake_devices.xla_flags(os.environ.get("XLA_FLAGS", ""), 8)

# Compiled programs are kept between tests and runs. They are machine code, so a folder belongs to
# one kind of processor and one set of flags.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    os.path.join(
        tempfile.gettempdir(),
        f"vqa_jax_test_programs_{getpass.getuser()}_{fake_devices.machine(os.environ)}",
    ),
)
# The small ones, too: they are dropped from memory after every file, and hundreds add up.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# A compiler's threads leave freed pages between used ones in an arena each: gigabytes after some
# files. In two arenas they are used again, and `malloc_trim` returns what is left.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
if hasattr(_LIBC, "mallopt"):
    _M_ARENA_MAX = -8
    _LIBC.mallopt(_M_ARENA_MAX, 2)

# Of memory; the largest file adds half a gigabyte.
_KEEP_PROGRAMS_BELOW = 2e9

_SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Folder with goldens and real clips beside the checkout; tests skip where it is absent."""
    if not _SHARED.is_dir():
        pytest.skip(f"no {_SHARED}: goldens and real clips are not at hand")
    return _SHARED


def pytest_collection_finish() -> None:
    """Leaves the million objects of what was imported out of every collection that follows.

    Traces of programs make many more, that live: to look through them often finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
    """Drops compiled programs after a file once they fill memory: kept, they reach gigabytes.

    Until then the next files need not trace and load again what they share with the ones before.
    """
    yield
    if _resident_bytes() < _KEEP_PROGRAMS_BELOW:
        return
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    gc.collect()  # programs lie in cycles of what they closed over
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


def _resident_bytes() -> float:
    """Memory that this process holds; infinite where the system does not tell."""
    try:
        pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return float("inf")
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="session")
def micro_student():
    """The module of `micro_student.MICRO` with random parameters; read only."""
    from flax import nnx

    from tests.fixtures.micro_student import MICRO
    from vqa_jax.models.student import Student

    return nnx.jit(lambda: Student(MICRO, nnx.Rngs(0)))()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> str:
    """Corpus of `tiny_corpus`; read only."""
    from tests.fixtures import tiny_corpus

    return tiny_corpus.write_corpus(str(tmp_path_factory.mktemp("corpus")))


@pytest.fixture(scope="session")
def known(corpus, tmp_path_factory) -> str:
    """Folder of the student that knows `tiny_corpus` by its weights, with anchors; read only."""
    from tests.fixtures import tiny_corpus

    return tiny_corpus.write_student(corpus, str(tmp_path_factory.mktemp("known")))


@pytest.fixture(scope="session")
def _s3_server() -> Iterator:
    for package in ("moto", "s3fs", "flask"):
        pytest.importorskip(package, reason="pip install -r tests/requirements.txt")
    from tests.fixtures import s3_server

    with s3_server.running() as found:
        yield found


@pytest.fixture
def s3(_s3_server, tmp_path, monkeypatch) -> Iterator:
    """An S3 server (`s3_server.S3`) with an empty bucket, where this process's clients go."""
    import s3fs

    from vqa_jax.jobs import places

    _s3_server.clear()
    for name, value in _s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # its waits between tries are seconds
    monkeypatch.setenv("VQA_JAX_STAGE", str(tmp_path / "stage"))
    monkeypatch.setattr(places, "_copies", {})
    s3fs.S3FileSystem.clear_instance_cache()
    yield _s3_server
    s3fs.S3FileSystem.clear_instance_cache()
