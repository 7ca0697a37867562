"""Objects whose arguments are decided when they are made."""

from __future__ import annotations

from typing import Any, ClassVar


class Fixed:
    """Base of classes that refuse to have set, once made, what was decided by then and would be ignored or half believed.

    A class names these attributes and what to do instead, and says at the end of its ``__init__`` that it is made.
    """

    _decided: ClassVar[frozenset[str]]
    _instead: ClassVar[str]
    _made: bool = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self._made and name in self._decided:
            raise AttributeError(f"{type(self).__name__}.{name} is decided when it is made and cannot be set; {self._instead}")
        super().__setattr__(name, value)
