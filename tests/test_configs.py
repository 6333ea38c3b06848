"""Every run configuration fits the stages that read it, and unknown fields are refused."""

import ast
import dataclasses
import importlib
import pathlib
import sys
from unittest import mock

import pytest
from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from configs import ablation
from data_prep.prepare.config import HumanConfig, PairConfig, PrepConfig
from data_prep.simulators import SIMULATORS
from vqa_jax.models.presets import PRESETS
from vqa_jax.settings import RelabelConfig, TrainConfig

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != "__init__")
STAGES = {
    "prep": PrepConfig.from_dict,
    "pairs": lambda fields: PairConfig(**fields),
    "human": lambda fields: HumanConfig(**fields),
    "relabel": lambda fields: RelabelConfig(**fields),
    "train": TrainConfig.from_dict,
}
ITERATED = ("quickstart", "tiny")


def load(name: str, *overrides: str, iteration: str = "") -> ConfigDict:
    """A config as the commands load it: by a --config flag, with overrides."""
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values)
    path = f"{CONFIGS / name}.py" + (f":{iteration}" if iteration else "")
    argv = ["test", f"--config={path}", *overrides]
    with mock.patch.object(sys, "argv", argv):  # where ml_collections looks for overrides
        values(argv)
    return holder.value


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_accepts_its_part(name):
    config = load(name)
    built = {stage: build(config[stage].to_dict()) for stage, build in STAGES.items()}
    assert all(dataclasses.is_dataclass(value) for value in built.values())
    vision = PRESETS[config.student].vision
    assert built["prep"].preprocess.image_size == vision.image_size
    assert set(config.severity_simulators) <= set(built["prep"].simulators)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", ["sed", "prep.window_size", "pairs.x", "train.optim.lr"])
def test_unknown_field_cannot_be_assigned(name, field):
    config = load(name)
    *path, last = field.split(".")
    part = config
    for key in path:
        part = part[key]
    with pytest.raises(AttributeError, match=last):
        setattr(part, last, 1)
    with pytest.raises((AttributeError, KeyError, flags.Error), match=last):
        load(name, f"--config.{field}=1")


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_defaults_stand_in_the_dataclasses_alone(stage):
    fields = importlib.import_module("configs.base").get_config()[stage].to_dict()
    defaults = STAGES[stage]({})
    assert STAGES[stage](fields) == defaults
    assert set(fields) == {field.name for field in dataclasses.fields(defaults)}
    # base.py has no value of its own: no number, no text but names of parts and docstrings.
    tree = ast.parse((CONFIGS / "base.py").read_text(encoding="utf-8"))
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    values = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and id(node) not in bare
    }
    assert values == set(STAGES)


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_unknown_field_is_a_type_error(stage):
    fields = importlib.import_module("configs.base").get_config()[stage].to_dict()
    STAGES[stage](dict(fields))
    with pytest.raises(TypeError, match="surprise"):
        STAGES[stage]({**fields, "surprise": 1})


@pytest.mark.parametrize(
    ("stage", "inner"),
    [("prep", "preprocess"), ("train", "input"), ("train", "optim"), ("train", "loss")],
)
def test_unknown_inner_field_is_a_type_error(stage, inner):
    fields = importlib.import_module("configs.base").get_config()[stage].to_dict()
    fields[inner] = {**fields[inner], "surprise": 1}
    with pytest.raises(TypeError, match="surprise"):
        STAGES[stage](fields)


@pytest.mark.parametrize("name", ITERATED)
def test_iterations_are_cumulative_and_shorter(name):
    first, third = load(name, iteration="1").train, load(name, iteration="3").train
    assert tuple(first.pair_datasets) == ("vqa_pairs_1",)
    assert tuple(third.pair_datasets) == ("vqa_pairs_1", "vqa_pairs_2", "vqa_pairs_3")
    assert third.optim.total_steps < first.optim.total_steps
    changed = load(name, "--config.train.init_from=/a b/student", iteration="2")
    assert TrainConfig.from_dict(changed.train.to_dict()).init_from == "/a b/student"


@pytest.mark.parametrize("name", ITERATED)
def test_iterations_share_the_corpus(name):
    # The corpus is built once: another iteration must not ask for another one.
    first, second = load(name, iteration="1"), load(name, iteration="2")
    for stage in ("prep", "pairs"):
        assert first[stage].to_dict() == second[stage].to_dict()


def test_rows_of_the_ablation_differ_by_what_they_are_about():
    rows = {row: load("ablation", iteration=row) for row in ablation.ROWS}
    trained = {row: TrainConfig.from_dict(config.train.to_dict()) for row, config in rows.items()}
    for row, config in rows.items():
        assert config.student == "small" and config.pairs.permuted == (row == "permuted")
        assert config.relabel.choice == ("random" if row == "random" else "hard")
        assert trained[row].loss.confidence == (row not in ("I", "II"))
    sources = {name for name, _ in trained["I"].input.mix}
    assert all(name.endswith("teachers:sources") for name in sources)
    assert trained["II"].input == trained["III"].input == trained["one_teacher"].input
    assert trained["IV"] == trained["random"]
    same = dataclasses.replace(trained["IV"], pair_datasets=("vqa_pairs_1",))
    assert trained["same_steps"] == same
    assert trained["V"].pair_datasets == ("vqa_pairs_1", "vqa_pairs_2", "vqa_pairs_3")
    # What would tell the order by the levels is not taught where labels say nothing of them.
    assert trained["I"].severity_weight == trained["permuted"].severity_weight == 0
    for settings in trained.values():  # without its weight there is no such head
        has_head = any(pattern == "severity_*" for pattern, _ in settings.trainable)
        assert has_head == (settings.severity_weight > 0)
    assert rows["native"].prep.preprocess.view == "crops"
    with pytest.raises(ValueError, match="no row 'VI'"):
        ablation.get_config("VI")


def test_the_ablation_holds_one_simulator_of_every_kind_out():
    known = set(load("ablation").prep.simulators)
    assert set(ablation.UNSEEN) <= known
    kinds = [SIMULATORS[name].kind for name in ablation.UNSEEN]
    assert sorted(kinds) == sorted({SIMULATORS[name].kind for name in known})
    for row in ablation.LEFT_OUT:
        assert set(ablation.simulators_of(row)) & known - set(ablation.UNSEEN)
