"""The processor's short name: of its kind and abilities, and of nothing else."""

import pathlib
import platform
import re

from vqa_jax.devices.processor import processor

_CPUINFO = """processor : {number}
vendor_id : AuthenticAMD
model name : {model}
cpu MHz : {speed}
flags : {flags}
"""


def _name(monkeypatch, number=0, model="EPYC", speed=2400.0, flags="sse4_2 avx2") -> str:
    text = _CPUINFO.format(number=number, model=model, speed=speed, flags=flags)
    monkeypatch.setattr(pathlib.Path, "read_text", lambda *_, **__: text)
    return processor()


def test_kind_and_abilities_make_the_name_and_speed_does_not(monkeypatch):
    name = _name(monkeypatch)
    assert re.fullmatch("[0-9a-f]{12}", name)
    assert name == _name(monkeypatch, number=7, speed=3100.0)
    assert name != _name(monkeypatch, model="Xeon")
    assert name != _name(monkeypatch, flags="sse4_2")


def test_systems_without_proc_are_told_apart_by_their_own_words(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(pathlib.Path, "read_text", missing)
    name = processor()
    monkeypatch.setattr(platform, "machine", lambda: "another")
    assert name != processor()
