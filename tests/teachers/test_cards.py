"""Cards of the teachers."""

from vqa_jax.teachers import cards as teacher_registry
from vqa_jax.teachers import measures


def test_cards_are_complete_and_know_what_is_published():
    cards = {card.name: card for card in teacher_registry.cards()}
    assert set(measures.names()) < set(cards)
    for card in cards.values():
        assert card.summary and card.licence and card.trained_on
        assert card.score_range and card.score_range != "not stated", card.name
        assert (card.kind == teacher_registry.NEURAL) == bool(card.files)
        assert all(file.licence for file in card.files), card.name
        assert not card.published or card.results(), card.name
    results = {(r["dataset"], r["source"]): r["plcc"] for r in cards["dover"].results()}
    assert results["KoNViD-1k", "arXiv 2505.03631"] == "0.869"
    assert "0.883" in results.values()
