"""Cards of the teachers."""

from tests.fixtures import light_teachers
from vqa_jax.teachers import cards as teacher_registry
from vqa_jax.teachers import known, measures
from vqa_jax.teachers.light import model


def test_cards_are_complete():
    cards = {card.name: card for card in teacher_registry.cards()}
    assert set(measures.names()) < set(cards)
    for card in cards.values():
        assert card.summary and card.licence and card.trained_on
        assert card.score_range and card.score_range != "not stated", card.name
        assert (card.kind == known.NEURAL) == bool(card.files)
        assert all(file.licence for file in card.files), card.name
        assert not card.published or card.results(), card.name


def test_light_teachers_are_shipped_and_a_folders_own_hide_them(tmp_path):
    shipped = {c.name: c for c in teacher_registry.cards() if c.kind == known.LIGHT}
    assert len(shipped) >= 4
    best = max(model.read_card(c.path).cross_validated.pooled for c in shipped.values())
    assert best >= 0.75
    path = light_teachers.save(tmp_path)
    mine = teacher_registry.card("light_colour", str(tmp_path))
    assert mine.path == path != shipped["light_colour"].path
    assert "a set" in mine.trained_on and mine.licence == "as their authors say"
