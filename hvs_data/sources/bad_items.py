"""What an error of a user's dataset means: an image that cannot be had, or a mistake in the program."""

from __future__ import annotations

import torch

# Of Python's own exceptions those that files, decoders and databases raise for what they cannot read.
_BAD_IMAGE = (OSError, ValueError, SyntaxError, EOFError, KeyError, RuntimeError)
# Of these, and of those that libraries derive from Python's, those that tell of the program or of the machine.
_BUG = (
    *(NameError, TypeError, AttributeError, AssertionError, IndexError, ImportError, NotImplementedError, RecursionError, ArithmeticError),
    *(MemoryError, torch.OutOfMemoryError, Warning),
)


def is_bad_image(error: BaseException, index: int) -> bool:
    """Whether an error that a dataset raises for an item means a bad image, which is replaced; else it is a bug, which is raised.

    An exception that a library defines (cv2.error, zlib.error, zipfile.BadZipFile, lmdb.Error, ...) is about the data, unless it is a
    kind of what Python raises for mistakes. A key that is missing is about the data, unless it is the item's number: then the dataset's
    length promises more than there is, as with an IndexError.
    """
    if isinstance(error, _BUG) or not isinstance(error, Exception):
        return False
    if isinstance(error, KeyError) and error.args == (index,):
        return False
    return isinstance(error, _BAD_IMAGE) or type(error).__module__ != "builtins"
