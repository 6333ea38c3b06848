"""What tests of scoring share."""

import pytest

from vqa_jax.scoring import job


@pytest.fixture
def paths(tmp_path, monkeypatch) -> list[str]:
    """Seven files, one of which is not there, in ranges of three."""
    monkeypatch.setattr(job, "UNIT", 3)
    names = [str(tmp_path / f"caf\udce9 {k}.mp4") for k in range(7)]
    for k, name in enumerate(names):
        if k != 4:
            with open(name, "wb") as file:
                file.write(bytes(k))
    return names
