"""What the report takes from a run's rows: curves of severity, confident mistakes."""

from vqa_jax.report import run_data


def test_a_pair_in_both_orders_counts_once_and_a_simulator_has_a_quota():
    def row(first, second, simulator, preference, correct="0"):
        ids = {"pair_id": f"{first}{second}", "first_id": first, "second_id": second}
        return {**ids, "simulator": simulator, "preference": preference, "correct": correct}

    rows = [
        row("a", "b", "blur", "0.6"),
        row("c", "d", "blur", "0.01"),
        row("d", "c", "blur", "0.98"),
        row("e", "f", "blur", "0.9"),
        row("g", "h", "h264", "0.7"),
        row("i", "j", "h264", "1.0", correct="1"),
        row("k", "l", "h264", "nan"),
    ]
    chosen = run_data.confidently_wrong(rows, count=9, per_simulator=2)
    assert [r["pair_id"] for r in chosen] == ["cd", "ef", "gh"]
    assert chosen == run_data.confidently_wrong(rows[::-1], count=9, per_simulator=2)
    assert [r["pair_id"] for r in run_data.confidently_wrong(rows, 1, 9)] == ["cd"]


def test_severity_curves_share_the_source_among_its_simulators():
    rows = [
        {"source_id": "a", "segment": "0", "simulator": "source", "level": "0", "score": "9"},
        {"source_id": "b", "segment": "0", "simulator": "source", "level": "0", "score": "1"},
        {"source_id": "a", "segment": "0", "simulator": "blur", "level": "2", "score": "4"},
        {"source_id": "a", "segment": "0", "simulator": "blur", "level": "1", "score": "6"},
        {"source_id": "b", "segment": "0", "simulator": "h264", "level": "1", "score": "nan"},
        {"source_id": "b", "segment": "0", "simulator": "h264", "level": "3", "score": "0"},
    ]
    curves = {
        s: {k: v.tolist() for k, v in c.items()} for s, c in run_data.severity_curves(rows).items()
    }
    assert curves == {"blur": {0: [9], 1: [6], 2: [4]}, "h264": {0: [1], 3: [0]}}
