"""Exact and near copies: which are found, which must not be, and which file is kept."""

import dataclasses
import itertools
import os
import shutil

import cv2
import numpy as np
import pytest

from data_prep.inputs import deduplicate
from data_prep.inputs.deduplicate import NUM_HASHES, Duplicate, Fingerprint, find_duplicates
from tests.fixtures import broken_files
from vqa_jax.media.probe import probe


def _film(seed, num_frames=20, height=96, width=128):
    """Frames of soft random shapes that drift; another seed is another film."""
    rng = np.random.default_rng(seed)
    plane = cv2.resize(rng.uniform(0, 255, (6, 12, 3)), (2 * width, height))
    return np.stack([plane[:, 2 * t : 2 * t + width] for t in range(num_frames)]).astype(np.uint8)


def _fingerprint(path):
    return deduplicate.fingerprint(path, probe(path))


def _random_hashes(rng, count):
    """[count, NUM_HASHES] hashes with 31 of 63 bits, as `frame_hash` makes them."""
    ones = rng.random((count, NUM_HASHES, 63)).argpartition(31, -1)[..., :31]
    return (np.uint64(1) << ones.astype(np.uint64)).sum(-1, dtype=np.uint64)


def _swap_bits(rng, value, pairs):
    """The hash with `pairs` ones cleared and as many zeros set: distance 2 * pairs."""
    bits = [int(value) >> b & 1 for b in range(63)]
    for wanted in (0, 1):
        for b in rng.choice(np.flatnonzero(np.array(bits) == wanted), pairs, replace=False):
            value ^= np.uint64(1) << np.uint64(b)
    return value


def _row(hashes, size=1, digest="", pixels=1):
    return Fingerprint(size, digest, pixels, tuple(int(h) for h in hashes))


def _distinct(rows):
    """Rows by key, none an exact copy of another."""
    return {k: dataclasses.replace(row, digest=k) for k, row in rows.items()}


# --- files ------------------------------------------------------------------------------------


def test_copies_of_files_are_found_and_other_films_are_not(tmp_path):
    film = _film(1)
    small = np.stack([cv2.resize(f, (64, 48), interpolation=cv2.INTER_AREA) for f in film])
    broken_files.encode(tmp_path / "film.mp4", film)
    shutil.copy(tmp_path / "film.mp4", tmp_path / "same.mp4")
    broken_files.encode(tmp_path / "small.mkv", small)
    broken_files.encode(tmp_path / "mpeg4.avi", film, codec="mpeg4")
    for seed in range(2, 6):
        broken_files.encode(tmp_path / f"other{seed}.mp4", _film(seed))
    rows = {path.name: _fingerprint(path) for path in tmp_path.iterdir()}
    found = {row.key: row for row in find_duplicates(rows)}
    largest = max(("film.mp4", "mpeg4.avi"), key=lambda name: rows[name].size)
    copies = {"film.mp4", "same.mp4", "small.mkv", "mpeg4.avi"}
    assert found.keys() == copies - {largest}
    assert {row.of for row in found.values()} == {largest}


def test_one_changed_byte_is_no_exact_copy(tmp_path):
    path = broken_files.encode(tmp_path / "a.mp4", _film(1))
    before = _fingerprint(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert _fingerprint(path).digest != before.digest


def test_stills_and_flat_films(tmp_path):
    one = broken_files.encode(tmp_path / "one.mp4", _film(3, num_frames=1))
    assert len(set(_fingerprint(one).hashes)) == 1 and 0 not in _fingerprint(one).hashes
    black = np.zeros((8, 48, 64, 3), np.uint8)
    rows = {}
    for name, frames in (("black.mp4", black), ("grey.mp4", black + 128)):
        rows[name] = _fingerprint(broken_files.encode(tmp_path / name, frames))
        assert rows[name].hashes == (0,) * NUM_HASHES
    assert find_duplicates(rows) == []


def test_a_file_cut_off_is_a_copy_of_the_whole_one(tmp_path):
    path = tmp_path / "whole.mkv"
    broken_files.encode(path, _film(4, num_frames=64))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(path.read_bytes()[: os.path.getsize(path) * 7 // 10])
    info = probe(path)  # as if the header had promised all frames
    rows = {"whole": _fingerprint(path), "cut": deduplicate.fingerprint(cut, info)}
    assert 0 in rows["cut"].hashes
    assert [(d.key, d.of) for d in find_duplicates(rows)] == [("cut", "whole")]


def test_without_near_no_frame_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(deduplicate, "iter_frames", None)
    path = broken_files.encode(tmp_path / "a.mp4")
    assert deduplicate.fingerprint(path, probe(path), near=False).hashes == ()


@pytest.mark.slow
def test_real_clips_are_no_copies_of_each_other(shared):
    rows = {path.name: _fingerprint(path) for path in sorted((shared / "clips").glob("*.mp4"))}
    assert len(rows) == 8 and find_duplicates(rows) == []


# --- the hash ---------------------------------------------------------------------------------


def test_hash_has_31_of_63_bits_and_forgets_size_and_brightness():
    for seed in range(5):
        frame = _film(seed, num_frames=1)[0]
        value = deduplicate.frame_hash(frame)
        assert value.bit_count() == 31 and value < 1 << 63
        large = cv2.resize(frame, (640, 480), interpolation=cv2.INTER_CUBIC)
        for same in (large, frame // 2 + 20):
            assert (deduplicate.frame_hash(same) ^ value).bit_count() <= 6
        assert (deduplicate.frame_hash(frame[:, ::-1].copy()) ^ value).bit_count() > 10


def test_hash_follows_its_definition():
    """Against the DCT written out as a sum of cosines."""
    frame = _film(7, 1, 32, 32)[0]
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float64)
    x = (2 * np.arange(32) + 1) * np.pi / 64
    scale = np.where(np.arange(8) == 0, np.sqrt(1 / 32), np.sqrt(2 / 32))
    basis = scale[:, None] * np.cos(np.arange(8)[:, None] * x)
    low = (basis @ luma @ basis.T).ravel()[1:]
    expected = sum(1 << i for i in range(63) if low[i] > np.median(low))
    assert deduplicate.frame_hash(frame) == expected


# --- the search -------------------------------------------------------------------------------


def test_banded_search_finds_what_comparing_all_pairs_finds():
    rng = np.random.default_rng(0)
    hashes = _random_hashes(rng, 120)
    copies = hashes[rng.integers(0, 120, 80)].copy()
    for row in copies:
        for k in range(NUM_HASHES):
            row[k] = _swap_bits(rng, row[k], rng.integers(0, 4))
    hashes = np.concatenate([hashes, copies])
    hashes[rng.random(hashes.shape) < 0.1] = 0
    expected = {}
    for i, j in itertools.combinations(range(len(hashes)), 2):
        distance = deduplicate.distances(hashes[i : i + 1], hashes[j : j + 1])[0]
        if distance <= deduplicate.NEAR_DISTANCE:
            expected[i, j] = distance
    first, second, distance = deduplicate.near_pairs(hashes)
    found = dict(zip(zip(first.tolist(), second.tolist(), strict=True), distance, strict=True))
    assert len(expected) > 20 and found == expected


def test_distance_counts_evident_frames_without_the_worst():
    rng = np.random.default_rng(1)
    one = _random_hashes(rng, 1)[0]

    def distance(*pairs, hidden=()):
        other = np.array([_swap_bits(rng, h, p) for h, p in zip(one, pairs, strict=True)])
        other[list(hidden)] = 0
        return deduplicate.distances(one[None], other[None])[0]

    assert distance(0, 0, 0, 0) == 0
    assert distance(1, 1, 1, 14) == 2  # a scene change
    assert distance(1, 2, 3, 3) == 4
    assert distance(1, 9, 1, 9, hidden=[1]) == 2
    assert distance(1, 9, 3, 9, hidden=[1, 3]) == 4
    assert distance(0, 0, 0, 0, hidden=[0, 1, 2]) == np.inf


def test_the_larger_copy_is_kept_whatever_the_order():
    rng = np.random.default_rng(2)
    (same,) = _random_hashes(rng, 1)
    rows = _distinct({
        "a": _row(same, pixels=10, size=9),
        "b": _row(same, pixels=20, size=1),
        "c": _row(same, pixels=20, size=2),
        "d": _row(_random_hashes(rng, 1)[0], pixels=99),
    })  # fmt: skip
    expected = [Duplicate("a", "c", "near", 0.0), Duplicate("b", "c", "near", 0.0)]
    for order in itertools.permutations(rows):
        assert find_duplicates({key: rows[key] for key in order}) == expected


def test_a_copy_of_a_copy_stays_if_it_is_no_copy_itself():
    rng = np.random.default_rng(3)
    (a,) = _random_hashes(rng, 1)
    b = np.array([_swap_bits(rng, h, 1) for h in a])
    while True:
        c = np.array([_swap_bits(rng, h, 1) for h in b])
        if deduplicate.distances(a[None], c[None])[0] > deduplicate.NEAR_DISTANCE:
            break
    rows = _distinct({"a": _row(a, pixels=3), "b": _row(b, pixels=2), "c": _row(c, pixels=1)})
    assert [(d.key, d.of, d.distance) for d in find_duplicates(rows)] == [("b", "a", 2.0)]


def test_exact_copies_of_a_near_copy_name_the_file_that_is_kept():
    rng = np.random.default_rng(4)
    (same,) = _random_hashes(rng, 1)
    rows = {
        "big": _row(same, digest="x", pixels=9),
        "one": _row(same, digest="y"),
        "two": _row(same, digest="y"),
    }
    found = [(d.key, d.of, d.kind) for d in find_duplicates(rows)]
    assert found == [("one", "big", "near"), ("two", "big", "near")]


def test_exact_copies_are_found_without_hashes_and_for_flat_films():
    rows = {name: _row((), digest="x") for name in "cab"} | {"d": _row((), digest="x", size=2)}
    rows |= {name: _row([0] * NUM_HASHES, digest="black") for name in "ef"}
    found = [(d.key, d.of, d.kind, d.distance) for d in find_duplicates(rows)]
    assert found == [(k, of, "exact", 0.0) for k, of in (("b", "a"), ("c", "a"), ("f", "e"))]


def test_hundreds_of_copies_of_one_film_leave_one(monkeypatch):
    """More than a bucket's reach: the search repeats until nothing is left to find."""
    monkeypatch.setattr(deduplicate, "_REACH", 4)
    rng = np.random.default_rng(5)
    (film,) = _random_hashes(rng, 1)
    rows = _distinct({
        f"{i:03d}": _row([_swap_bits(rng, h, 1) if rng.random() < 0.5 else h for h in film])
        for i in range(300)
    })  # fmt: skip
    kept = rows.keys() - {d.key for d in find_duplicates(rows)}
    hashes = np.array([rows[key].hashes for key in sorted(kept)], np.uint64)
    for i, j in itertools.combinations(range(len(hashes)), 2):
        assert deduplicate.distances(hashes[i][None], hashes[j][None])[0] > 3.5
    assert len(kept) < 10


def test_nothing_to_compare():
    assert find_duplicates({}) == []
