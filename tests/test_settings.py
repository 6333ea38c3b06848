"""Settings go to plain values and back, and impossible ones are refused."""

import pytest

from vqa_jax.errors import VqaError
from vqa_jax.settings import (
    InputConfig,
    LossConfig,
    OptimConfig,
    RelabelConfig,
    ScoreConfig,
    SettingsError,
    TrainConfig,
)

CHANGED = TrainConfig(
    pair_datasets=("vqa_pairs_1", "vqa_pairs_2"),
    mesh=(2, -1, 1),
    input=InputConfig(mix=(("human", 1.0),), buckets=((2, 1), (4, 1)), group_size=4),
    optim=OptimConfig(total_steps=7, warmup_steps=2),
    loss=LossConfig(confidence=False),
    trainable=(("llm/*", 0.5), ("vision/*", 1.0)),
    sharding=(("embed", "tensor"),),
)


@pytest.mark.parametrize("config", [TrainConfig(), CHANGED])
def test_training_settings_come_back_from_plain_values(config):
    fields = config.to_dict()
    assert isinstance(fields["input"], dict) and isinstance(fields["input"]["mix"], dict)
    assert fields["trainable"] == dict(config.trainable)
    assert TrainConfig.from_dict(fields) == config
    assert TrainConfig.from_dict({"input": {"seed": 3}}).input == InputConfig(seed=3)


@pytest.mark.parametrize(
    ("config", "fields", "named"),
    [
        (InputConfig, {"answer": "word"}, "answer"),
        (InputConfig, {"batch_size": 6, "group_size": 4}, "group_size"),
        (LossConfig, {"warmup_share": 0.0}, "warmup_share"),
        (LossConfig, {"end_temperature": 0.0}, "temperatures"),
        (OptimConfig, {"total_steps": 5, "warmup_steps": 6}, "warmup_steps"),
        (RelabelConfig, {"labels": "people"}, "labels"),
        (RelabelConfig, {"misordered_pools": ({"name": "a"},)}, "misordered_pools"),
        (RelabelConfig, {"xi": -1.0}, "xi"),
        (TrainConfig, {"context": 0}, "context 0"),
        (TrainConfig, {"context": 2, "input": InputConfig(group_size=4)}, "group_size 4"),
        (ScoreConfig, {"protocol": "mean"}, "protocol"),
        (ScoreConfig, {"epsilon": 0.1, "both_orders": True}, "choose one"),
    ],
)
def test_impossible_settings_are_told(config, fields, named):
    with pytest.raises(SettingsError, match=named) as error:
        config(**fields)
    assert isinstance(error.value, VqaError) and isinstance(error.value, ValueError)


def test_buckets_must_hold_one_another():
    assert InputConfig(num_frames=4, buckets=((2, 1),)).bucket_sizes(2) == [(2, 1), (4, 2)]
    with pytest.raises(SettingsError, match="the clips must grow"):
        InputConfig(num_frames=4, buckets=((2, 2),)).bucket_sizes(1)
    with pytest.raises(SettingsError, match="between"):
        InputConfig(num_frames=4, buckets=((8, 2),)).bucket_sizes(2)
