"""Numbers over steps, as many as a picture can show."""

from __future__ import annotations

from collections.abc import Mapping

MOST_POINTS = 1024


class History:
    """Points over steps. Of more than ``MOST_POINTS``, every second one is let go of, and from then on every second one is kept."""

    def __init__(self) -> None:
        self._points: list[tuple[int, Mapping[str, float]]] = []
        self._every = 1
        self._seen = 0

    def add(self, step: int, means: Mapping[str, float]) -> None:
        """One more point."""
        if self._seen % self._every == 0:
            self._points.append((step, dict(means)))
        self._seen += 1
        if len(self._points) > MOST_POINTS:
            self._points = self._points[::2]
            self._every *= 2

    def points(self) -> list[tuple[int, Mapping[str, float]]]:
        """(step, numbers by name), in the order in which they came."""
        return list(self._points)
