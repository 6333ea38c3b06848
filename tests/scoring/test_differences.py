"""Two versions over time: when they differ, and files that are no versions of one source."""

import pytest

from tests.fixtures import tiny_corpus
from tests.scoring.test_timeline import noise, write
from vqa_jax.scoring import differences
from vqa_jax.scoring.differences import Difference


@pytest.fixture(scope="module")
def student(known):
    """The corpus's student, to whom brightness is quality."""
    with tiny_corpus.student_at_work(known) as found:
        yield found


def test_the_dark_passage_is_where_versions_differ_most(student, tmp_path):
    source = write(tmp_path / "a.mp4", noise(8))
    dark = write(tmp_path / "b.mp4", noise(8, lambda s: 0.4 if 4 <= s < 6 else 1.0))
    found = differences.between(student, ("A", source), ("B", dark))
    assert (found.first, found.second, found.note) == ("A", "B", "")
    assert [m.start for m in found.moments] == list(range(7))
    assert found.moments[4].second_better < 0.3
    assert found.moments[0].second_better == pytest.approx(0.5, abs=1e-3)
    assert found.most[0].moment == found.moments[4] and found.most[0].time == 5.0
    for jpegs in (found.most[0].first, found.most[0].second):
        assert all(jpeg.startswith(b"\xff\xd8") for jpeg in jpegs)


def test_versions_of_other_lengths_and_files_that_cannot_be_read_say_so(student, tmp_path):
    short, long = (write(tmp_path / f"{s}.mp4", noise(s)) for s in (2, 4))
    found = differences.between(student, ("A", short), ("B", long))
    assert "2.0 and 4.0 seconds" in found.note and not found.moments and not found.most
    gone = differences.between(student, ("A", short), ("B", str(tmp_path / "gone.mp4")))
    assert "no such file" in gone.note and not gone.moments


def test_the_surest_moments_come_first_and_do_not_overlap():
    shares = (0.5, 0.1, 0.05, 0.6, 0.95, 0.9, 0.5, 0.52)
    moments = [Difference(k, k + 2, p, False) for k, p in enumerate(shares)]
    found = [(m.start, m.second_better) for m in differences.most_different(moments)]
    assert found == [(2, 0.05), (4, 0.95), (7, 0.52), (0, 0.5)]
