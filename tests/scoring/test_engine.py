"""The engine: cached anchors, padded pairs and the plain student give the same level logits."""

import jax
import numpy as np
import pytest

from tests.fixtures import tiny_corpus
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.devices import sharding
from vqa_jax.devices.execution import Execution
from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.pairs import levels
from vqa_jax.scoring import engine as scoring
from vqa_jax.weights import bundle

SPEC = tiny_corpus.student_spec()
EXACT = TOLERANCES["level_logits"]


class Fixture:
    """The student whose answers follow brightness, far beyond any tolerance, and its engine."""

    def __init__(self, folder):
        self.student = FunctionalStudent(SPEC.student)
        self.params = bundle.load_params(folder, self.student)
        self.tokenizer = bundle.make_tokenizer(SPEC)
        self._level_logits = jax.jit(lambda p, *x: self.student.bind(p).level_logits(*x))
        self.engine = scoring.Engine(self.student, self.params, SPEC, self.tokenizer, batch_size=2)

    def direct(self, first, second):
        """Level logits [5] of two groups of frames, unpadded, by the module itself."""
        videos = (first, second)
        frames, motion = [v[0] for v in videos], [v[1] for v in videos]
        most_f, most_m = max(map(len, frames)), max(map(len, motion))
        per_frame = SPEC.student.tokens_per_frame
        row = prompt.layout(
            prompt.scoring_ids(self.tokenizer),
            [len(f) * per_frame for f in frames],
            [len(m) for m in motion],
            prompt.Bank(most_f * per_frame, most_m),
        )
        # The padding is loud, so that a leak shows.
        whole = np.full((1, 2, most_f, *frames[0].shape[1:]), 255, np.uint8)
        features = np.full((1, 2, most_m, motion[0].shape[1]), 9.0, np.float32)
        for i in range(2):
            whole[0, i, : len(frames[i])] = frames[i]
            features[0, i, : len(motion[i])] = motion[i]
        logits = self._level_logits(
            self.params,
            whole,
            features,
            row.tokens[None],
            row.answer_pos[None],
            np.asarray(prompt.level_ids(self.tokenizer)),
        )
        return np.asarray(logits)[0]


@pytest.fixture(scope="module")
def fixture(known):
    return Fixture(known)


def _video(groups, num_frames, num_motion, seed):
    """Noise; brighter by a fifth with every seed, and black again after the fifth."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(180, 256, (groups, num_frames, 16, 16, 3)) * ((seed % 6) / 5)
    motion = rng.normal(0.0, 0.1, (num_motion, tiny_corpus.MOTION_DIM)).astype(np.float32)
    return scoring.VideoInput(frames.astype(np.uint8), motion)


SHAPES = [(1, 2, 2), (1, 1, 2), (1, 2, 1), (1, 1, 1)]  # groups, frames, clips


@pytest.fixture(scope="module")
def videos():
    return [_video(*shape, seed) for seed, shape in enumerate(SHAPES)]


@pytest.fixture(scope="module")
def encoded(fixture, videos):
    return list(fixture.engine.encode(videos))


def _groups(video):
    return [(frames, video.motion) for frames in video.frames]


def test_padded_batches_equal_the_unpadded_student(fixture, videos, encoded):
    order = [(0, 3), (2, 1), (1, 3)]  # three pairs in batches of two: the last is part empty
    got = fixture.engine.compare([(encoded[i], encoded[j]) for i, j in order])
    expected = [fixture.direct(_groups(videos[i])[0], _groups(videos[j])[0]) for i, j in order]
    np.testing.assert_allclose(got, expected, **EXACT)
    # The pairs are told apart by whole logits, so equality means something.
    assert np.ptp(levels.preference(got)) > 0.25


def test_cached_anchors_equal_whole_pairs(fixture, encoded):
    """Anchors of different lengths share one padded cache; so do test videos of other lengths."""
    engine = fixture.engine
    engine.set_anchors(encoded)
    for video in encoded:
        expected = engine.compare([(anchor, video) for anchor in encoded])
        np.testing.assert_allclose(engine.against_anchors(video), expected, **EXACT)


def test_groups_are_averaged(fixture, encoded):
    engine = fixture.engine
    first, second = engine.encode([_video(2, 2, 2, 7), _video(2, 2, 1, 8)])
    anchor = encoded[0]

    def single(video, group):
        return scoring.EncodedVideo(
            video.visual[group : group + 1], video.num_frames, video.num_motion
        )

    pairs = [(single(first, g), single(second, g)) for g in range(2)]
    expected = engine.compare(pairs).mean(0)
    np.testing.assert_allclose(engine.compare([(first, second)])[0], expected, **EXACT)
    # Unequal counts: the shorter one repeats.
    expected = engine.compare([(anchor, single(second, g)) for g in range(2)]).mean(0)
    np.testing.assert_allclose(engine.compare([(anchor, second)])[0], expected, **EXACT)
    engine.set_anchors([anchor])
    np.testing.assert_allclose(engine.against_anchors(second)[0], expected, **EXACT)
    engine.set_anchors([first])
    expected = engine.compare([(first, second)])
    np.testing.assert_allclose(engine.against_anchors(second), expected, **EXACT)


def test_order_matters_and_results_do_not_depend_on_the_company(fixture, encoded):
    pairs = [(encoded[0], encoded[1]), (encoded[1], encoded[0]), (encoded[2], encoded[3])]
    together = fixture.engine.compare(pairs)
    alone = np.concatenate([fixture.engine.compare([pair]) for pair in pairs])
    np.testing.assert_allclose(together, alone, **EXACT)
    # Brighter by a fifth, then darker by as much: mirrored, as far as the weights are exact.
    brighter, darker = levels.preference(together[:2])
    assert darker < 0.4 and brighter > 0.6
    assert brighter + darker == pytest.approx(1, abs=0.1)


def test_videos_beyond_the_students_sizes_and_missing_anchors_are_refused(fixture, known):
    engine = scoring.Engine(fixture.student, fixture.params, SPEC, fixture.tokenizer)
    for shape in ((1, 3, 1), (1, 1, 3)):
        with pytest.raises(ValueError, match="at most 2 and 2"):
            list(engine.encode([_video(*shape, 0)]))
    with pytest.raises(ValueError, match="set_anchors"):
        engine.against_anchors(None)


def test_stored_tiles_become_groups_of_centre_crops():
    tiles = tiny_corpus.tiles(0, 0)
    video = scoring.VideoInput.of_view(tiles, np.zeros((1, 4), np.float32), SPEC)
    assert video.frames.shape == (2, 2, 16, 16, 3)
    np.testing.assert_array_equal(video.frames[1], tiles[1::2, 2:18, 2:18])


def test_many_videos_on_a_mesh_equal_each_alone(fixture, videos, encoded):
    """Rows split over two devices, heads over two more; the anchors' cache is split with them."""
    mesh = sharding.make_mesh((2, 1, 2), jax.devices()[:4])
    engine = scoring.Engine(
        fixture.student, fixture.params, SPEC, fixture.tokenizer, 4, Execution(mesh)
    )
    together = list(engine.encode(videos))
    for got, expected in zip(together, encoded, strict=True):
        np.testing.assert_allclose(got.visual, expected.visual, **EXACT)
    engine.set_anchors(together[:2])
    pairs = [(1, together[2]), (0, together[3]), (1, together[0])]
    expected = fixture.engine.compare([(encoded[1], encoded[2]), (encoded[0], encoded[3])])
    np.testing.assert_allclose(engine.against(pairs)[:2], expected, **EXACT)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1, 2)])
def test_anchors_in_int8_answer_as_their_rounded_keys_and_values(fixture, encoded, sizes):
    mesh = sharding.make_mesh(sizes, jax.devices()[: np.prod(sizes)])
    kept = scoring.Engine(
        fixture.student, fixture.params, SPEC, fixture.tokenizer, 2, Execution(mesh), "int8"
    )
    kept.set_anchors(encoded)
    assert kept._cache.keys.codes.dtype == kept._cache.values.codes.dtype == np.int8
    plain = fixture.engine
    plain.set_anchors(encoded)
    before = [plain.against_anchors(video) for video in encoded]
    plain._cache = plain._cache._replace(
        keys=_rounded(plain._cache.keys), values=_rounded(plain._cache.values)
    )
    for video, exact in zip(encoded, before, strict=True):
        found = kept.against_anchors(video)
        np.testing.assert_allclose(found, plain.against_anchors(video), **EXACT)
        assert 0 < np.abs(found - exact).max() < 0.1 * np.ptp(exact)


def _rounded(values):
    """To the nearest of 255 whole steps of a head's largest number."""
    values = np.asarray(values)
    steps = np.abs(values).max(-1, keepdims=True) / 127
    return np.rint(values / np.where(steps > 0, steps, 1)) * steps


def test_a_batch_that_the_devices_cannot_share_is_refused(fixture):
    mesh = sharding.make_mesh((2, 1, 1), jax.devices()[:2])
    with pytest.raises(ValueError, match="batch of 3"):
        scoring.Engine(fixture.student, fixture.params, SPEC, fixture.tokenizer, 3, Execution(mesh))
