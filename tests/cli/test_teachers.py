"""The command `teachers`: what there is, and how score files agree."""

import json

import numpy as np
import pytest

from vqa_jax.cli import main
from vqa_jax.teachers import cards

DATASET = {"kind": "vqa_videos", "splits": {}}


def test_list_tells_of_every_teacher(tmp_path, capsys):
    empty = ["--weights", str(tmp_path)]
    assert main.main(["teachers", "list", *empty]) == 0
    told = capsys.readouterr().out
    assert main.main(["teachers", "list", "--json", *empty]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == {card.name for card in cards.cards()}
    assert all(name in told for name in rows)
    assert rows["noise"]["ready"] and not rows["dover"]["ready"]


def test_agreement_of_score_files_names_the_odd_one(tmp_path, capsys):
    rng = np.random.default_rng(0)
    quality = rng.normal(size=60)
    scores = {name: quality + 0.2 * rng.normal(size=60) for name in ("one", "two", "three")}
    scores["odd"] = rng.normal(size=60)
    lines = ["video," + ",".join(scores)]
    lines += [f"{k}.mp4," + ",".join(f"{x[k]:.6f}" for x in scores.values()) for k in range(60)]
    (tmp_path / "scores.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    command = ["teachers", "agree", "--scores", str(tmp_path / "scores.csv"), "--out", str(out)]
    assert main.main(command) == 0
    said = capsys.readouterr().out
    assert "odd" in said
    assert {path.name for path in out.iterdir()} >= {"teachers.html", "ensemble.json"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["noise"], "prep.teachers"),
        (["level_prompt"], "cannot keep what they look at"),
        (["dover", "--draws", "2"], "leave out --seed and --draws"),
        (["dover", "--seed", "0"], "leave out --seed and --draws"),
        (["dover"], "does not hold vqa_views_aesthetic"),
    ],
)
def test_what_a_corpus_cannot_have_scored_is_told_before_weights_are_read(
    asked, said, tmp_path, capsys
):
    for name in ("dover", "level_prompt/student"):
        path = tmp_path / "weights" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no tensors")
    for name in ("student", "tokenizer"):
        (tmp_path / "weights" / "level_prompt" / f"{name}.json").write_text("{}")
    manifest = {"video_table_sha256": "0" * 64, "datasets": {"vqa_videos": DATASET}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    command = ["teachers", "score", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    command += ["--weights", str(tmp_path / "weights"), "--teachers", *asked]
    assert main.main(command) == 1
    assert said in capsys.readouterr().err
