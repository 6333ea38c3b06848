"""Names of videos, label files in their forms, and the published table."""

import numpy as np
import pytest

from vqa_jax.benchmarks import sets as benchmarks
from vqa_jax.benchmarks.labels import read_labels


def matched(name: str, wanted: list[str], files: list[str]) -> list[str | None]:
    found = benchmarks.match(benchmarks.BENCHMARKS[name], wanted, files).found
    return [None if k is None else files[k] for k in found]


@pytest.mark.parametrize("name", ["LSVQ_test", "lsvq-test", "LSVQ test"])
def test_names_may_be_spelled_differently(name):
    assert benchmarks.named(name).name == "LSVQ-test"


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(benchmarks.BenchmarkError, match="KoNViD-1k"):
        benchmarks.named("KoNViD-150k")


def test_real_labels_and_predictions_match_although_named_differently(shared):
    for name, several in (("KoNViD-1k", 1200), ("LIVE-VQC", 585), ("LSVQ_test", 7182)):
        labels = read_labels(shared / f"benchmarks/labels/{name}.csv")
        other = read_labels(shared / f"benchmarks/dover/{name}.csv")
        benchmark = benchmarks.named(name)
        assert len(labels.names) in benchmark.sizes and len(other.names) in benchmark.sizes
        found = benchmarks.match(benchmark, labels.names, other.names)
        assert len(labels.names) == several and None not in found.found
        assert len(found.unused) == len(other.names) - several
        same = np.corrcoef(labels.mos, other.mos[list(found.found)])[0, 1]
        assert same > 1 - 1e-6  # a wrong pairing would show


def test_every_label_file_is_read_and_of_its_known_size(shared):
    for benchmark in benchmarks.BENCHMARKS.values():
        name = benchmark.name.replace("LSVQ-", "LSVQ_")
        labels = read_labels(shared / f"benchmarks/labels/{name}.csv")
        assert len(labels.names) == benchmark.sizes[0]
        found = benchmarks.match(benchmark, labels.names, [f"/d/{n}" for n in labels.names])
        assert found.found == tuple(range(len(labels.names)))


def test_contents_follow_from_names_where_they_are_known_to_repeat(shared):
    known = {"LIVE-YT-HFR": 16, "CGVDS": 15, "Waterloo-IVC-4K": 20, "LIVE-YT-Gaming": 59}
    for name, contents in known.items():
        benchmark = benchmarks.named(name)
        labels = read_labels(shared / f"benchmarks/labels/{name}.csv")
        assert len({benchmark.content_key(n) for n in labels.names}) == contents
        assert benchmark.content in benchmark.contents_rule
    assert benchmarks.named("LSVQ-test").contents_rule == "every video shows something else"
    assert (
        benchmarks.named("KVQ").contents_rule == benchmarks.known_or_own("mine").contents_rule == ""
    )


def test_names_with_other_folders_endings_and_additions():
    assert matched("LIVE-VQC", ["A001.mp4", "B002"], ["/x/Video/b002.MOV", "Video\\a001.mp4"]) == [
        "Video\\a001.mp4",
        "/x/Video/b002.MOV",
    ]
    old = "10006880303_original_centercrop_960x540_8s.mp4"
    assert matched("KoNViD-1k", ["10006880303", "3.0"], [old, "3.mp4"]) == [old, "3.mp4"]
    cut = "Animation_1080P-05f8_crf_10_ss_00_t_20.0"
    for wanted, file in (("Animation_1080P-05f8", f"{cut}.mp4"), (f"{cut}.mp4", cut)):
        assert matched("YouTube-UGC", [wanted], ["Vlog_1080P-05f8.mp4", file]) == [file]
    hfr = ["1Runner_crf_0_24fps.mp4"]
    assert matched("LIVE-YT-HFR", hfr, ["a/1Runner_crf_0_24fps.webm"]) == [
        "a/1Runner_crf_0_24fps.webm"
    ]


def test_repeated_file_names_are_told_apart_by_folder_and_never_guessed():
    wanted = ["backup/1.mp4", "yfcc-batch9/1.mp4", "ia-batch1/2.mp4"]
    files = ["/data/yfcc-batch9/1.mp4", "/data/backup/1.mp4", "/flat/2.mp4"]
    assert matched("LSVQ-test", wanted, files) == [files[1], files[0], files[2]]
    found = benchmarks.match(benchmarks.named("LSVQ-test"), wanted, ["flat/1.mp4"])
    assert found.found == (None, None, None)
    assert found.ambiguous == (0, 1)
    # Of two copies of a file the one at the labelled place is taken, two equal ones are left open.
    assert matched("KVQ", ["0001.mp4"], ["b/0001.mp4", "0001.mp4"]) == ["0001.mp4"]
    found = benchmarks.match(benchmarks.named("KVQ"), ["0001.mp4"], ["a/0001.mp4", "b/0001.mp4"])
    assert (found.found, found.ambiguous, found.unused) == ((None,), (0,), (0, 1))
