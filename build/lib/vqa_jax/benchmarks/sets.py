"""The ten test sets of method 9: names, sizes, how their videos are called, who said what.

A video has several names in circulation: below other folders, with another ending, in capitals,
with what a download script appended. `match` finds them by rules, one file for one label, and
leaves open what it cannot decide.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

from vqa_jax.errors import VqaError
from vqa_jax.media.container import VIDEO_EXTENSIONS

_ENDINGS = (*VIDEO_EXTENSIONS, ".yuv", ".y4m")
GROUPS = {"in": "in-domain", "ood": "out of domain", "other": "other"}
"""method 9 averages the first two groups, each weighted by numbers of videos."""


class BenchmarkError(VqaError):
    """A benchmark that is not known or cannot be evaluated; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One labelled test set.

    Attributes:
      name: as printed.
      group: key of GROUPS.
      sizes: numbers of labelled videos in circulation, the published rows' first; () for any.
      parts: last parts of a path that name a video: 2 where file names repeat between folders.
      strip: pattern (re.sub, on the lower-case name without its ending) of what copies append.
      content: pattern whose group 1, in the same name, says what a video shows, for sets that hold
        several versions or scenes of one content.
      alone: every video shows something else. With neither, names do not tell.
    """

    name: str
    group: str = "other"
    sizes: tuple[int, ...] = ()
    parts: int = 1
    strip: str = ""
    content: str = ""
    alone: bool = False

    @property
    def contents_rule(self) -> str:
        """How names tell what videos show; "" where they do not."""
        if self.alone:
            return "every video shows something else"
        return f"names, by {self.content}" if self.content else ""

    def keys(self, name: str) -> tuple[str, str]:
        """(key of the name with its folders, as far as they count; key of the file name alone)."""
        parts = [
            p for p in name.strip().replace("\\", "/").lower().split("/") if p not in ("", ".")
        ]
        last = parts[-1] if parts else ""
        ending = next((e for e in _ENDINGS if last.endswith(e)), "")
        last = last.removesuffix(ending)
        if self.strip:
            last = re.sub(self.strip, "", last) or last
        return "/".join([*parts[-self.parts : -1], last]), last

    def content_key(self, name: str) -> str:
        """What a video shows, as far as its name tells: equal for versions of one content."""
        key, last = self.keys(name)
        found = re.match(self.content, last) if self.content else None
        return found[1] if found else key


_SETS = (
    # 7,186 in the lists of FAST-VQA and DOVER, which keep four videos that others dropped.
    Benchmark("LSVQ-test", "in", (7182, 7186), parts=2, alone=True),
    Benchmark("LSVQ-1080p", "in", (3573,), parts=2, alone=True),
    # Older downloads are called 10006880303_original_centercrop_960x540_8s.mp4.
    Benchmark("KoNViD-1k", "in", (1200,), strip=r"(?<=\d)(_original_.*|\.0)$", alone=True),
    Benchmark("LIVE-VQC", "in", (585,), alone=True),
    # Several sizes: videos left YouTube. The label table lists bare names, the files' names end
    # in how they were cut (..._crf_10_ss_00_t_20.0.mp4).
    Benchmark(
        "YouTube-UGC", "in", (1020, 1147, 1380), strip=r"_crf_\d+_ss_\d+_t_[\d.]+$", alone=True
    ),
    # <game>-<number>, the games' names being few: clips of one game share its look.
    Benchmark("LIVE-YT-Gaming", "ood", (600,), content=r"(.+)-\d+$"),
    # <game>_<length and rate>_<size>_<rate>_<bit rate>_<encoder>
    Benchmark("CGVDS", "ood", (357,), content=r"([a-z0-9]+)_"),
    Benchmark("LIVE-YT-HFR", "ood", (480,), content=r"(.+?)_crf_"),
    Benchmark("Waterloo-IVC-4K", "ood", (1200,), content=r"[a-z0-9]+_(\d+)_"),
    # Numbers from 0001: several versions of each of its contents, the names do not tell which.
    Benchmark("KVQ", "ood", (2926,)),
)
BENCHMARKS: Mapping[str, Benchmark] = {b.name: b for b in _SETS}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def find(name: str) -> Benchmark | None:
    """The test set of this name, however it is spelled (LSVQ_test, konvid1k); None if none."""
    return next((b for b in _SETS if _plain(b.name) == _plain(name)), None)


def named(name: str) -> Benchmark:
    """As `find`, but an unknown name is a BenchmarkError that lists the known ones."""
    found = find(name)
    if found is None:
        raise BenchmarkError(f"no benchmark is called {name!r}; known are {', '.join(BENCHMARKS)}")
    return found


def known_or_own(name: str) -> Benchmark:
    """As `find`, but an unknown name is a set of one's own, without rules."""
    return find(name) or Benchmark(name)


@dataclasses.dataclass(frozen=True)
class Matches:
    """Which candidate belongs to which wanted name.

    Attributes:
      found: for each wanted name the position of its candidate, or None.
      ambiguous: positions of wanted names for which several candidates were left.
      unused: positions of candidates that nobody wanted.
    """

    found: tuple[int | None, ...]
    ambiguous: tuple[int, ...]
    unused: tuple[int, ...]


def match(benchmark: Benchmark, wanted: Sequence[str], candidates: Sequence[str]) -> Matches:
    """Finds videos under their several names.

    Three rules in turn, each on what the earlier ones left over, and each only where exactly one
    wanted name and one candidate are alike: the path as written; the set's key with folders; the
    file name alone. Endings and capitals do not count after the first rule.

    Args:
      benchmark: the set, for its rules.
      wanted: names as labelled.
      candidates: names of files, or of videos that were scored.
    """
    found: dict[int, int] = {}
    left, free = list(range(len(wanted))), list(range(len(candidates)))
    rules: tuple[Callable[[str], str], ...] = (
        lambda name: name.replace("\\", "/").removeprefix("./"),
        lambda name: benchmark.keys(name)[0],
        lambda name: benchmark.keys(name)[1],
    )
    several: list[int] = []
    for rule in rules:
        asked, offered = collections.defaultdict(list), collections.defaultdict(list)
        for k in left:
            asked[rule(wanted[k])].append(k)
        for k in free:
            offered[rule(candidates[k])].append(k)
        several = []
        for key, rows in asked.items():
            if len(rows) == 1 and len(offered.get(key, ())) == 1:
                found[rows[0]] = offered[key][0]
            elif key in offered:
                several += rows
        taken = set(found.values())
        left = [k for k in left if k not in found]
        free = [k for k in free if k not in taken]
    return Matches(tuple(map(found.get, range(len(wanted)))), tuple(sorted(several)), tuple(free))
