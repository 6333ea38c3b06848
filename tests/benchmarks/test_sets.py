"""Names of videos, label files in their forms, and the published table."""

import json

import numpy as np
import pytest
import scipy.io

from vqa_jax.benchmarks import labels as benchmark_labels
from vqa_jax.benchmarks import metrics, published
from vqa_jax.benchmarks import sets as benchmarks
from vqa_jax.benchmarks.labels import LabelsError, read_labels


def matched(name: str, wanted: list[str], files: list[str]) -> list[str | None]:
    found = benchmarks.match(benchmarks.BENCHMARKS[name], wanted, files).found
    return [None if k is None else files[k] for k in found]


def test_published_overall_rows_follow_from_the_sets_sizes():
    rows = published.published()
    whole = [row for row in rows if "overall in" in row.srcc]
    assert len(whole) == 12
    assert all(row.source for row in rows)
    for row in whole:
        for values in (row.srcc, row.plcc):
            for group in ("in", "ood"):
                sets = [b for b in benchmarks.BENCHMARKS.values() if b.group == group]
                overall = metrics.weighted_overall(
                    {b.name: values[b.name] for b in sets}, {b.name: b.sizes[0] for b in sets}
                )
                assert abs(overall - values[f"overall {group}"]) < 1e-3  # both rounded to 3 digits


def test_published_rows_are_the_given_ones(shared):
    lines = (shared / "benchmarks/published_results.csv").read_text().splitlines()[1:]
    ours = {row.model: row for row in published.published()}
    for line in lines:
        model, dataset, srcc, plcc = line.split(",")
        found = benchmarks.find(dataset)
        key = found.name if found else dataset.replace("overall_", "overall ")
        assert ours[model].srcc[key] == float(srcc)
        assert ours[model].plcc[key] == float(plcc)


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


FORMS = {
    "plain.csv": "video,mos\na.mp4,1.5\nb.mp4,2\n",
    "bom.csv": "\ufeffvideo,mos\r\na.mp4,1.5\r\nb.mp4,2\r\n",
    "semicolon.csv": "Filename;SD;MOS\na.mp4;.3;1.5\nb.mp4;.2;2\n",
    "official_ugc.csv": "vid,Category,MOS full,MOS chunk00\na.mp4,x,1.5,9\nb.mp4,y,2,9\n",
    "lsvq.csv": "name,p1,mos_p1,mos,is_test\na.mp4,x,9,1.5,True\nc,x,9,9,False\nb.mp4,x,9,2,True\n",
    "fast_vqa.txt": "a.mp4, -1, -1, 1.5\nb.mp4, 8.0, 30, 2\n",
    "two.txt": "a.mp4,1.5\nb.mp4,2\n",
    "rate.csv": "a.mp4,1.5,29.97\nb.mp4,2,30\n",
    "objects.json": '[{"image": "a.mp4", "gt_score": 1.5}, {"image": "b.mp4", "gt_score": 2}]',
    "map.json": '{"a.mp4": 1.5, "b.mp4": 2}',
    "map_of_objects.json": '{"a.mp4": {"mos": 1.5}, "b.mp4": {"mos": 2}}',
    "lists.json": '{"train": {}, "test": {"dis": ["a.mp4", "b.mp4"], "mos": [1.5, 2]}}',
    "lines.jsonl": '{"video": "a.mp4", "mos": 1.5}\n\n{"video": "b.mp4", "mos": 2}\n',
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_read_in_the_forms_that_circulate(form, tmp_path):
    path = tmp_path / form
    path.write_text(FORMS[form], encoding="utf-8")
    labels = read_labels(path)
    assert labels.names == ("a.mp4", "b.mp4")
    assert labels.mos.tolist() == [1.5, 2]


def test_matlab_lists(tmp_path):
    names = np.array([["a.mp4"], ["b.mp4"]], object)
    scipy.io.savemat(tmp_path / "data.mat", {"video_list": names, "mos": [[1.5], [2.0]]})
    labels = read_labels(tmp_path / "data.mat")
    assert labels.names == ("a.mp4", "b.mp4") and labels.mos.tolist() == [1.5, 2]


def test_missing_and_repeated_rows_are_counted(tmp_path):
    (tmp_path / "l.csv").write_text("flickr_id,mos\n12.0,3\nb,\nc,nan\n12.0,3\nb,4\n")
    labels = read_labels(tmp_path / "l.csv")
    assert (labels.names, labels.unscored, labels.repeated) == (("12.0", "b"), ("c",), 1)
    (tmp_path / "l.json").write_text(json.dumps([{"vid": 12.0, "mos": 3}]))
    assert read_labels(tmp_path / "l.json").names == ("12",)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "video,quality\na,1\n", "none of the columns video, quality"),
        ("a.csv", "video,mos\na,good\n", "row 2.*'good' is not a score"),
        ("a.csv", "video,mos\na,inf\n", "not a score"),
        ("a.csv", "video,mos\na,1\na,2\n", "row 3.*before it had 1"),
        ("a.csv", "video,mos\n,1\n", "row 2.*not named"),
        ("a.csv", "video,mos\na\n", "1 cells, the header has 2"),
        ("a.csv", "video,mos\na,\n", "holds no scores"),
        ("a.csv", "just text\n", "one column only"),
        ("a.csv", "x,y\na,1\n", "no known header"),
        ("a.txt", "a.mp4,1\nb.mp4,1,2\n", "row 2: 3 cells"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[1, 2]", "no labels in a known form"),
        ("a.json", '{"test": {"dis": ["a"], "mos": [1, 2]}}', "equal length"),
        ("a.mat", "MATLAB", "cannot be read as a MATLAB file"),
        ("a.xlsx", "PK", "save the sheet"),
    ],
)
def test_unusable_labels_say_what_to_do(name, content, complaint, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(LabelsError, match=complaint):
        read_labels(tmp_path / name)


def test_label_files_by_name_folder_or_both(tmp_path):
    for name in ("KVQ.csv", "konvid_1k.json", "notes.md"):
        (tmp_path / name).write_text("x")
    folder = str(tmp_path)
    assert set(benchmark_labels.label_files([folder])) == {"KVQ", "konvid_1k"}
    assert set(benchmark_labels.label_files([folder], ["KoNViD-1k"])) == {"konvid_1k"}
    one = f"{folder}/notes.md"
    assert benchmark_labels.label_files([f"CGVDS={one}"]) == {"CGVDS": one}
    with pytest.raises(LabelsError, match="does not exist"):
        benchmark_labels.label_files([f"{folder}/none.csv"])
    with pytest.raises(LabelsError, match="two files for KVQ"):
        benchmark_labels.label_files([folder, f"KVQ={one}"])
