"""Where a run's time went, by hand, over starts that were killed and went on."""

import pytest

from vqa_jax.training import goodput


def _row(began, first, time, step, **spent):
    causes = dict.fromkeys(goodput.CAUSES, 0.0)
    return {"began": began, "first": first, "time": time, "step": step, **causes, **spent}


def test_shares_over_two_starts_by_hand():
    rows = [
        # 10 s until the first step, 2 s of waiting, then 8 s for ten steps, and 16 s for ten more.
        _row(100.0, 0, 120.0, 10, start=10.0, input=2.0),
        _row(100.0, 0, 140.0, 20, start=10.0, input=2.0, save=4.0),
        # It was killed; 60 s later it goes on from step 15: half of the last ten came twice.
        _row(200.0, 15, 220.0, 20, start=5.0, heldout=3.0, compile=2.0),
    ]
    found = goodput.shares(rows)
    seconds = {name: share * 120.0 for name, share in found.items()}
    assert seconds == pytest.approx(
        {
            "steps": 8.0 + 8.0 + 10.0,
            "again": 8.0,
            "stopped": 60.0,
            "start": 15.0,
            "input": 2.0,
            "save": 4.0,
            "heldout": 3.0,
            "compile": 2.0,
        }
    )


def test_what_a_third_start_computed_again_counts_in_both_before_it():
    rows = [
        _row(0.0, 0, 10.0, 10),
        _row(10.0, 10, 20.0, 20),
        _row(20.0, 5, 30.0, 15),  # the newest checkpoints were damaged
    ]
    found = goodput.shares(rows)
    assert found["again"] == pytest.approx((5.0 + 10.0) / 30.0)
    assert found["steps"] == pytest.approx((5.0 + 10.0) / 30.0)


def test_rows_stay_and_a_cut_off_one_is_left_out(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(goodput.time, "time", lambda: now[0])
    monkeypatch.setattr(goodput.time, "monotonic", lambda: now[0])
    first = goodput.Ledger(str(tmp_path), 0, began=990.0)
    first.add("start", 10.0)
    now[0] += 10.0
    assert first.row(5)["perf/goodput"] == pytest.approx(0.5)
    path = tmp_path / goodput.FILE
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"began": 99')
    now[0] += 20.0
    second = goodput.Ledger(str(tmp_path), 5, began=1020.0)
    with second.spending("save"):
        now[0] += 10.0
    assert second.row(10)["perf/goodput"] == pytest.approx(0.4)
    assert second.shares()["stopped"] == pytest.approx(0.2)
    other = goodput.Ledger(str(tmp_path), 5, began=1020.0, write=False)
    other.row(10)
    assert [row["step"] for row in goodput.read(str(path))] == [5, 10]


def test_a_full_disk_names_the_file(tmp_path):
    ledger = goodput.Ledger(str(tmp_path / "gone"), 0, began=0.0)
    with pytest.raises(OSError) as told:
        ledger.row(1)
    assert told.value.filename.endswith(goodput.FILE)
