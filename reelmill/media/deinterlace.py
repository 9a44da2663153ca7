"""Deinterlacing: frames that are two fields of different moments become pictures of one moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

from av.error import BlockingIOError as FilterIsEmpty
from av.error import EOFError as FilterIsDone
from av.filter import Graph
from av.video.frame import VideoFrame

FILTER = ("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
"""One picture a frame, of the first field's moment; frames that are not flagged as interlaced pass unchanged."""


class Deinterlacer:
    """FFmpeg's bwdif over frames in the order in which they are shown; it gives each back when the next one comes."""

    def __init__(self, time_base: Fraction) -> None:
        self._time_base = time_base
        self._graph: Graph | None = None
        self._kind: tuple[int, int, str] | None = None
        self._inside: deque[tuple[int | None, int]] = deque()  # the filter counts in other ticks

    def feed(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """The frames that this one brings."""
        kind = (frame.width, frame.height, frame.format.name)
        if kind != self._kind:
            yield from self.finish()
            self._graph, self._kind = self._made(frame), kind
        assert self._graph is not None
        self._inside.append((frame.pts, frame.duration))
        self._graph.vpush(frame)
        yield from self._pulled()

    def finish(self) -> Iterator[VideoFrame]:
        """The frames that are left."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._pulled()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._graph = self._kind = None
        self._inside.clear()

    def _made(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=self._time_base
        )
        graph.link_nodes(source, graph.add(*FILTER), graph.add("buffersink")).configure()
        return graph

    def _pulled(self) -> Iterator[VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.vpull()
            except (FilterIsEmpty, FilterIsDone):
                return
            frame.pts, frame.duration = self._inside.popleft()
            yield frame
