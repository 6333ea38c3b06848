"""Import of score files, lookup by video, and the teachers' common scale."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from vqa_jax.benchmarks import score_tables

WIDE = "\ufeffpath, DOVER,qalign,error\na/x 1.mp4,0.5,3,\nb/ü.mp4,,4,\nc.mp4, 0.7 ,nan,failed\n"
LONG = """Video,teacher,score
a/x 1.mp4,DOVER,0.5\na/x 1.mp4,qalign,3\n\nb/ü.mp4,qalign,4\nc.mp4,DOVER,0.7\nc.mp4,qalign,
"""
ROWS = [
    {"path": "a/x 1.mp4", "DOVER": 0.5, "qalign": 3},
    {"path": "b/ü.mp4", "DOVER": None, "qalign": 4, "error": "too dark"},
    {"path": "c.mp4", "DOVER": 0.7},
]


def _write(tmp_path, text, name="scores.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def _parquet(tmp_path, rows, name="scores.parquet"):
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    return tmp_path / name


def _as_dict(table):
    return {
        teacher: {
            video: score
            for video, score in zip(table.videos, table.scores[:, k], strict=True)
            if np.isfinite(score)
        }
        for k, teacher in enumerate(table.teachers)
    }


@pytest.mark.parametrize("form", ["wide", "long", "parquet", "jsonl", "two"])
def test_all_forms_agree_and_missing_scores_are_counted(tmp_path, form):
    if form == "parquet":
        paths = _parquet(tmp_path, ROWS)
    elif form == "jsonl":
        paths = _write(tmp_path, "".join(json.dumps(r) + "\n" for r in ROWS), "scores.jsonl")
    elif form == "two":  # a teacher's scores in two files of different kinds
        first = _write(tmp_path, "video,model,score\nc.mp4,DOVER,0.7\n")
        paths = [first, _parquet(tmp_path, ROWS[:2])]
    else:
        paths = _write(tmp_path, {"wide": WIDE, "long": LONG}[form])
    table = score_tables.read_scores(paths, ["qalign"])
    assert _as_dict(table) == {
        "DOVER": {"a/x 1.mp4": 0.5, "c.mp4": 0.7},
        "qalign": {"a/x 1.mp4": 3.0, "b/ü.mp4": 4.0},
    }
    assert table.higher_is_better == (True, False)
    scores, missing = score_tables.collect_scores(table, ["/data/x 1.mp4", "ü", "c.mp4", "c.mp5"])
    # A name with another ending is the same video when the stem is unique.
    np.testing.assert_array_equal(scores, [[0.5, 3], [np.nan, 4], [0.7, np.nan], [0.7, np.nan]])
    assert missing == {"DOVER": 1, "qalign": 2}


def test_columns_of_people_and_bookkeeping_are_no_teachers(tmp_path):
    header = "id,video,gt_score,MOS,std,flickr_id,num_ratings,Unnamed: 0,is_test,DOVER\n"
    table = score_tables.read_scores(_write(tmp_path, header + "1,a,2,3,4,5,6,7,1,8\n"))
    assert _as_dict(table) == {"DOVER": {"a": 8.0}}
    parquet_rows = [{"video": "a", "DOVER": 8.0, "extrapolated": True}]
    assert score_tables.read_scores(_parquet(tmp_path, parquet_rows)).teachers == ("DOVER",)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_any_delimiter(tmp_path, delimiter):
    text = "path,mos,t\na.mp4,3.5,1\n'=b.mp4,,2\n".replace(",", delimiter)
    path = _write(tmp_path, text)
    assert _as_dict(score_tables.read_scores(path)) == {"t": {"a.mp4": 1.0, "=b.mp4": 2.0}}
    assert score_tables.read_human_scores(path) == {"a.mp4": 3.5}
    assert score_tables.read_paths(path) == ["a.mp4", "=b.mp4"]


def test_human_scores_that_contradict_are_refused(tmp_path):
    path = _write(tmp_path, "path,mos\na,1\nb,\nb,2\na,1\nb,3\n")
    with pytest.raises(score_tables.ScoresError, match="row 6: 'b' has the score 3, in row 4 it"):
        score_tables.read_human_scores(path)
    assert score_tables.read_human_scores(_write(tmp_path, "path,t\na,1\n")) == {}


def test_ambiguous_file_names_are_missing_and_not_guessed(tmp_path):
    table = score_tables.read_scores(_write(tmp_path, "path,t,u\na/1.mp4,1,\nb/1.mp4,2,5\n"))
    scores, missing = score_tables.collect_scores(table, ["b/1.mp4", "z/1.mp4"])
    # u has scored only one video of that name.
    np.testing.assert_array_equal(scores, [[2, 5], [np.nan, 5]])
    assert missing == {"t": 1, "u": 0}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("clip,t\na,1\n", "names the video"),
        ("path,t\na,1\nb,2\na,1\n", r"row 4 .*repeats .*row 2"),
        ("path,t\na,1\na,2\n", r"row 3 \('t' on 'a': 2\) conflicts with .*row 2 \(1\)"),
        ("path,t\na,1\nb,good\n", "row 3"),
        ("path,t\na,1\nb,-inf\n", "row 3, column 't': '-inf'"),
        ("path,t\na,\n", "no scores"),
        ("path,t\n,1\n", "row 2: the video is not named"),
        ("path,teacher,score\na,,1\n", "row 2: the teacher is not named"),
        ("path,t\na,1,7\n", "cannot be read as CSV.*Row #2: Expected 2 columns, got 3"),
        ("path,t\na,3_5\nb,1\n", "row 2, column 't': '3_5'"),
        ("path;t\na;3,5\nb;1\n", "row 2, column 't': '3,5'"),
        ("path,path,t\na,b,1\n", "two columns are called 'path'"),
        ("", "names the video"),
    ],
)
def test_bad_tables_are_refused_with_place(tmp_path, text, match):
    with pytest.raises(score_tables.ScoresError, match=match):
        score_tables.read_scores(_write(tmp_path, text))


def test_bad_files_and_directions_are_refused(tmp_path):
    for name in ("none.csv", "none.parquet", "none.jsonl"):
        with pytest.raises(score_tables.ScoresError, match=f"{name}: cannot be read"):
            score_tables.read_scores(tmp_path / name)
    for name in ("text.parquet", "text.jsonl"):
        with pytest.raises(score_tables.ScoresError, match=f"{name}: cannot be read"):
            score_tables.read_scores(_write(tmp_path, "path,t", name))
    good = _write(tmp_path, WIDE)
    with pytest.raises(score_tables.ScoresError, match=r"lower_is_better names \['NIQE'\]"):
        score_tables.read_scores(good, ["NIQE"])
    again = _parquet(tmp_path, [{"video": "c.mp4", "DOVER": 0.8}])
    with pytest.raises(score_tables.ScoresError, match=r"scores.parquet row 1 .*scores.csv row 4"):
        score_tables.read_scores([good, again])
