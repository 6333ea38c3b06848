"""The command `benchmark` on real predictions."""

from vqa_jax.cli import main


def test_real_predictions_summed_over_branches(shared, capsys):
    dover = str(shared / "benchmarks/dover/KoNViD-1k.csv")
    labels = str(shared / "benchmarks/labels/KoNViD-1k.csv")  # other names, other scale
    arguments = ["benchmark", "--labels", labels, "--predictions", dover, "--draws", "20"]
    assert main.main([*arguments, "--column", "technical+aesthetic", "--name", "DOVER"]) == 0
    said = capsys.readouterr().out
    assert "0.8825" in said and "0.8836" in said
    assert "W2S-V (stage 3)" in said and "0.902 / 0.901" in said
    assert "0.883 / 0.886 " in said  # no asterisk: the published list
    assert "(1 of 5 sets)" in said
