"""Batches: a function of the step alone, mirrored with their labels, padded without a trace."""

import collections

import grain
import jax
import numpy as np
import pytest

from tests.fixtures import tiny_corpus
from vqa_jax.corpus.store import PairCorpus
from vqa_jax.devices import sharding
from vqa_jax.jobs import files
from vqa_jax.models import prompt
from vqa_jax.pairs import levels
from vqa_jax.training import batch as pair_batch
from vqa_jax.training import input_pipeline
from vqa_jax.training.batch import PromptGeometry
from vqa_jax.training.input_pipeline import training_batches

TOKENS_PER_FRAME = 4  # more than the tiny student's one, so that mistakes of a frame show


@pytest.fixture
def pairs(corpus):
    return PairCorpus(corpus, ["vqa_pairs_1"], "train", tiny_corpus.EXTRACTOR)


def _geometry(answer="level"):
    return PromptGeometry(prompt.tiny_tokenizer(), TOKENS_PER_FRAME, answer)


def _batches(pairs, rows=slice(None), **changes):
    config = tiny_corpus.input_config(**changes)
    geometry = _geometry(config.answer)
    return training_batches(pairs, config, geometry, [tiny_corpus.SIMULATOR], 2, rows)


def _assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_batch_follows_from_config_and_step(corpus, pairs):
    first = _batches(pairs)
    again = _batches(PairCorpus(corpus, ["vqa_pairs_1"], "train", tiny_corpus.EXTRACTOR))
    for step in (0, 1, 30):  # 30 is in a later epoch
        late = again[step]
        _assert_equal(first[step], late)
    assert not np.array_equal(first[0]["frames"], first[1]["frames"])
    assert not np.array_equal(first[0]["frames"], _batches(pairs, seed=1)[0]["frames"])


def test_iterator_reads_the_steps_in_order_and_resumes_by_its_state(pairs):
    batches = _batches(pairs)
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    iterator = iter(grain.MapDataset.source(batches).to_iter_dataset(options))
    for step in range(3):
        _assert_equal(next(iterator), batches[step])
    resumed = iter(grain.MapDataset.source(_batches(pairs)).to_iter_dataset(options))
    resumed.set_state(iterator.get_state())
    _assert_equal(next(resumed), batches[3])


def _expected_label(severities):
    return levels.LEVELS.index(levels.label_from_severity(*map(int, severities)))


def test_swap_mirrors_the_label_and_both_orders_occur(pairs):
    pairs.pairs = pairs.pairs[:1]
    orders = collections.Counter()
    for step in range(3):
        batch = _batches(pairs)[step]
        # One simulator: the auxiliary class is the severity level.
        for severities, probs, frames in zip(
            batch["severity"], batch["level_probs"], batch["frames"], strict=True
        ):
            assert int(probs.argmax()) == _expected_label(severities)
            darker = frames[0].mean() > frames[1].mean()  # the second is the darker, worse one
            assert darker == (severities[1] > severities[0])
            orders[tuple(severities)] += 1
    assert len(orders) == 2 and min(orders.values()) >= 4, orders
    unswapped = _batches(pairs, swap=False)[0]
    assert len({tuple(s) for s in unswapped["severity"]}) == 1


def test_soft_labels_are_mirrored_too(pairs):
    probs = np.array([0.5, 0.3, 0.1, 0.1, 0.0], np.float32)
    pairs.pairs = [{**pairs.pairs[0], "level_probs": probs}]
    seen = {tuple(p) for p in _batches(pairs)[0]["level_probs"]}
    assert seen == {tuple(probs), tuple(probs[::-1])}


def test_votes_may_be_soft_and_nothing_else_changes(pairs):
    plain = _batches(pairs, swap=False)[0]
    _assert_equal(_batches(pairs, swap=False, soft_votes=True)[0], plain)  # simulators' order
    margins = [-2.5, 0.4, 1.2]
    pairs.pairs = [
        {**pairs.pairs[i], "label_source": "teachers:sources", "normalized_margin": margin}
        for i, margin in enumerate(margins)
    ]
    seen = _batches(pairs, swap=False, soft_votes=True)[0]["level_probs"]
    assert {p.tobytes() for p in seen} == {levels.chances(m).tobytes() for m in margins}


def test_groups_are_mixed_by_weight_and_missing_ones_left_out(pairs):
    pairs.pairs = pairs.pairs + [{**p, "label_source": "teachers"} for p in pairs.pairs[:3]]
    # "student" pairs are absent: 0.6 and 0.2 become 3/4 and 1/4.
    mix = (("simulator", 0.6), ("student", 0.2), ("teachers", 0.2))
    batches = _batches(pairs, mix=mix)
    groups = np.concatenate([batches[t]["group"] for t in range(5)])
    counts = np.bincount(groups, minlength=3)
    assert counts[pair_batch.GROUPS.index("student")] == 0
    assert abs(counts[pair_batch.GROUPS.index("teachers")] - 10) <= 1
    with pytest.raises(files.CorpusError, match="no pairs"):
        _batches(pairs, mix=(("student", 1.0),))


@pytest.mark.parametrize("named,share", [((), 0.5), ((("simulator:rare", 0.3),), 0.25)])
def test_simulators_share_their_groups_weight_equally_unless_named(pairs, named, share):
    rare = [{**p, "label_source": "simulator:rare"} for p in pairs.pairs[:2]]
    keys = {(p["first_id"], p["second_id"]) for p in rare}
    pairs.pairs = pairs.pairs[2:] + rare
    motions = {tuple(pairs.videos[v][1][0, 0] for v in key) for key in keys}
    batches = _batches(pairs, swap=False, mix=(("simulator", 0.9), *named))
    got = [(m[0, 0, 0], m[1, 0, 0]) in motions for t in range(5) for m in batches[t]["motion"]]
    assert len(pairs.pairs) > 40 and abs(sum(got) - len(got) * share) <= 1


def test_every_pair_is_seen_once_an_epoch(corpus):
    pairs = PairCorpus(corpus, ["vqa_pairs_1"], "train", tiny_corpus.EXTRACTOR)
    pairs.pairs = pairs.pairs[:16]
    seen = collections.Counter()
    batches = _batches(pairs, swap=False)
    motions = {
        tuple(pairs.videos[p[k]][1][0, 0] for k in ("first_id", "second_id")): i
        for i, p in enumerate(pairs.pairs)
    }
    for step in range(2):
        for motion in batches[step]["motion"]:
            seen[motions[motion[0, 0, 0], motion[1, 0, 0]]] += 1
    assert seen == collections.Counter(range(16))


def _pairs_in(batch, pairs):
    """Numbers of a batch's pairs; their motion features tell videos apart."""
    numbers = {
        tuple(pairs.videos[p[k]][1][0, 0] for k in ("first_id", "second_id")): i
        for i, p in enumerate(pairs.pairs)
    }
    return [numbers[m[0, 0, 0], m[1, 0, 0]] for m in batch["motion"]]


def test_processes_share_every_batch_and_their_number_may_change_within_an_epoch(pairs):
    pairs.pairs = pairs.pairs[:32]
    changes = {"swap": False, "buckets": ((2, 1),)}
    whole = _batches(pairs, **changes)
    parts = {
        n: [_batches(pairs, slice(k * 8 // n, (k + 1) * 8 // n), **changes) for k in range(n)]
        for n in (1, 2, 4)
    }
    for processes in ((1, 1, 1, 1), (2, 2, 2, 2), (4, 4, 4, 4), (4, 2, 2, 1)):  # by step
        seen = collections.Counter()
        for step, n in enumerate(processes):
            found = [part[step] for part in parts[n]]
            joined = {k: np.concatenate([b[k] for b in found]) for k in found[0]}
            _assert_equal(joined, whole[step])
            seen.update(_pairs_in(joined, pairs))
        assert seen == collections.Counter(range(32))


def test_shapes_are_the_buckets_and_short_pairs_take_the_small_one(pairs):
    batches = _batches(pairs, swap=False, buckets=((2, 1),))
    geometry = _geometry()
    shapes, short = collections.Counter(), 0
    for step in range(len(pairs.pairs) // 8):
        batch = batches[step]
        frames, motion = batch["frames"].shape[2], batch["motion"].shape[2]
        length = geometry.max_length(geometry.bank(frames, motion))
        assert batch["tokens"].shape == (8, length)
        shapes[frames, motion] += 1
        clips = np.array(
            [
                max(len(pairs.videos[pairs.pairs[i][k]][1]) for k in ("first_id", "second_id"))
                for i in _pairs_in(batch, pairs)
            ]
        )
        assert clips.max() <= motion
        short += int((clips < motion).sum())
    assert shapes.keys() == {(2, 1), (2, 2)}
    assert short < 8  # what did not fill a batch of the small bucket
    for buckets in (((3, 1),), ((1, 2), (2, 1)), ((0, 1),)):
        with pytest.raises(ValueError, match="buckets"):
            _batches(pairs, buckets=buckets)


def test_images_join_by_their_weight_with_one_zero_motion_token(tmp_path):
    root = tiny_corpus.write_corpus(str(tmp_path), num_train=6, num_images=3)
    pairs = PairCorpus(root, ["vqa_pairs_1"], "train", tiny_corpus.EXTRACTOR)
    mix = (("image", 0.25), ("simulator", 0.75))
    batches = _batches(pairs, mix=mix, buckets=((2, 1),))
    images = total = 0
    one_motion_token = _geometry().layout("worse", (2, 2), (1, 1), _geometry().bank(2, 1))[0]
    for step in range(20):
        batch = batches[step]
        still = (batch["motion"] == 0).all((1, 2, 3))
        images, total = images + still.sum(), total + len(still)
        if batch["motion"].shape[2] == 1 and still.any():
            tokens = (batch["tokens"][still] < 0).sum(1)
            assert set(tokens) == {(one_motion_token.tokens < 0).sum()}
    assert abs(images / total - 0.25) < 0.03
    alone = _batches(pairs, mix=(("simulator", 1.0),))  # no weight, no images
    assert not any((alone[t]["motion"] == 0).all((1, 2, 3)).any() for t in range(4))


def test_the_first_step_of_each_bucket_is_found_by_looking(pairs):
    batches = _batches(pairs, buckets=((2, 1),))
    buckets = [batches.draw(step).bucket for step in range(60)]
    wanted = {b: 5 + buckets[5:].index(b) for b in set(buckets)}
    assert len(wanted) == 2 and batches.first_of_each_bucket(5, 60) == wanted
    assert batches.first_of_each_bucket(5, 6) == {buckets[5]: 5}


def test_device_batches_come_in_order_from_any_step_and_errors_at_their_own(pairs, monkeypatch):
    mesh = sharding.make_mesh((2, 1, 1), jax.devices()[:2])
    real, calls = sharding.put_batch, []

    def put(batch, *where):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("the third")
        return real(batch, *where)

    monkeypatch.setattr(sharding, "put_batch", put)
    batches = _batches(pairs)
    found = input_pipeline.device_batches(batches, mesh, first_step=5)
    for step in (5, 6):
        batch = next(found)
        assert batch["frames"].sharding == sharding.batch_sharding(mesh)
        _assert_equal(jax.device_get(batch), batches[step])
    with pytest.raises(RuntimeError, match="the third"):
        next(found)
    found.close()


def test_missing_or_foreign_motion_is_refused(corpus):
    other = PairCorpus(corpus, ["vqa_pairs_1"], "train", "another extractor")
    with pytest.raises(files.CorpusError, match="vqa_jax motion"):
        other.videos[tiny_corpus.video_id(0, 0)]
    with pytest.raises(files.CorpusError, match="no motion features"):
        other.videos["nobody"]
    with pytest.raises(ValueError, match="answer"):
        tiny_corpus.input_config(answer="word")


def test_grouped_batches_hold_the_epochs_pairs_and_one_first_video_a_group(pairs):
    pairs.pairs = pairs.pairs[:40]
    batches = _batches(pairs, group_size=4)
    numbers = {
        frozenset(pairs.videos[p[k]][1][0, 0] for k in ("first_id", "second_id")): i
        for i, p in enumerate(pairs.pairs)
    }
    seen, groups = collections.Counter(), 0
    while sum(seen.values()) < 40:
        batch = batches[groups // 2]
        assert batch["frames"].shape[:2] == (2, 5) and batch["tokens"].shape[:2] == (2, 4)
        for motion, mask in zip(batch["motion"], batch["example_mask"], strict=True):
            for second in motion[1:][mask > 0]:
                seen[numbers[frozenset([motion[0, 0, 0], second[0, 0]])]] += 1
        groups += 2
    assert seen.keys() == set(range(40)) and max(seen.values()) <= 2  # 2: the next epoch's
    assert groups < 40 / 1.5  # the six pairs of a clip make groups of 3, 2 and 1
    with pytest.raises(ValueError, match="multiple of group_size"):
        tiny_corpus.input_config(group_size=3)


def test_groups_read_their_first_video_once(pairs, monkeypatch):
    pairs.pairs = pairs.pairs[:40]
    real, read = type(pairs.videos).__getitem__, collections.Counter()

    def counted(self, key):
        read[key] += 1
        return real(self, key)

    monkeypatch.setattr(type(pairs.videos), "__getitem__", counted)
    batches = _batches(pairs, group_size=4)
    read.clear()
    batch = batches[0]
    used = int(batch["example_mask"].sum()) + len(batch["example_mask"])  # each second, each first
    assert sum(read.values()) == used < 2 * batch["example_mask"].sum()
