"""The option --config: names, files, details, changes; and what is told of mistakes."""

import shutil

import pytest

from vqa_jax.cli import config


def test_changes_are_taken_out_of_the_arguments():
    given = ["train", "--config", "tiny", "--config.a.b", "3", "--config.c=4", "--out", "o"]
    assert config.split([*given, "--config.d", "--", "--config.e=5"]) == (
        ["train", "--config", "tiny", "--out", "o", "--", "--config.e=5"],
        ["--config.a.b=3", "--config.c=4", "--config.d"],
    )


def test_names_files_details_and_changes_are_understood(tmp_path, monkeypatch):
    changes = ["--config.train.optim.peak_lr=0.5", "--config.prep.window=(64,48)"]
    found = config.read("quickstart:2", [*changes, "--config.prep.stills"])
    assert found.train.pair_datasets == ("vqa_pairs_1", "vqa_pairs_2")
    assert found.train.optim.peak_lr == 0.5 and found.prep.window == (64, 48) and found.prep.stills
    shutil.copy(config._file_of("quickstart"), tmp_path / "mine.py")
    monkeypatch.chdir(tmp_path)  # a name does not depend on the current folder
    assert config.read("quickstart:2").to_json() == config.read("mine.py:2").to_json()
    assert config.read(str(tmp_path / "mine.py")).to_json() == config.read("quickstart").to_json()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("quikstart", [], "no configuration 'quikstart'; did you mean quickstart?"),
        ("zzz", [], "there are ablation, base, "),
        ("gone/quickstart.py", [], "gone/quickstart.py is missing"),
        ("quickstart", ["--config.train.optim.total_stepz=3"], "did you mean total_steps?"),
        ("quickstart", ["--config.trian.optim.total_steps=3"], "did you mean train?"),
        ("quickstart", ["--config.train.zzz=3"], "no field 'zzz'"),
        ("quickstart", ["--config.train.optim.total_steps=soon"], "soon"),
        ("quickstart", ["--config.prep.stills=perhaps"], "perhaps"),
        ("quickstart:many", [], "many"),
    ],
)
def test_mistakes_are_one_line(name, changes, message):
    with pytest.raises(config.ConfigError) as caught:
        config.read(name, changes)
    text = str(caught.value)
    assert text.startswith("--config: ") and message in text
    assert "\n" not in text and "Traceback" not in text
