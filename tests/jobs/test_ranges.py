"""Ranges that processes share: each is made once, and what is there is not made again."""

import pytest

from vqa_jax.jobs import files, ranges


def test_shares_cover_every_range_once_and_a_rerun_none(tmp_path):
    paths = [str(tmp_path / f"{k}") for k in range(7)]
    made = []

    def make(k, bar):
        made.append(k)
        bar.update(3)
        with open(paths[k], "w", encoding="utf-8"):
            pass

    left = [ranges.compute([3] * 7, paths, make, ranges.Share(k, 3), "test") for k in range(3)]
    assert sorted(made) == list(range(7)) and left == [4, 2, 0]
    assert ranges.compute([3] * 7, paths, make, ranges.Share(), "test") == 0
    assert len(made) == 7


def test_waiting_ends_with_the_files_or_with_the_job(tmp_path):
    (tmp_path / "a").touch()
    assert ranges.wait_for([str(tmp_path / "a")], lambda: False)
    over = iter([False, False, True])
    assert not ranges.wait_for([str(tmp_path / "b")], lambda: next(over))


def test_a_share_that_does_not_exist_is_refused():
    with pytest.raises(files.CorpusError, match="process 2 of 2: number the processes 0 to 1"):
        ranges.Share(2, 2)


def test_one_process_publishes_at_a_time(tmp_path):
    folder = str(tmp_path / "out")
    with (
        ranges.alone_in(folder),
        pytest.raises(files.CorpusError, match="in use"),
        files.exclusive(folder),
    ):
        pass


def test_a_range_whose_bytes_changed_is_not_whole(tmp_path):
    first, last = (str(tmp_path / name) for name in ("a.pairs", "a.videos"))
    for path in (first, last):
        assert not ranges.is_whole(last)
        with open(path, "w") as file:
            file.write("rows")
    assert not ranges.is_whole(last)
    ranges.mark(first, last)
    assert ranges.is_whole(last)
    ranges.check([last])
    for damaged in (first, last, ranges.mark_of(last)):
        with open(damaged) as file:
            whole = file.read()
        with open(damaged, "w") as file:
            file.write(whole.replace("rows", "rowz").replace('"bytes": 4', '"bytes": 5'))
        assert not ranges.is_whole(last)
        with pytest.raises(files.CorpusError, match=r"a\.videos is damaged"):
            ranges.check([last])
        with open(damaged, "w") as file:
            file.write(whole)
