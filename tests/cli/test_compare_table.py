"""What `compare` prints."""

from tests.fixtures.known_versions import KnowingStudent, OtherStudent
from vqa_jax.cli.compare_table import render
from vqa_jax.scoring import versions
from vqa_jax.scoring.differences import Difference, Differences, SideBySide


def test_the_best_come_first_and_failures_last():
    found = versions.rank(KnowingStudent(), ["-1.mp4", "gone\x1b.mp4", "1.mp4"])
    lines = render(found).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["C", "A", "B"]
    assert "\x1b" not in lines[3] and lines[3].endswith("no such file [probe]")
    assert lines[4].startswith("P(C better than A) 0.98; most likely C is superior to A")
    assert lines[-1] == "model: known" and "test scale" in lines[-2]


def test_contradictions_and_moments_are_told():
    found = versions.rank(OtherStudent(), ["-1.mp4", "1.mp4"])
    moment = Difference(3.0, 5.0, 0.875, False)
    over_time = [
        Differences("A", "B", (moment,), (SideBySide(moment, 4.0, (b"", b""), (b"", b"")),)),
        Differences("A", "C", note="of another length"),
    ]
    text = render(found, over_time)
    assert "CONTRADICTORY" in text and "no anchors" in text
    assert "3.0 to 5.0 s: P(B better than A) 0.88" in text
    assert "C against A: of another length" in text
