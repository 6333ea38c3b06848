"""What a compiled program moves: collectives and HBM traffic, read from XLA's text of it.

XLA's own totals count the body of a loop once; here every instruction counts as often as its loop
runs. Bytes are those of one device (the text is one device's program), without tile padding.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)

_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"\b(pred|bf16|token|opaque|[sufc]\d+(?:e\w+)?)\[([\d,<=]*)\](\{[^}]*\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_NAME = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
# Instructions that move nothing themselves.
_FREE = frozenset(
    (
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota"),
        *("while", "conditional", "call", "partition-id", "replica-id", "after-all"),
        *("opt-barrier", "optimization-barrier", "async-start"),
    )
)
_MEGASCALE = '"xla_megascale_runtime"'
_MARKS = frozenset(("AllocateBuffer", "AsyncCollectiveStart", "AsyncCollectiveDone"))


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation; `kind` is the opcode, `type` the text of the result's type."""

    name: str
    type: str
    kind: str
    operands: tuple[str, ...]
    rest: str
    root: bool

    def called(self, role: str) -> str | None:
        """Name of the computation that it calls as `role` ("calls", "body", "condition")."""
        found = re.search(rf"\b{role}=%?([\w.\-]+)", self.rest)
        return found.group(1) if found else None


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of the program.

    Attributes:
      kind: as in COLLECTIVES.
      times: how often a step runs it.
      group: devices that take part together.
      size: bytes of the whole result (of an all-gather) or input (of a reduction), a device.
      sent: bytes that one device sends in one step, all `times` together.
      source: XLA's name of the operation that it comes from.
    """

    kind: str
    times: float
    group: int
    size: int
    sent: float
    source: str


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes of one device in one step: over HBM, by each collective, and to other slices."""

    hbm: float
    collectives: tuple[Collective, ...]
    network: float = 0.0

    @property
    def interconnect(self) -> float:
        """Bytes that a device sends to others in one step."""
        return sum(c.sent for c in self.collectives)

    def by_kind(self) -> dict[str, dict[str, float]]:
        """{kind: {count, gigabytes}} of a step, largest first."""
        rows: dict[str, dict[str, float]] = collections.defaultdict(
            lambda: {"count": 0.0, "gigabytes": 0.0}
        )
        for c in self.collectives:
            rows[c.kind]["count"] += c.times
            rows[c.kind]["gigabytes"] += c.sent / 1e9
        return dict(sorted(rows.items(), key=lambda item: -item[1]["gigabytes"]))


def arrays(text: str) -> list[tuple[int, bool]]:
    """(bytes, whether it lies in HBM) of every array in the text of a type, in order."""
    found = []
    for dtype, dims, layout in _ARRAY.findall(text):
        bits = _BITS[dtype] if dtype in _BITS else int(re.findall(r"\d+", dtype)[0])
        count = math.prod(int(d.strip("<=")) for d in dims.split(",") if d)
        found.append((-(-count * bits // 8), "S(" not in layout))
    return found


def _hbm(text: str) -> int:
    return sum(size for size, here in arrays(text) if here)


def _balanced(text: str, start: int) -> int:
    """Index after the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if not depth:
            return i + 1
    raise ValueError(f"brackets do not close: {text[start : start + 80]}")


def _instruction(line: str) -> Instruction | None:
    text = line.strip()
    root = text.startswith("ROOT ")
    name, equals, right = text.removeprefix("ROOT ").partition(" = ")
    if not equals:
        return None
    end = _balanced(right, 0) if right.startswith("(") else right.index(" ")
    kind, _, _ = right[end + 1 :].partition("(")
    start = end + 1 + len(kind)
    stop = _balanced(right, start)
    operands = tuple(_NAME.findall(right[start:stop]))
    if kind in ("parameter", "constant"):
        operands = (right[start + 1 : stop - 1],)
    return Instruction(name.lstrip("%"), right[:end], kind, operands, right[stop:], root)


class Program:
    """The computations of one compiled module."""

    def __init__(self, text: str):
        """Parses `compiled.as_text()`.

        Raises:
          ValueError: the text has no entry computation.
        """
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] | None = None
        for line in text.splitlines():
            header = _HEADER.match(line)
            if header:
                current = self.computations.setdefault(header.group(2), {})
                self.entry = header.group(2) if header.group(1) else self.entry
            elif line.rstrip() == "}":  # a kernel's notes have lines that begin with one
                current = None
            elif current is not None and (found := _instruction(line)):
                current[found.name] = found
        if not self.entry:
            raise ValueError("no ENTRY computation: not the text of an XLA module")

    def trips(self, loop: Instruction) -> int:
        """Rounds of a `while`: XLA's own note, or the limit its condition compares with."""
        noted = _TRIPS.search(loop.rest)
        if noted:
            return int(noted.group(1))
        limits = []
        for instruction in self.computations[loop.called("condition") or ""].values():
            if instruction.kind == "constant" and re.match(r"[su]32\[\]", instruction.type):
                limits.append(int(instruction.operands[0]))
        return max(limits, default=1)

    def running(self) -> Iterator[tuple[str, Instruction, float]]:
        """Every instruction outside fusions: (its computation, itself, runs in a step)."""
        stack = [(self.entry, 1.0)]
        while stack:
            name, times = stack.pop()
            for instruction in self.computations.get(name, {}).values():
                yield name, instruction, times
                if instruction.kind == "while":
                    rounds = times * self.trips(instruction)
                    stack.append((instruction.called("body") or "", rounds))
                elif instruction.kind in ("call", "async-start"):
                    role = "to_apply" if instruction.kind == "call" else "calls"
                    stack.append((instruction.called(role) or "", times))
                elif instruction.kind == "conditional":
                    branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.rest)
                    names = _NAME.findall(branches.group(1)) if branches else []
                    names += filter(
                        None, (instruction.called(f"{b}_computation") for b in ("true", "false"))
                    )
                    stack += [(one, times) for one in names]

    def _inside(self, name: str) -> Iterator[Instruction]:
        """Instructions of a fusion's computation and of the fusions in it."""
        for instruction in self.computations.get(name, {}).values():
            yield instruction
            if instruction.kind == "fusion":
                yield from self._inside(instruction.called("calls") or "")

    def collectives(self) -> tuple[Collective, ...]:
        """Every collective with how often it runs, largest first.

        The TPU compiler spreads one collective over several fusions, which all name it: the
        fragment that starts it counts.
        """
        found: list[Collective] = []
        for _, instruction, times in self.running():
            if instruction.kind.removesuffix("-start") in COLLECTIVES:
                found.append(self._collective(instruction, times, scattered=False))
            elif instruction.kind == "fusion":
                name = instruction.called("calls") or ""
                inner = list(self._inside(name))
                starts = any('"AsyncCollectiveStart"' in i.rest for i in inner)
                if self._continues(name) and not starts:
                    continue
                for one in inner:
                    if one.kind in COLLECTIVES:
                        # An all-reduce of which each device keeps its slice is a reduce-scatter.
                        scattered = name.startswith("all-reduce-scatter")
                        found.append(self._collective(one, times, scattered))
        return tuple(sorted(found, key=lambda c: -c.sent))

    def _continues(self, name: str) -> bool:
        """Whether a fusion is a later piece of a collective that another one starts."""
        inner = self.computations.get(name, {}).values()
        return "async_collective" in name or any('"AsyncCollectiveDone"' in i.rest for i in inner)

    def _collective(self, instruction: Instruction, times: float, scattered: bool) -> Collective:
        kind = instruction.kind.removesuffix("-start")
        sizes = [size for size, _ in arrays(instruction.type)]
        size = sum(sizes)
        if instruction.kind.endswith("-start") and kind != "all-reduce":
            size = max(sizes, default=0)  # (input, result, ...)
        kind = "reduce-scatter" if scattered else kind
        group = _group_size(instruction.rest)
        if kind == "reduce-scatter" and not scattered:
            size *= group  # the input, of which the result is one part
        share = 0.0 if group < 2 and kind != "collective-permute" else (group - 1) / max(group, 1)
        passes = {"all-reduce": 2 * share, "collective-permute": 1.0}.get(kind, share)
        source = re.search(r'op_name="([^"]*)"', instruction.rest)
        label = source.group(1) if source else instruction.name
        return Collective(kind, times, group, size, times * passes * size, label)

    def network_bytes(self) -> float:
        """Bytes handed to the runtime that exchanges them with other slices.

        Within a slice XLA reduces first, so that every device hands over its share alone.
        """
        return sum(
            times * arrays(instruction.type)[0][0]
            for _, instruction, times in self.running()
            if instruction.kind == "send" and _MEGASCALE in instruction.rest
        )

    def hbm_bytes(self) -> float:
        """Bytes read from and written to HBM, each operand of an instruction counted once."""
        return sum(
            times * self._moved(self.computations[name], instruction)
            for name, instruction, times in self.running()
        )

    def _moved(self, scope: Mapping[str, Instruction], instruction: Instruction) -> float:
        kind = instruction.kind
        if (
            kind in _FREE
            or kind.endswith("-done")
            or any(f'"{mark}"' in instruction.rest for mark in _MARKS)
        ):
            return 0.0
        if kind == "fusion":
            return self._moved_by_fusion(scope, instruction)
        if kind == "copy-start":
            return _hbm(instruction.type)  # source and destination
        if kind in ("slice-start", "dynamic-slice-start"):
            (_, source), (size, destination), *_ = arrays(instruction.type)
            return size * (source + destination)
        if kind in ("dynamic-slice", "slice", "gather"):
            return 2.0 * _hbm(instruction.type)
        if kind == "dynamic-update-slice":
            update = scope.get(instruction.operands[1])
            return 2.0 * _hbm(update.type) if update else 0.0
        read = sum(_hbm(scope[o].type) for o in instruction.operands if o in scope)
        return read + _hbm(instruction.type)

    def _moved_by_fusion(self, scope: Mapping[str, Instruction], fusion: Instruction) -> float:
        name = fusion.called("calls") or ""
        inner = self.computations.get(name, {})
        root = next((i for i in inner.values() if i.root), None)
        if root is not None and '"AsyncCollectiveStart"' in root.rest:
            # Results are (source, destination, flags): one is read, the other will be written.
            return float(_hbm(fusion.type))
        moved = 0.0
        for instruction in inner.values():
            if instruction.kind == "parameter":
                operand = scope.get(fusion.operands[int(instruction.operands[0])])
                if operand is not None and _hbm(operand.type):
                    moved += self._read(name, instruction.name, _hbm(operand.type))
        outputs = [here for _, here in arrays(fusion.type)]
        for result, here in zip(self._results(inner, root), outputs, strict=False):
            if not here or result is None:
                continue
            if result.kind == "dynamic-update-slice":
                update = inner.get(result.operands[1])
                moved += sum(size for size, _ in arrays(update.type)) if update else 0
            elif result.kind not in ("parameter", *COLLECTIVES):
                moved += sum(size for size, _ in arrays(result.type))
        return moved

    def _results(
        self, inner: Mapping[str, Instruction], root: Instruction | None
    ) -> list[Instruction | None]:
        """What makes each result of a fusion; none of the last piece of a spread collective."""
        if root is None or '"AsyncCollectiveDone"' in root.rest:
            return []
        if root.kind == "tuple":
            return [inner.get(operand) for operand in root.operands]
        while root is not None and root.kind == "bitcast":
            root = inner.get(root.operands[0])
        return [root]

    def _read(self, computation: str, parameter: str, size: int) -> float:
        """Bytes of one parameter that a fusion reads: slices of it, all of it, or none."""
        inner, total = self.computations[computation], 0.0
        for user in inner.values():
            if parameter not in user.operands or user.kind == "parameter":
                continue
            first = user.operands[0] == parameter
            if user.kind in ("dynamic-slice", "slice", "gather") and first:
                total += sum(s for s, _ in arrays(user.type))
            elif user.kind == "bitcast":
                total += self._read(computation, user.name, size)
            elif user.kind == "fusion":
                name = user.called("calls") or ""
                number = str(user.operands.index(parameter))
                for below in self.computations.get(name, {}).values():
                    if below.kind == "parameter" and below.operands[0] == number:
                        total += self._read(name, below.name, size)
            elif user.kind == "dynamic-update-slice" and first:
                continue  # written in place
            elif user.kind == "tuple" or '"AsyncCollectiveDone"' in user.rest:
                continue  # handed on
            elif user.kind in COLLECTIVES and self._continues(computation):
                continue  # counted where the collective starts
            else:
                return float(size)
        return min(total, float(size))


def _group_size(rest: str) -> int:
    """Devices in one group of a collective, in each of the ways that XLA writes groups."""
    mesh = re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", rest)
    if mesh:
        sizes = dict(re.findall(r"'([\w.]+)'=(\d+)", mesh.group(1)))
        group = 1
        for axis, part in re.findall(r"'([\w.]+)'(?::\(\d+\)(\d+))?", mesh.group(2)):
            group *= int(part or sizes[axis])
        return group
    iota = re.search(r"replica_groups=\[(\d+),(\d+)\]<=", rest)
    if iota:
        return int(iota.group(2))
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", rest)
    return len(listed.group(1).split(",")) if listed else 1


def traffic(text: str) -> Traffic:
    """Traffic of one step of a compiled program, from `compiled.as_text()`."""
    program = Program(text)
    return Traffic(program.hbm_bytes(), program.collectives(), program.network_bytes())
