"""What pairs become, whoever holds their videos."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from vqa_jax.jobs.files import CorpusError
from vqa_jax.settings import InputConfig
from vqa_jax.training import examples


def test_sources_share_their_groups_weight_and_pictures_stand_apart():
    names = ["simulator:blur", "simulator:noise", "teachers", "teachers", "human:A"]
    corpus = SimpleNamespace(root="a corpus", pairs=[{"label_source": name} for name in names])
    images = np.array([False, False, False, True, False])
    config = InputConfig(mix=(("image", 0.2), ("simulator", 0.6), ("teachers", 0.2)))
    found = examples.sources(corpus, config, images)
    told = {tuple(source.members): source.weight for source in found}
    assert told == {(0,): 0.3, (1,): 0.3, (2,): 0.2, (3,): 0.2}  # none of human scores
    named = dataclasses.replace(config, mix=(*config.mix, ("simulator:blur", 0.1)))
    told = {s.members[0]: s.weight for s in examples.sources(corpus, named, images)}
    assert told[0] == 0.1 and told[1] == 0.6
    with pytest.raises(CorpusError, match="a corpus: no pairs"):
        examples.sources(corpus, dataclasses.replace(config, mix=(("student", 1.0),)), images)


def test_severity_classes_are_distinct_and_temporal_ones_have_none():
    simulators = ["blur", "noise"]
    classes = [
        examples.severity_class({"simulator": s, "level": k}, simulators, 5)
        for s in simulators
        for k in range(1, 6)
    ]
    assert classes == list(range(1, 11))
    assert examples.severity_class({"simulator": "source", "level": 0}, simulators, 5) == 0
    assert examples.severity_class({"simulator": "stutter", "level": 2}, simulators, 5) == -1
