"""Rows of a run: means and accuracies between two rows, and no row twice after a restart."""

import json

import pytest

from vqa_jax.training import metric_log


def _rows(workdir) -> list[dict]:
    with open(workdir / "metrics.jsonl", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def _step(loss, **right_of):
    """Values of one step; `right_of`: source of the label -> (right, pairs)."""
    counts = {f"train/right/{k}": right for k, (right, _) in right_of.items()}
    counts |= {f"train/pairs/{k}": pairs for k, (_, pairs) in right_of.items()}
    return {"train/loss": loss, **counts}


def test_a_row_is_the_mean_of_its_steps_and_accuracies_are_over_their_pairs(tmp_path):
    log = metric_log.MetricLog(str(tmp_path), 0)
    log.add(_step(1.0, simulator=(3, 4), teachers=(0, 0)))
    log.add(_step(4.0, simulator=(0, 1), teachers=(0, 0)))
    row = log.write(2, {"perf/x": 7.0})
    log.close()
    assert row == {"train/loss": 2.5, "train/level_acc/simulator": 0.6, "perf/x": 7.0}
    assert _rows(tmp_path) == [{"step": 2, **row}]


def test_steps_after_the_restored_one_are_forgotten(tmp_path):
    log = metric_log.MetricLog(str(tmp_path), 0)
    for step in (2, 4, 6):
        log.add(_step(float(step)))
        log.write(step, {})
    log.close()
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as f:
        f.write('{"step": 3')  # killed while it wrote
    reader = metric_log.MetricLog(str(tmp_path), 4, write=False)  # another process of the run
    reader.add(_step(9.0))
    assert (
        reader.write(5, {}) == {"train/loss": 9.0}
        and len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4
    )
    log = metric_log.MetricLog(str(tmp_path), 4)
    log.add(_step(5.0))
    log.write(6, {})
    log.close()
    assert [(r["step"], r["train/loss"]) for r in _rows(tmp_path)] == [(2, 2.0), (4, 4.0), (6, 5.0)]


def test_rates_are_those_of_the_time_between_two_rows(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(metric_log.time, "monotonic", lambda: now[0])
    speed = metric_log.Speed(peak=50.0)
    for _ in range(2):
        speed.waited(1.0)
        speed.step(_step(0.0, simulator=(1, 3), images=(0, 5)), tokens=100, flops=40.0)
    now[0] += 4.0
    assert speed.row() == {
        "perf/pairs_per_sec": 4.0,
        "perf/tokens_per_sec": 50.0,
        "perf/input_wait_frac": 0.5,
        "perf/mfu": pytest.approx(80.0 / 4.0 / 50.0),
    }
    now[0] += 2.0
    assert set(speed.row().values()) == {0.0}


def test_a_full_disk_is_told_once_with_the_file(tmp_path, monkeypatch):
    log = metric_log.MetricLog(str(tmp_path), 0)

    def full(event):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log._board, "write_event", full)
    monkeypatch.setattr(log._board, "close", lambda: full(None))
    log.add(_step(1.0))
    with pytest.raises(OSError, match="No space left") as error:
        log.write(1, {})
    assert error.value.filename == str(tmp_path / "metrics.jsonl")
    log.close()


def test_tensorboard_reads_what_was_written(tmp_path):
    """By its own format: records of length, checksum, event, checksum."""
    log = metric_log.MetricLog(str(tmp_path), 3)
    log.add(_step(0.5))
    log.write(4, {})
    log.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    data, events = path.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        events.append(metric_log.Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    assert "tfevents" in path.name
    assert (events[-2].step, events[-2].session_log.status) == (3, metric_log.SessionLog.START)
    (value,) = events[-1].summary.value
    assert (events[-1].step, value.tag, value.simple_value) == (4, "train/loss", 0.5)
