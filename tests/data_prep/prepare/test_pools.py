"""Splits and pools of sources: by their names alone, as large as asked for."""

import pytest

from data_prep.inputs import source
from data_prep.prepare import pools
from tests.fixtures import prep_corpus
from vqa_jax.jobs import files

# --- splits and settings ----------------------------------------------------------------------


def test_split_follows_the_names_alone_or_what_is_given():
    names = [f"{k}.mp4" for k in range(10)]

    def heldout(order, fraction=0.3, **given):
        splits = pools.assign_splits(dict.fromkeys(order, "") | given, fraction)
        return {name for name, split in splits.items() if split == "heldout"}

    assert len(heldout(names)) == 3 and heldout(names) == heldout(names[::-1])
    assert heldout(names[:1]) == set() and len(heldout(names[:2])) == 1
    assert heldout(names, 0.0) == set() and heldout(names, 1.0) == set(names)
    given = {name: "heldout" if name < "2" else "train" for name in names}
    assert heldout(names, **given) == {"0.mp4", "1.mp4"} and heldout(names, 1.0, **given) == set(
        names
    )


def test_pools_are_as_large_as_asked_for_and_stable():
    config = prep_corpus.config(pools=prep_corpus.POOLS)
    ids = [source.source_id(f"{k}.mp4") for k in range(20)]
    dealt = pools.assign_pools(ids, config.pools)
    assert dealt == pools.assign_pools(ids[::-1], config.pools)
    sizes = {name: list(dealt.values()).count(name) for name in set(dealt.values())}
    assert sizes == {"spatial": 3, "streaming": 4, pools.REST: 13}
    assert set(pools.assign_pools(ids, ()).values()) == {pools.ALL}
    with pytest.raises(files.CorpusError, match=r"want 3 training sources .*spatial 3"):
        pools.assign_pools(ids[:2], config.pools)
