"""Label files in the forms that circulate, and those that cannot be used."""

import json

import numpy as np
import pytest
import scipy.io

from vqa_jax.benchmarks import labels as benchmark_labels
from vqa_jax.benchmarks.labels import LabelsError, read_labels

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
