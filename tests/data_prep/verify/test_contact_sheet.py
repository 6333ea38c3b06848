"""The sample of the contact sheet: the same whatever the order."""

from data_prep.verify import contact_sheet
from vqa_jax.jobs import files


def test_the_sample_is_of_the_smallest_hashes_whatever_the_order():
    keys = [f"k{k}" for k in range(200)]
    wanted = sorted(sorted(keys, key=files.key_hash)[:7])
    for order in (keys, keys[::-1]):
        sample = contact_sheet.Sample(7)
        for key in order:
            sample.offer(key, key)
        assert sample.values() == wanted and sample.seen == 200
