"""MATLAB files within bounds."""

import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from vqa_jax.benchmarks import matlab

CONTENT = {
    "names": np.array([["a.mp4"], ["b.mp4"]], object),
    "mos": np.array([[1.5], [2.0]]),
    "letters": np.array(["ab", "cd"]),
}


def _saved(content, **options) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, content, **options)
    return file.getvalue()


@pytest.mark.parametrize("packed", [True, False])
def test_lists_are_read(packed):
    found = matlab.read(_saved(CONTENT, do_compression=packed))
    assert matlab.texts(found["names"]) == ["a.mp4", "b.mp4"]
    assert matlab.texts(found["letters"]) == ["ab", "cd"]
    assert matlab.numbers(found["mos"]) == [1.5, 2.0]


def test_version_4():
    found = matlab.read(_saved({"mos": CONTENT["mos"]}, format="4"))
    assert matlab.numbers(found["mos"]) == [1.5, 2.0]


def test_a_file_that_unpacks_to_more_than_the_limit_is_refused():
    data = _saved({"mos": np.zeros((1, 5_000_000))}, do_compression=True)
    assert len(data) < 100_000
    with pytest.raises(matlab.MatlabError, match="more than 32 MiB"):
        matlab.read(data)


@pytest.mark.parametrize("depth", [0, 1])
def test_an_array_larger_than_its_bytes_is_refused_before_it_is_made(depth):
    cells = np.empty((1, 1), object)
    cells[0, 0] = np.empty((1, 1), object)
    cells[0, 0][0, 0] = "a.mp4"
    data = _saved({"names": cells if depth else cells[0, 0]}, do_compression=False)
    sizes, place = struct.pack("<ii", 1, 1), -1
    for _ in range(depth + 1):
        place = data.index(sizes, place + 1)
    data = data[:place] + struct.pack("<ii", 1 << 30, 1) + data[place + 8 :]
    with pytest.raises(matlab.MatlabError, match=r"an array of .*1073741824"):
        matlab.read(data)


def test_a_cell_of_several_values_is_not_cut():
    with pytest.raises(matlab.MatlabError, match="a cell of 2 values"):
        matlab.numbers(np.array([[np.array([1.0, 2.0])], [np.array([3.0])]], object)[:, 0:1])


@pytest.mark.parametrize("cut", range(0, 400, 40))
def test_damage_is_one_kind_of_error(cut):
    data = _saved(CONTENT, do_compression=False)
    with pytest.raises(matlab.MatlabError):
        matlab.read(data[: cut + 4])
    packed = data[:128] + struct.pack("<II", 15, 20) + zlib.compress(b"no matrix" * cut)[:20]
    with pytest.raises(matlab.MatlabError):
        matlab.texts(matlab.read(packed)["names"]) if cut else matlab.read(packed[:-1])
