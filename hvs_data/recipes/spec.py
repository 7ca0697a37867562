"""A recipe describes a distribution of views: frozen data that checks itself when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from hvs_data.arguments.sizes import Size, height_width, plain_size, size_of
from hvs_data.arguments.values import listed, real_number, whole_number
from hvs_data.errors import RecipeError
from hvs_data.recipes.channels import check_colours, checked_channels, checked_ranges, without_colours
from hvs_data.recipes.masking import Masking
from hvs_data.types.images import MAX_CHANNELS
from hvs_data.types.rows import LOCAL, NOISE, RenderSpec

INTERPOLATIONS = ("bilinear", "bicubic")
CROPS = ("random_resized", "random", "center")
MAX_SLOTS = 2**16
MAX_SIDE = 2**15
MAX_NUMBER = 1e6  # keeps all that is computed from a recipe inside float32 and int64

# What the views of a role may share, and the fields of their rows that hold it. Masks and keys are each view's own.
SHARED = {
    "color": ("brightness", "contrast", "saturation", "hue", "order", "gray", "blur_sigma", "solarize", "posterize"),
    "crop": ("box", "flip", "vertical_flip", "turn", "resized"),
}


def _number(name: str, value: Any, meaning: str) -> float:
    number = real_number(value)
    if number is None or not abs(number) <= MAX_NUMBER:
        raise RecipeError(f"{name} must be a number of at most {MAX_NUMBER:g}, got {value!r}; it is {meaning}")
    return number


def _probability(name: str, value: Any) -> float:
    meaning = "the probability with which the operation is applied to a view"
    number = _number(name, value, meaning)
    if not 0 <= number <= 1:
        raise RecipeError(f"{name} must satisfy 0 <= {name} <= 1, got {value!r}; it is {meaning}")
    return number


def _whole(name: str, value: Any, least: int, most: int, meaning: str) -> int:
    number = whole_number(value)
    if number is None or not least <= number <= most:
        raise RecipeError(f"{name} must be a whole number from {least} to {most}, got {value!r}; it is {meaning}")
    return number


def _size(value: Any) -> Size:
    size = plain_size(value)
    if size is None or max(height_width(size)) > MAX_SIDE:
        raise RecipeError(
            f"size must be a whole number from 1 to {MAX_SIDE}, or two of them, got {value!r}; it is the side of a rendered view in "
            "pixels, or (height, width)"
        )
    return size


def _interval(name: str, value: Any, most: float, meaning: str) -> tuple[float, float]:
    bounds = f"0 < lo <= hi <= {most:g}" if math.isfinite(most) else "0 < lo <= hi"
    ends = listed(value)
    if ends is None or len(ends) != 2:
        raise RecipeError(f"{name} must be a pair (lo, hi), got {value!r}; it is {meaning}")
    lo, hi = (_number(name, end, meaning) for end in ends)
    if not 0 < lo <= hi <= most:
        raise RecipeError(f"{name} must satisfy {bounds}, got ({ends[0]!r}, {ends[1]!r}); it is {meaning}")
    return lo, hi


def _set(record: Any, **fields: Any) -> None:
    """Put plain numbers in place of those that a frozen record was given."""
    for name, value in fields.items():
        object.__setattr__(record, name, value)


@dataclass(frozen=True)
class ColorJitter:
    """Random brightness, contrast, saturation and hue, in an order drawn for each view (as torchvision's ColorJitter).

    Attributes:
        p: probability that a view is jittered at all.
        brightness, contrast, saturation: half-widths b of the factor's range [max(0, 1 - b), 1 + b].
        hue: half-width of the shift's range [-hue, hue], in turns; at most 0.5.
    """

    p: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1

    def __post_init__(self) -> None:
        _set(self, p=_probability("jitter p", self.p))
        for name in ("brightness", "contrast", "saturation"):
            value = _number(name, getattr(self, name), "the half-width of the factor's range around 1")
            if value < 0:
                raise RecipeError(f"{name} must be at least 0, got {value!r}; factors are drawn from [max(0, 1 - {name}), 1 + {name}]")
            _set(self, **{name: value})
        _set(self, hue=_number("hue", self.hue, "the largest shift, in turns"))
        if not 0 <= self.hue <= 0.5:
            raise RecipeError(
                f"hue must satisfy 0 <= hue <= 0.5, got {self.hue!r}; it is the largest shift, in turns (0.5 is the opposite colour)"
            )


@dataclass(frozen=True)
class Erasing:
    """A random rectangle of a view, erased after everything else (as torchvision's RandomErasing, behind Normalize).

    Attributes:
        p: probability that a view has one.
        scale: range of its share of the view's area.
        ratio: range of its height / width, drawn log-uniformly.
        value: what stands there, on the scale of normalised values: a number, one for each channel, or "noise", standard normal.
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float | tuple[float, ...] | str = 0.0

    def __post_init__(self) -> None:
        _set(self, p=_probability("erasing p", self.p))
        _set(self, scale=_interval("erasing scale", self.scale, 1, "a fraction of the view's area"))
        _set(self, ratio=_interval("erasing ratio", self.ratio, math.inf, "a range of height / width"))
        meaning = 'what stands in place of the erased pixels, after normalisation; pass "noise" for standard normal noise'
        several = None if isinstance(self.value, str) else listed(self.value)
        if several is not None:
            _set(self, value=tuple(_number("erasing value", number, meaning) for number in several))
        elif self.value != NOISE:
            _set(self, value=_number("erasing value", self.value, meaning))


@dataclass(frozen=True)
class Role:
    """One distribution of views, and how many of them an image gets.

    Attributes:
        name: what the trainer uses the view as: "view" where all are alike, else "global1", "global2", "local".
        candidates: views drawn for each image.
        emitted: views of this role that reach the trainer after selection.
        size: side of the rendered view in pixels, or (height, width). Every crop is resized to it, whatever its own shape.
        scale: range of the crop's share of the image's area.
        ratio: range of the crop's width / height in pixels of the image, drawn log-uniformly.
        flip: probability of a horizontal flip.
        jitter: colour jitter.
        gray: probability of losing colour.
        blur: probability of a Gaussian blur.
        sigma: range of the blur's standard deviation, in pixels of a view of this size.
        solarize: probability of inverting the values at or above the recipe's threshold.
        shared: what is drawn once for all views that an image has of this role: "color" (jitter and its order, grey, blur, solarize,
            posterize), "crop" (box, flips and turn), or None. :meth:`Recipe.with_shared` sets it.
        vertical_flip: probability of a vertical flip.
        turn: probability of a turn by quarters, counterclockwise, after the flips.
        quarters: the turns that are drawn, each as often: some of 1, 2 and 3.
        posterize: probability of keeping only the upper bits of each value.
        posterize_bits: how many, from 1 to 7.
        erase: a random rectangle that is erased; each view's own, whatever is shared.
        resize: to what the image is resized before the crop: its shorter side in pixels, or (height, width); None: it is not.
        crop: what is cut out: "random_resized", a box of a random size and shape (``scale``, ``ratio``), resized to the view's size;
            "random", a box of the view's size anywhere in the image; "center", one in its centre. What of these lies beside the image is
            black. As torchvision's RandomResizedCrop, RandomCrop and CenterCrop.
        padding: black pixels at each side of the image that a "random" box may reach into; more where the image is too small.
        channel_drop: probability that a view loses channels, which become 0 before normalisation; each view's own, whatever is shared.
        dropped_channels: how many it loses then, any of them with the same probability.
    """

    name: str = "view"
    candidates: int = 2
    emitted: int = 2
    size: Size = 224
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: ColorJitter = field(default_factory=ColorJitter)
    gray: float = 0.2
    blur: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    shared: str | None = None
    vertical_flip: float = 0.0
    turn: float = 0.0
    quarters: tuple[int, ...] = (1, 2, 3)
    posterize: float = 0.0
    posterize_bits: int = 4
    erase: Erasing | None = None
    resize: int | tuple[int, int] | None = None
    crop: str = "random_resized"
    padding: int = 0
    channel_drop: float = 0.0
    dropped_channels: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise RecipeError(
                f"a role's name must be a non-empty string, got {self.name!r}; use the trainer's term, such as 'view' or 'local'"
            )
        drawn = _whole("candidates", self.candidates, 1, MAX_SLOTS, f"the number of views of role {self.name!r} drawn for an image")
        emitted = _whole("emitted", self.emitted, 0, drawn, f"how many of the candidates of role {self.name!r} reach the trainer")
        _set(self, candidates=drawn, emitted=emitted, size=_size(self.size))
        _set(self, scale=_interval("scale", self.scale, 1, "a fraction of the image's area"))
        _set(self, ratio=_interval("ratio", self.ratio, math.inf, "a range of width / height"))
        _set(self, sigma=_interval("sigma", self.sigma, math.inf, "the blur's standard deviation in pixels"))
        if not isinstance(self.jitter, ColorJitter):
            raise RecipeError(f"jitter must be a ColorJitter, got {self.jitter!r}; write ColorJitter(p=0) for none")
        for name in ("flip", "gray", "blur", "solarize", "vertical_flip", "turn", "posterize", "channel_drop"):
            _set(self, **{name: _probability(name, getattr(self, name))})
        meaning = "how many channels a view loses where it loses any"
        _set(self, dropped_channels=_whole("dropped_channels", self.dropped_channels, 1, MAX_CHANNELS - 1, meaning))
        _set(self, posterize_bits=_whole("posterize_bits", self.posterize_bits, 1, 7, "how many bits of a value a posterized view keeps"))
        if self.resize is not None:
            meaning = "the image's shorter side after resizing, or a pair (height, width)"
            sides = listed(self.resize)
            if sides is not None and len(sides) == 2:
                _set(self, resize=tuple(_whole("resize", side, 1, 2**15, meaning) for side in sides))
            else:
                _set(self, resize=_whole("resize", self.resize, 1, 2**15, meaning))
        if self.crop not in CROPS:
            raise RecipeError(f"crop must be one of {CROPS}, got {self.crop!r}; the last two cut out a box of the view's size")
        most = min(height_width(self.size)) - 1
        _set(self, padding=_whole("padding", self.padding, 0, most, "black pixels at each side of the image, fewer than a view has"))
        if self.padding and self.crop != "random":
            raise RecipeError(f"padding must be 0 unless crop is 'random', got {self.padding} with crop={self.crop!r}; leave it out")
        if self.erase is not None and not isinstance(self.erase, Erasing):
            raise RecipeError(f"erase must be an Erasing or None, got {self.erase!r}; write Erasing(p=0.25)")
        quarters = listed(self.quarters)
        if not quarters or len(set(quarters)) != len(quarters) or not set(quarters) <= {1, 2, 3}:
            raise RecipeError(f"quarters must hold some of 1, 2 and 3, got {self.quarters!r}; they are turns counterclockwise")
        _set(self, quarters=tuple(int(quarter) for quarter in quarters))
        if self.turn and self.quarters != (2,) and not isinstance(self.size, int):
            raise RecipeError(
                f"turn must be 0 for views that are not square, got {self.turn} at the size {self.size}: a quarter turn makes "
                "another shape of them; write quarters=(2,) for half turns alone"
            )
        if self.shared is not None:
            _check_shared(self.shared)
            if self.emitted > 1:
                raise RecipeError(
                    f"emitted must be at most 1 in role {self.name!r} with shared={self.shared!r}, got {self.emitted}: the trainer would "
                    f"get views of one draw; recipe.with_shared({self.shared!r}) makes two roles, of which a pair takes one view each"
                )


def _check_shared(shared: Any) -> None:
    if shared not in tuple(SHARED):
        raise RecipeError(f"shared must be one of {tuple(SHARED)}, got {shared!r}; it is what all views of a role have one draw of")


@dataclass(frozen=True)
class Twin:
    """A second form of every global view that reaches the trainer: the same crop, flips and turn at a size of its own.

    What DINOv3's Gram teacher sees (Siméoni et al. 2025, arXiv 2508.10104: ``gram_teacher_crops_size``), or a teacher without colours
    (``teacher_no_color_jitter``). It is rendered for the chosen views alone, and stands in ``batch.twins``.

    Attributes:
        size: side of a square in pixels, or (height, width).
        distorted: with the view's colours, blur, erasing and dropped channels, the blur scaled with the size; or without them.
    """

    size: Size
    distorted: bool = False

    def __post_init__(self) -> None:
        _set(self, size=_size(self.size), distorted=bool(self.distorted))


@dataclass(frozen=True)
class Recipe:
    """A named distribution of an image's candidate views.

    Slots are numbered role by role: a recipe with roles (global1 x 2, global2 x 2, local x 8) has slots 0-1, 2-3 and 4-11.

    Attributes:
        name: the method and variant, for messages and logs.
        roles: the distributions, in the order in which the trainer expects their views.
        interpolation: "bilinear" or "bicubic", antialiased.
        blur_kernel: taps of the blur at a slot's own size, odd.
        mean, std: normalisation per channel, on the 0-1 scale. As many numbers as the images have channels, from 1 to 16; three are RGB.
        value_range: the images' values that become 0 and 1, as (lo, hi) or such a pair for each channel; what lies outside is clipped.
            None is for pictures of 8 bits. :meth:`with_channels` sets these three.
        twins: in what further forms the views of all roles but "local" that reach the trainer are handed out; see :class:`Twin`.
        masking: which patches of views of all roles but "local" are hidden from the student; None for methods without masks.
    """

    name: str
    roles: tuple[Role, ...]
    interpolation: str = "bilinear"
    blur_kernel: int = 23
    mean: tuple[float, ...] = RenderSpec.mean
    std: tuple[float, ...] = RenderSpec.std
    masking: Masking | None = None
    value_range: Any = None
    twins: tuple[Twin, ...] = ()

    def __post_init__(self) -> None:
        twins = listed(self.twins)
        if twins is None or not all(isinstance(twin, Twin) for twin in twins):
            raise RecipeError(f"twins must hold Twins and nothing else, got {self.twins!r}; write (Twin(512),) for a single one")
        _set(self, twins=twins)
        roles = listed(self.roles)
        if not roles or not all(isinstance(role, Role) for role in roles):
            raise RecipeError(f"roles must hold at least one Role and nothing else, got {self.roles!r}; write (role,) for a single one")
        _set(self, roles=roles)
        names = [role.name for role in self.roles]
        if len(set(names)) != len(names):
            raise RecipeError(f"roles must have different names, got {names}; raise `candidates` to draw more views of one role")
        if len(self.roles) > 256:
            raise RecipeError(f"a recipe holds at most 256 roles, got {len(self.roles)}; raise `candidates` to draw more views of one role")
        if self.interpolation not in INTERPOLATIONS:
            raise RecipeError(f"interpolation must be one of {INTERPOLATIONS}, got {self.interpolation!r}; both are antialiased")
        _set(self, blur_kernel=_whole("blur_kernel", self.blur_kernel, 1, 255, "the number of taps of the blur at a slot's own size"))
        if self.blur_kernel % 2 == 0:
            raise RecipeError(f"blur_kernel must be odd, got {self.blur_kernel}; it is the number of taps around the centre pixel")
        mean, std = checked_channels(self.mean, self.std, MAX_NUMBER)
        _set(self, mean=mean, std=std, value_range=checked_ranges(self.value_range, len(mean)))
        check_colours(self.roles, len(mean))
        if self.masking is not None:
            self._check_masking(self.masking)
        most = max((role.dropped_channels for role in self.roles if role.channel_drop > 0), default=0)
        if most >= self.channels:
            raise RecipeError(f"dropped_channels must be below the {self.channels} channels that views have, got {most}; leave one or more")
        values = {role.erase.value for role in self.roles if role.erase is not None}
        if len(values) > 1:
            raise RecipeError(f"erasing must have one value in all roles, got {sorted(values, key=repr)}; give every Erasing the same")
        wrong = [value for value in values if isinstance(value, tuple) and len(value) != len(self.mean)]
        if wrong:
            raise RecipeError(f"erasing value must be one number, or {len(self.mean)}, one for each channel, got {wrong[0]}")

    def _check_masking(self, masking: Masking) -> None:
        if not isinstance(masking, Masking):
            raise RecipeError(f"masking must be a Masking or None, got {masking!r}; write Masking(patch_size=16)")
        sizes = list(dict.fromkeys(role.size for role in self.roles if role.name != LOCAL))
        grids = {_grid(size, masking.patch_size) for size in sizes}
        if len(grids) != 1 or 0 in height_width(grids.pop()):
            raise RecipeError(
                f"masking needs views of one size of at least a patch ({masking.patch_size} pixels), local ones aside, got roles of the "
                f"sizes {sizes}; give the global roles one size"
            )

    @property
    def mask_grid(self) -> Size:
        """Patches of a masked view along both sides, or along its height and its width; 0 without masking."""
        if self.masking is None:
            return 0
        return _grid(next(role.size for role in self.roles if role.name != LOCAL), self.masking.patch_size)

    @property
    def channels(self) -> int:
        """Channels of images and views."""
        return len(self.mean)

    @property
    def num_views(self) -> int:
        """Slots of an image: candidates of all roles."""
        return sum(role.candidates for role in self.roles)

    @property
    def resizes(self) -> bool:
        """Whether any view is cut out of a resized or padded image."""
        return any(role.resize is not None or role.crop != "random_resized" for role in self.roles)

    @property
    def slot_roles(self) -> tuple[Role, ...]:
        """The role of every slot."""
        return tuple(role for role in self.roles for _ in range(role.candidates))

    @property
    def spec(self) -> RenderSpec:
        """The part of the recipe that a renderer needs beside the rows."""
        erased = next((role.erase.value for role in self.roles if role.erase is not None), RenderSpec.erase_value)
        return RenderSpec(self.interpolation, self.mean, self.std, self.blur_kernel, erase_value=erased, value_range=self.value_range)

    def with_roles(self, **changes: Any) -> Recipe:
        """The same recipe with fields of every role replaced, such as ``recipe.with_roles(scale=(0.3, 1), flip=0)``."""
        return replace(self, roles=tuple(replace(role, **changes) for role in self.roles))

    def with_channels(self, mean: Any, std: Any, value_range: Any = None) -> Recipe:
        """The same recipe for images of other channels or of more than 8 bits, such as
        ``recipe.with_channels(mean=(0.4,), std=(0.2,), value_range=(0, 4095))`` for one channel of 12 bits.

        For other than three channels, what needs colours is left out: saturation, hue and grey. ``hvs-data range SOURCE`` prints the
        numbers for a source. Arguments as the recipe's fields.
        """
        channels = listed(mean)
        roles = self.roles if channels is None or len(channels) == 3 else tuple(map(without_colours, self.roles))
        return replace(self, roles=roles, mean=mean, std=std, value_range=value_range)

    def with_shared(self, shared: str) -> Recipe:
        """The same recipe with two draws an image of colours, or of crops: one for all candidates of either view of the pair.

        - ``with_shared("color")``: an image has two sets of colours, candidates differ in their crop alone, and a pair takes one view of
          each set. Its hardest pair is that of the hardest places.
        - ``with_shared("crop")``: an image has two boxes, and candidates differ in their colours alone. Its hardest pair is that of the
          hardest colours.

        A pair that is chosen at random is distributed as without sharing. Where global views follow one distribution, half of them become
        the role "global1" and half "global2", so that n candidates make (n / 2)**2 pairs; two roles stay as they are, and so do local
        views. Colours are the jitter and its order, grey, blur, solarize and posterize; a crop is the box, flips and turn. Masks, and what
        a stage of the user's own draws, stay each view's own. ``with_roles(shared=None)`` takes sharing back.

        Args:
            shared: "color" or "crop".

        Raises:
            RecipeError: another word, an odd number of candidates to be halved, or roles of which a pair does not take one view each.
        """
        _check_shared(shared)
        of_pair = [role for role in self.roles if role.name != LOCAL]
        if [role.emitted for role in of_pair] not in ([2], [1, 1]):
            raise RecipeError(
                "with_shared must be given one role of 2 emitted views, or two roles of 1 each, local ones aside, got "
                f"{ {role.name: role.emitted for role in of_pair} }; set emitted= in the recipe's roles to what a pair takes of each"
            )
        if len(of_pair) == 1 and of_pair[0].candidates % 2:
            raise RecipeError(
                f"candidates must be an even number for with_shared, got {of_pair[0].candidates}; half are of role global1, half of global2"
            )

        def parts(role: Role) -> list[Role]:
            if role.name == LOCAL:
                return [role]
            if len(of_pair) == 2:
                return [replace(role, shared=shared)]
            half = role.candidates // 2
            return [replace(role, name=name, candidates=half, emitted=1, shared=shared) for name in ("global1", "global2")]

        return replace(self, roles=tuple(part for role in self.roles for part in parts(role)))


def _grid(size: Size, patch_size: int) -> Size:
    """Whole patches along the sides of a view."""
    return size_of(*(side // patch_size for side in height_width(size)))
