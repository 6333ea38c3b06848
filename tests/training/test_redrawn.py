"""Steps that take another batch: one more for every time that theirs was not finite."""

from vqa_jax.training import redrawn


def test_every_step_that_failed_takes_a_batch_that_no_other_step_takes(tmp_path):
    folder = str(tmp_path)
    assert redrawn.instead(folder, 100) == []
    for step in (5, 9, 5):
        redrawn.add(folder, step)
    assert dict(redrawn.instead(folder, 100)) == {4: 102, 8: 101}
