"""What each step of a stage will cost: amounts times what a unit of work was measured to cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from data_prep.costs import amounts as counts
from data_prep.costs import measured
from data_prep.costs.amounts import HELDOUT, TRAIN, Amounts
from data_prep.prepare.config import PairConfig, PrepConfig, Wanted
from data_prep.prepare.segments import SOURCE
from data_prep.simulators import KINDS, SIMULATORS, Clip
from vqa_jax.media import view
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.pairs.table import TOTAL
from vqa_jax.settings import RelabelConfig, TrainConfig
from vqa_jax.teachers import looks

_LIGHT = "light_"  # what the names of light teachers begin with
_CANDIDATES = 30  # that `anchors` chooses from: every two of them are compared


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one step; None where nobody has measured it.

    Attributes:
      step: its name in the scripts of `launch/`.
      amount: what it has to do with, in words.
      core_seconds: CPU seconds.
      num_bytes: written and kept.
      device_seconds: of an accelerator.
    """

    step: str
    amount: str
    core_seconds: float | None = 0.0
    num_bytes: float | None = 0.0
    device_seconds: float | None = 0.0


@dataclasses.dataclass(frozen=True)
class Run:
    """A run whose steps are reckoned.

    Attributes:
      student: preset.
      prep, pairs, relabel, train: settings of the stages.
      amounts: of its corpus.
      sample: files of the kind that it is made of.
      listed: videos that its inputs are selected from; 0 where they are not.
      teachers: names of those that score it.
    """

    student: str
    prep: PrepConfig
    pairs: PairConfig
    relabel: RelabelConfig
    train: TrainConfig
    amounts: Amounts
    sample: Sequence[Clip]
    listed: int = 0
    teachers: Sequence[str] = ()

    @property
    def networks(self) -> measured.Student:
        """What its student was measured to take."""
        return measured.STUDENTS.get(self.student, measured.Student())

    @property
    def segments(self) -> list[Clip]:
        """The sample's segments, one a file."""
        return [counts.segment(clip, self.prep) for clip in self.sample]

    def input_size(self) -> tuple[float, float]:
        """Pictures and motion clips of a record, on average."""
        pre = self.prep.preprocess
        found = [view.input_size(clip.num_frames, clip.fps, pre) for clip in self.segments]
        pictures, clips = (sum(column) / len(found) for column in zip(*found, strict=True))
        return pictures, clips


def of_stage(run: Run, stage: int) -> list[Cost]:
    """Costs of the steps of `launch/stage.sh`, in their order.

    Args:
      run: what is asked about.
      stage: 1, 2, ...
    """
    if stage == 1:
        prepared = [*_selection(run), *_corpus(run), *_teachers(run)]
        return [*prepared, *_labels(run, prepared), *_student(run, stage)]
    return [_relabel(run, stage), *_student(run, stage)]


# --- a corpus -------------------------------------------------------------------------------------


def _selection(run: Run) -> list[Cost]:
    if not run.listed:
        return []

    def seconds(clip: Clip) -> float:
        looked_at = clip.num_frames / clip.fps * clip.width * clip.height / 1e6
        return measured.PROBE * counts.megapixels(clip) + measured.METRICS * looked_at

    what, n = f"{run.listed:,} videos", run.listed
    return [
        Cost("metrics", what, n * counts.mean(seconds, run.sample), n * measured.METRICS_ROW),
        Cost("select", what, n * measured.SELECT, run.amounts.inputs * measured.LISTING_ROW),
    ]


def _corpus(run: Run) -> list[Cost]:
    """build, motion and, behind a frozen tower, tokens."""
    student, pre = run.networks, run.prep.preprocess
    probed = run.amounts.inputs * measured.PROBE * counts.mean(counts.megapixels, run.sample)
    made = _made(run)
    records = run.amounts.videos()
    told = f"{records:,.0f} records"
    pictures, clips = run.input_size()
    side = pre.tile_size if pre.view == "crops" else pre.image_size

    def shown(clip: Clip) -> float:  # frames of its motion clips, each once
        return min(clip.num_frames, clips * pre.clip_len)

    num_bytes = measured.PICTURES * pictures * side**2 * 3
    num_bytes += measured.CLIPS * counts.mean(shown, run.segments) * pre.motion_size**2 * 3
    files = f"{run.amounts.inputs:,.0f} files, {told}"
    kept = [measured.VIEWS.get(name) for name in looks.needed(run.prep.teacher_views)]
    seconds = written = None
    if None not in kept:
        written = records * (num_bytes + sum(view.num_bytes for view in kept))
        if made is not None:
            seconds = probed + made + records * sum(view.seconds for view in kept)
    costs = [Cost("build", files, seconds, written)]
    moving = records * clips
    if student.motion is None or student.motion_dim is None:
        costs.append(Cost("motion", told, None, None))
    else:
        costs.append(Cost("motion", told, moving * student.motion, moving * student.motion_dim * 4))
    if student.tokens is not None:
        frames = records * pictures
        costs.append(Cost("tokens", told, frames * student.tokens, frames * measured.TOKENS))
    return costs


def _made(run: Run) -> float | None:
    """CPU seconds of all versions; None if those of a simulator were not measured."""
    each = {name: _version(name, run) for (_, name), n in run.amounts.versions.items() if n}
    if None in each.values():
        return None
    a_megapixel = sum(n * each[name] for (_, name), n in run.amounts.versions.items() if n)
    return a_megapixel * counts.mean(counts.megapixels, run.segments)


def _version(name: str, run: Run) -> float | None:
    """CPU seconds of a megapixel of a version; a chain takes what its steps take by themselves."""
    if name == SOURCE:
        return measured.READ
    if SIMULATORS[name].kind == "mixed":
        first, codec = name.split("_")
        parts = _version(measured.CHAINED[first], run), _version(codec, run)
        return None if None in parts else sum(parts)
    share = measured.H265.get(run.prep.h265_preset) if name == "h265" else 1.0
    seconds = measured.VERSION.get(name)
    return None if seconds is None or share is None else seconds * share


def _teachers(run: Run) -> list[Cost]:
    """Scores of the files and, by those whose view is kept, of the records."""
    fit = run.prep.preprocess.view == "fit"
    light = [name for name in run.teachers if fit and name.startswith(_LIGHT)]
    neural = [name for name in run.teachers if name in run.prep.teacher_views]
    others = [name for name in run.teachers if name not in (*light, *neural)]
    costs = []
    for step, names, number, what, clips in (
        ("teachers", others, run.amounts.inputs, "files", run.sample),
        ("votes", [*light, *neural], run.amounts.videos(), "records", run.segments),
    ):
        if not names:
            continue
        seconds = _by_teachers([name for name in names if name not in light], clips)
        if seconds is not None:
            decoded = measured.PROBE * counts.mean(counts.megapixels, clips)
            seconds += decoded if what == "files" else measured.LIGHT * bool(light)
        told = f"{number:,.0f} {what} by {', '.join(names)}"
        scored = None if seconds is None else number * seconds
        costs.append(Cost(step, told, scored, number * measured.SCORES_ROW))
    return costs


def _by_teachers(names: Sequence[str], clips: Sequence[Clip]) -> float | None:
    """CPU seconds of a video by neural teachers, decoding left out."""
    known = [measured.TEACHERS.get(name) for name in names]
    if None in known:
        return None
    length = counts.mean(lambda clip: clip.num_frames / clip.fps, clips)
    return sum(teacher.video + teacher.second * length for teacher in known)


# --- labels ---------------------------------------------------------------------------------------


def _labels(run: Run, prepared: Sequence[Cost]) -> list[Cost]:
    """pairs, and verify, which reads all that was made."""
    pairs = labelled(run.pairs)
    heldout = run.amounts.simulator_pairs(HELDOUT)
    told = f"at most {pairs:,.0f} pairs, {heldout:,.0f} held out"
    written = (pairs + heldout) * measured.PAIR_ROW
    corpus = sum(cost.num_bytes or 0.0 for cost in prepared) + written
    return [
        Cost("pairs", told, (pairs + heldout) * measured.PAIR, written),
        Cost("verify", f"{corpus / 1e9:,.1f} GB", corpus * measured.VERIFY),
    ]


def labelled(pairs: PairConfig) -> float:
    """Training pairs that iteration 1 asks for."""
    asked = pairs.teachers_per_label, pairs.teachers_on_sources
    by_teachers = sum(_total(wanted, len(LEVELS)) for wanted in asked)
    return by_teachers + _total(pairs.simulator_per_label, len(LEVELS) - 1) + pairs.across


def _total(wanted: Wanted, labels: int) -> float:
    """All pairs of a quota, see `PairConfig`."""
    if isinstance(wanted, int):
        return wanted * labels
    if set(wanted) & set(KINDS):
        return sum(_total(number, labels) for number in wanted.values())
    return wanted[TOTAL] if TOTAL in wanted else sum(wanted.values())


def _relabel(run: Run, stage: int) -> Cost:
    segments = run.amounts.segments(TRAIN)
    share = min(1.0, (run.relabel.pool_segments or segments) / segments) if segments else 0.0
    videos = share * run.amounts.videos(TRAIN)
    pairs = share * run.amounts.simulator_pairs(TRAIN) + run.relabel.gmad_quota
    quotas = [pool["pairs"] for pool in run.relabel.misordered_pools]
    new = run.relabel.gmad_quota + (sum(quotas) if quotas else run.relabel.misordered_quota)
    told = f"{videos:,.0f} videos, {pairs:,.0f} pairs looked at; at most {new:,} new"
    return _asked(f"relabel_{stage}", told, run, videos, pairs, new * measured.PAIR_ROW)


# --- a student ------------------------------------------------------------------------------------


def _student(run: Run, stage: int) -> list[Cost]:
    """train, anchors, evaluate."""
    seen = run.train.optim.total_steps * run.train.input.batch_size
    seconds = run.networks.pair and seen * run.networks.pair
    compared = _CANDIDATES * (_CANDIDATES - 1) / 2
    videos, pairs = run.amounts.videos(HELDOUT), run.amounts.simulator_pairs(HELDOUT)
    told = f"{videos:,.0f} videos, {pairs:,.0f} pairs"
    chosen = f"{_CANDIDATES} candidates"
    return [
        _by_network(f"train_{stage}", f"{seen:,} pairs seen", run, seconds, None),
        _asked(f"anchors_{stage}", chosen, run, _CANDIDATES, compared / 2, 0.0),
        _asked(f"evaluate_{stage}", told, run, videos, pairs, videos * measured.SCORES_ROW),
    ]


def _asked(step: str, amount: str, run: Run, videos: float, pairs: float, num_bytes: float) -> Cost:
    """Videos are scored, pairs compared in both orders."""
    student, seconds = run.networks, None
    if student.look is not None and student.compare is not None:
        seconds = videos * student.look + 2 * pairs * student.compare
    return _by_network(step, amount, run, seconds, num_bytes)


def _by_network(
    step: str, amount: str, run: Run, seconds: float | None, num_bytes: float | None
) -> Cost:
    """Seconds of the student's device, or of cores where it has none."""
    if run.networks.device:
        return Cost(step, f"{amount}; {run.networks.device}", 0.0, num_bytes, seconds)
    return Cost(step, amount, seconds, num_bytes)


# --- text -----------------------------------------------------------------------------------------

_HEAD = ("step", "amount", "core-hours", "GB written", "device-hours")
_UNKNOWN = "not measured"


def table(costs: Sequence[Cost]) -> str:
    """A Markdown table of all steps, with their sums."""
    rows = [_HEAD, ("---", "---", "---:", "---:", "---:")]
    rows += [(cost.step, cost.amount, *_told(cost)) for cost in costs]
    columns = ("core_seconds", "num_bytes", "device_seconds")
    sums = [sum(getattr(cost, name) or 0.0 for cost in costs) for name in columns]
    rows.append(("all that was measured", "", *_told(Cost("", "", *sums))))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def line(cost: Cost) -> str:
    """One step in a sentence."""
    parts = [
        f"{text} {unit}".strip() for text, unit in zip(_told(cost), _HEAD[2:], strict=True) if text
    ]
    return f"{cost.step}: about {', '.join(parts) or 'nothing'} ({cost.amount})"


def _told(cost: Cost) -> tuple[str, str, str]:
    hours = (cost.core_seconds, 3600), (cost.num_bytes, 1e9), (cost.device_seconds, 3600)
    return tuple(_number(value, unit) for value, unit in hours)


def _number(value: float | None, unit: float) -> str:
    """Three digits at least; "" for nothing."""
    if value is None:
        return _UNKNOWN
    if value == 0:
        return ""
    found = value / unit
    return f"{found:,.0f}" if found >= 100 else f"{found:.3g}"
