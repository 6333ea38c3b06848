"""Files damaged at random: each is decoded or refused, within its limits, by one worker."""

import collections
import os

import pytest

from data_prep.inputs.deduplicate import fingerprint
from tests.fixtures import broken_files, mutated_files
from vqa_jax.media.container import MediaError
from vqa_jax.media.decode import iter_frames
from vqa_jax.media.isolation import Isolated, LimitError
from vqa_jax.media.probe import probe
from vqa_jax.settings import DecodeLimits

NUMBER = 24
LIMITS = DecodeLimits(seconds=60, memory_mb=1000)


def examine(path):
    """What preparation does first with a file; in the child. Yields sizes of frames."""
    info = probe(path)
    fingerprint(path, info)
    for number, frame in iter_frames(path):
        yield number, frame.shape


def test_every_mutant_is_decoded_or_refused(tmp_path):
    originals = [
        broken_files.encode(tmp_path / "a.mp4"),
        broken_files.encode(tmp_path / "b.mkv"),
        broken_files.encode(tmp_path / "c.avi", codec="mpeg4"),
        broken_files.encode(tmp_path / "d.ts"),
    ]
    outcomes = _outcomes(originals, tmp_path, NUMBER)
    assert sum(outcomes.values()) == NUMBER and min(outcomes.values()) > 2, outcomes


@pytest.mark.slow
def test_every_kind_of_file_is_decoded_or_refused(tmp_path):
    (tmp_path / "originals").mkdir()
    originals = mutated_files.write_originals(tmp_path / "originals")
    assert len(originals) > 90
    number = len(originals) * len(mutated_files.MUTATIONS)
    outcomes = _outcomes(originals, tmp_path, number)
    assert sum(outcomes.values()) == number and min(outcomes.values()) > number // 10, outcomes


def _outcomes(originals, folder, number):
    """How many mutants are decoded and refused by one child."""
    (folder / "mutants").mkdir()
    mutants = mutated_files.write_mutants(originals, folder / "mutants", number, seed=0)
    outcomes = collections.Counter()
    with Isolated(LIMITS) as child:
        first = child.call("none", os.getpid)
        for path in map(str, mutants):
            try:
                shapes = {shape for _, shape in child.run(path, examine, path)}
                assert len(shapes) == 1, path  # frames of one size
                outcomes["decoded"] += 1
            except MediaError as error:
                assert error.path == path and error.reason and not isinstance(error, LimitError)
                outcomes["refused"] += 1
        assert child.call("none", os.getpid) == first, "the child was lost"
    return outcomes


def test_mutants_follow_from_their_seed(tmp_path):
    original = broken_files.encode(tmp_path / "a.mp4")
    made = []
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        (tmp_path / name).mkdir()
        paths = mutated_files.write_mutants([original], tmp_path / name, 6, seed)
        made.append([path.read_bytes() for path in paths])
    assert made[0] == made[1] and made[0] != made[2]
    assert original.read_bytes() not in made[0]
