"""The package's exceptions. Every message says what was expected, what arrived and what to do."""


class HvsError(Exception):
    """Base of every error that this package raises on purpose."""


class RecipeError(HvsError, ValueError):
    """A recipe, or a request made of one, holds a value that means nothing."""


class DecodeError(HvsError, ValueError):
    """Bytes that no decoder turns into an RGB image.

    Attributes:
        position: place of the bad item in the list given to :func:`hvs_data.decode`; None for a single image.
    """

    def __init__(self, message: str, position: int | None = None):
        super().__init__(message)
        self.position = position


class SourceError(HvsError, ValueError):
    """A source of images that cannot be opened or read as asked."""


class BadImagesError(HvsError, RuntimeError):
    """More images were unreadable than the failure policy allows; the run stops instead of training on the rest."""


class StalledError(HvsError, RuntimeError):
    """No batch came within the loader's ``timeout``, or a thread that works on it has died."""


class ForkError(HvsError, RuntimeError):
    """An iteration that was begun before a fork is used in the forked process."""


class SelectionError(HvsError, ValueError):
    """Candidates, model outputs or pair losses that do not fit each other."""


class MissingDependencyError(HvsError, ImportError):
    """An optional package is needed and not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(f"{purpose} needs the package {package!r}, which is not installed; run: pip install 'hvs_data[{extra}]'")
