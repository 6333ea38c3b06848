"""Settings of the preparation: impossible and unknown ones are refused."""

import dataclasses
import hashlib
import json

import pytest

from configs import base
from data_prep.prepare.config import PrepConfig
from data_prep.simulators import (
    expand,
)
from tests.fixtures import prep_corpus


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"simulators": ("h264", "fog")}, "fog"),
        ({"teachers": ("sharpness", "sharpness")}, "repeated"),
        ({"heldout_fraction": 1.1}, "heldout_fraction"),
        ({"num_buckets": 0}, "num_buckets"),
        ({"window": (-1, 0)}, "window"),
        ({"limit_seconds": -1.0}, "limit_seconds"),
        ({"hdr": "clip"}, "tone_map"),
        ({"deduplicate": "all"}, "deduplicate"),
        ({"pools": (prep_corpus.POOLS[0], prep_corpus.POOLS[0])}, "repeated"),
        ({"pools": ({**prep_corpus.POOLS[0], "simulators": ("fog",)},)}, "fog"),
        ({"pools": ({**prep_corpus.POOLS[0], "sources": 2.5},)}, "spatial"),
        ({"sources_per_bucket": 0}, "sources_per_bucket"),
    ],
)
def test_impossible_settings_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        prep_corpus.config(**change)


def test_unknown_settings_are_refused():
    with pytest.raises(TypeError, match="colour"):
        prep_corpus.config(colour=1)


def test_settings_take_kinds_and_known_presets():
    fields = {**base.get_config().prep.to_dict(), "simulators": ("temporal", "av1")}
    fields["pools"] = ({"name": "chains", "simulators": ("mixed",), "sources": 2},)
    config = PrepConfig.from_dict({**fields, "h265_preset": "fast"})
    assert config.simulators == ("jitter", "stutter", "frame_drop", "frame_blend", "av1")
    assert config.pools[0].simulators == expand(("mixed",))
    with pytest.raises(ValueError, match="h265_preset"):
        PrepConfig.from_dict({**fields, "h265_preset": "fst"})


def test_fingerprints_of_earlier_corpora_stay():
    # As version 0.1 computed it, before cut files had a rule, VMAF was known, views were kept and
    # stills stood for a second.
    config, later = PrepConfig(), ("truncated", "vmaf", "teacher_views", "standing_stills")
    fields = {k: v for k, v in config.to_dict().items() if k not in later}
    text = json.dumps(fields, sort_keys=True)
    assert config.fingerprint() == hashlib.sha256(text.encode()).hexdigest()[:16]
    refusing = dataclasses.replace(config, truncated="refuse")
    assert refusing.fingerprint() != config.fingerprint()
    keeping = dataclasses.replace(config, teacher_views=("dover",))
    assert keeping.fingerprint() != config.fingerprint()


def test_views_of_teachers_are_datasets_each_once():
    names = ("dover", "dover_aesthetic", "fast_vqa")
    kept = (
        prep_corpus.config(teacher_views=names).datasets().keys() - PrepConfig().datasets().keys()
    )
    assert kept == {"vqa_views_aesthetic", "vqa_views_fragments_3", "vqa_views_fragments_4"}
    with pytest.raises(ValueError, match=r"teacher_views: .*level_prompt"):
        prep_corpus.config(teacher_views=("level_prompt",))
