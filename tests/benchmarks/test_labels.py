"""Label files in the forms that circulate, and those that cannot be used."""

import json

import numpy as np
import pyarrow as pa
import pytest
import scipy.io
from pyarrow import parquet

from vqa_jax.benchmarks import labels as benchmark_labels
from vqa_jax.benchmarks import text_table
from vqa_jax.benchmarks.labels import LabelsError, read_labels

FORMS = {
    "plain.csv": "video,mos\na.mp4,1.5\nb.mp4,2\n",
    "bom.csv": "\ufeffvideo,mos\r\na.mp4,1.5\r\nb.mp4,2\r\n",
    "semicolon.csv": "Filename;SD;MOS\na.mp4;.3;1.5\nb.mp4;.2;2\n",
    "official_ugc.csv": "vid,Category,MOS full,MOS chunk00\na.mp4,x,1.5,9\nb.mp4,y,2,9\n",
    "lsvq.csv": "name,p1,mos_p1,mos,is_test\na.mp4,x,9,1.5,True\nc,x,9,9,False\nb.mp4,x,9,2,True\n",
    "tab.csv": "mos\tname\n1.5\ta.mp4\n2\tb.mp4\n",
    "semicolon_in_a_name.csv": "video,note;1,mos\na.mp4,x,1.5\nb.mp4,y,2\n",
    "comma_in_a_name.csv": 'note,mos,video\n"x,y",1.5,a.mp4\nz,2,b.mp4\n',
    "fast_vqa.csv": "video,duration,rate,mos\na.mp4, -1, -1, 1.5\nb.mp4, 8.0, 30, 2\n",
    "two.txt": "a.mp4,1.5\nb.mp4,2\n",
    "two_semicolons.txt": "a.mp4;1.5\nb.mp4;2e0\n",
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


def test_parquet_and_who_gave_the_scores(tmp_path):
    for column, human in (("mos", True), ("score", False)):
        table = pa.table({"path": ["a.mp4", "b.mp4"], column: [1.5, 2], "std": [0.5, None]})
        parquet.write_table(table, tmp_path / "l.parquet")
        labels = read_labels(tmp_path / "l.parquet")
        assert (labels.names, labels.human) == (("a.mp4", "b.mp4"), human)
        np.testing.assert_array_equal(labels.mos, [1.5, 2])
        np.testing.assert_array_equal(labels.std, [0.5, np.nan])


def test_names_that_a_guarded_cell_holds_are_read_bare(tmp_path):
    (tmp_path / "l.csv").write_text("video,mos\n'=1+1.mp4,3\n'-a.mp4,-2\n", encoding="utf-8")
    assert read_labels(tmp_path / "l.csv").names == ("=1+1.mp4", "-a.mp4")


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
        ("a.csv", "video,mos\na,good\n", "row 2.*'good' is not a number"),
        ("a.csv", "video,mos\na,inf\n", "not a number"),
        ("a.csv", "video,mos\na,1e999\n", "not a number"),
        ("a.csv", "video,mos\na,3_5\n", "row 2: '3_5' is not a number"),
        ("a.csv", "video;mos\na;3,5\n", "row 2: '3,5' is not a number: write decimals with a p"),
        ("a.csv", "video,mos\na,３\n", "not a number"),
        ("a.csv", "video,mos\na,1\na,2\n", "row 3: 'a' has the score 2, in row 2 it had 1"),
        ("a.csv", "video,mos,std\na,1,2\na,1,3\n", "row 3: .* 1/3, in row 2 it had 1/2"),
        ("a.csv", "video,mos\na,3,9\nb,3,1\n", "row 2: 3 cells, the header has 2"),
        ("a.csv", "video,std,mos\na,1\n", "row 2: 2 cells, the header has 3"),
        ("a.csv", "video,mos,MOS\na,3,9\n", "two columns are called 'mos'"),
        ("a.csv", "video,mos,is_test\na,3,maybe\n", "row 2: is_test is 'maybe'"),
        ("a.csv", 'video,mos\n"a,3\nb,4\n', "no table of text"),
        ("a.csv", "a,3,9\nb,3,1\n", "3 columns without a header"),
        ("a.csv", "a,3.9,0.5,21\nb,3.1,0.4,20\n", "4 columns without a header"),
        ("a.csv", "video,mos\n,1\n", "row 2.*not named"),
        ("a.csv", "video,mos\na\n", "1 cells, the header has 2"),
        ("a.csv", "video,mos\na,\n", "holds no scores"),
        ("a.csv", "just text\n", "one column only"),
        ("a.csv", "x,y\na,1\n", "no known header"),
        ("a.txt", "a.mp4,1\nb.mp4,1,2\n", "row 2: 3 cells, the first row has 2"),
        ("a.json", '{"a": 1, "a": 2}', "'a' stands there twice"),
        ("a.json", '{"a": true}', "not a number"),
        ("a.json", '{"a": Infinity}', "not a number"),
        ("a.json", '[{"video": ["a"], "mos": 1}]', "not named"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.json", '{"a": ' + "1" * 5000 + "}", "not valid JSON"),
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


def test_a_file_beyond_any_table_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(text_table, "MAX_BYTES", 10)
    (tmp_path / "l.csv").write_text("video,mos\na,1\n", encoding="utf-8")
    with pytest.raises(LabelsError, match="larger than any table"):
        read_labels(tmp_path / "l.csv")


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
