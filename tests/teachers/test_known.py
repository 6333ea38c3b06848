"""Cards of neural teachers."""

from vqa_jax.teachers import known
from vqa_jax.teachers.neural import load


def test_every_neural_teacher_has_a_card_and_a_loader():
    names = [card.name for card in known.CARDS]
    assert len(set(names)) == len(names)
    neural = {card.name for card in known.CARDS if card.kind == known.NEURAL}
    assert neural == load._LOADERS.keys()


def test_missing_files_and_published_figures(tmp_path):
    (card,) = (card for card in known.CARDS if card.name == "uvq")
    assert [file.name for file in card.missing(str(tmp_path))] == ["uvq.safetensors"]
    (tmp_path / "uvq.safetensors").touch()
    assert not card.missing(str(tmp_path)) and not card.results()
    (card,) = (card for card in known.CARDS if card.name == "dover")
    plcc = {(row["dataset"], row["source"]): row["plcc"] for row in card.results()}
    assert plcc["KoNViD-1k", "arXiv 2505.03631"] == "0.869"
    assert "0.883" in plcc.values()
