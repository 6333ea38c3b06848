"""Interlaced frames -> progressive ones, one for one.

The rule: a frame that its stream flags as interlaced is deinterlaced by FFmpeg's `bwdif`, in the
order of fields that its stream states, with the frames before and after; frames that are not
flagged stay as they are. That is what a player shows: comb teeth that no flag speaks of are part
of the picture.
"""

import fractions
from collections.abc import Iterator

import av
from av.filter import Graph


def deinterlaced(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """The same number of frames, in order; time stamps stay, in units of their own."""
    graph: Graph | None = None
    shape = None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        if graph is None or _shape(frame) != shape:  # a filter takes frames of one shape
            if graph is not None:
                yield from _rest(graph)
            graph, shape = _graph(frame), _shape(frame)
        graph.vpush(frame)
        yield from _ready(graph)
    if graph is not None:
        yield from _rest(graph)


def _shape(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _graph(frame: av.VideoFrame) -> Graph:
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or fractions.Fraction(1, 1000),
    )
    filter_ = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(filter_)
    filter_.link_to(sink)
    graph.configure()
    return graph


def _ready(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return


def _rest(graph: Graph) -> Iterator[av.VideoFrame]:
    graph.vpush(None)
    yield from _ready(graph)
