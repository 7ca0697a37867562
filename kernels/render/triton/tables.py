"""The columns of the tables by which kernels know their rows, and the numbers that stand for operations."""

# Axes: N row (one view).

from __future__ import annotations

import triton.language as tl

# int64 [N, PLACES]
ADDRESS = tl.constexpr(0)  # of the box's first byte
OUT = tl.constexpr(1)  # the view's first element in the canvas, in units of so many elements as divide all of them
BAND = tl.constexpr(2)  # the vertical weights' first element, in units of tile_y elements
ACROSS = tl.constexpr(3)  # the horizontal weights' first element
PLACES = tl.constexpr(4)

# int32 [N, WHOLES]; what exists for both axes stands side by side, the vertical one first
STEP = tl.constexpr(0)  # bytes from one row of the image to the next
SIDE = tl.constexpr(1)  # height and width of the box
TAPS = tl.constexpr(3)  # most taps of an output pixel along each axis
BAND_ROWS = tl.constexpr(5)  # source rows for which vertical weights of a tile are kept
FLIP = tl.constexpr(6)
BEFORE = tl.constexpr(7)  # operations up to the contrast, three bits each, the first one lowest
AFTER = tl.constexpr(8)  # operations from the contrast on
BLURRED = tl.constexpr(9)
IS_GRAY = tl.constexpr(10)
SOLARIZE = tl.constexpr(11)
WHOLES = tl.constexpr(12)

# float32 [N, FACTORS]: of brightness, contrast and saturation, and the hue's shift in sixths of a turn, from -3 to 3
FACTORS = tl.constexpr(4)

# Operations are counted from 1: a list of them ends at 0.
BRIGHTNESS = tl.constexpr(1)
CONTRAST = tl.constexpr(2)
SATURATION = tl.constexpr(3)
HUE = tl.constexpr(4)
GRAY = tl.constexpr(5)
OPERATION_BITS = tl.constexpr(3)
OPERATION_MASK = tl.constexpr(7)

# Pixels between two kernels are whole numbers from 0 to this one, see DESIGN in render.py.
LEVELS = tl.constexpr(65535.0)

# A whole number below 2**24, taken as the bits of a float32, is that many times 2**-149: a denormal number mostly, which GPUs multiply at
# full speed. So integers become floating numbers without an instruction, when what they are multiplied by is multiplied by 2**126 before,
# and the sum of products by 2**23; both are exact. (2**149 at once is none that a float32 holds.)
TIMES_FACTOR = tl.constexpr(2.0**126)
TIMES_SUM = tl.constexpr(2.0**23)
