"""What two rows say of how hard they are together, written out pair by pair."""

import math

from hvs_data.rows.features import FEATURES

# Sums and products of a few float32 numbers: each operation errs by 2^-24 of its result; logarithms of areas reach 12, areas are whole
# numbers below 2^24 and so exact, and centres of boxes some hundred pixels from the corner cancel to an error of 2^-24 * 400 pixels
# against boxes of at least 4 pixels' side. 1e-4 is above 12 * 8 * 2^-24 and above 400 / 4 * 8 * 2^-24.
FLOAT32 = 1e-4


def features_by_hand(params, image, i, j):
    """The features of one pair, from their words in ``FEATURES``."""
    boxes = [[float(number) for number in params.box[image, slot]] for slot in (i, j)]
    (t1, l1, h1, w1), (t2, l2, h2, w2) = boxes
    both = max(0, min(t1 + h1, t2 + h2) - max(t1, t2)) * max(0, min(l1 + w1, l2 + w2) - max(l1, l2))
    a1, a2 = h1 * w1, h2 * w2
    apart = math.hypot(t1 + h1 / 2 - t2 - h2 / 2, l1 + w1 / 2 - l2 - w2 / 2)
    found = {
        "iou": both / (a1 + a2 - both),
        "center_distance": apart / (a1 * a2) ** 0.25,
        "area_ratio": abs(math.log(a1 / a2)),
        "smaller_area": math.log(min(a1, a2)),
    }
    views = []
    for slot in (i, j):
        gray = float(params.gray[image, slot])
        views.append(
            {
                "brightness": float(params.brightness[image, slot]) - 1,
                "contrast": float(params.contrast[image, slot]) - 1,
                "saturation": 0 if gray else float(params.saturation[image, slot]) - 1,
                "hue": 0 if gray else float(params.hue[image, slot]),
                "gray": gray,
                "blur": 100 * float(params.blur_sigma[image, slot]) / params.size[slot],
                "solarize": float(params.solarize[image, slot]),
            }
        )
    for name, first in views[0].items():
        second = views[1][name]
        found[f"{name}_sum"] = first + second
        found[f"{name}_difference"] = min(abs(first - second), 1 - abs(first - second)) if name == "hue" else abs(first - second)
    return [found[name] for name in FEATURES]
