"""Loops over vectors of eight float32 numbers, written in LLVM's intermediate representation.

Numba leaves vectors to LLVM's loop vectoriser, which finds none in a transpose, in sums whose terms lie at computed places, or in a
reduction whose order must not change. These few operations say it outright. They run on every processor that LLVM knows, which splits
the vectors where a machine's are shorter. Nothing is checked: arrays are C-contiguous, and places, steps and lengths count elements.
"""

# In formulas i, j < 8 are lanes.

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8

_FLOAT, _INT32 = ir.FloatType(), ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_ZEROS = ir.Constant(_VECTOR, [0.0] * LANES)
_ONES = ir.Constant(_VECTOR, [1.0] * LANES)
# a product and a sum may become one instruction, as everywhere in this folder
_CONTRACT = ("contract",)
_i8 = types.int64


class _Code:
    """The instructions of one operation: short names for what an IRBuilder says in many words.

    Attributes:
        arguments: the operation's; of arrays and of pointers alike the address.
    """

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any):
        self.builder = builder
        self.arguments = [
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, arguments, strict=True)
        ]
        self.index_type = context.get_value_type(types.intp)

    def index(self, value: int) -> Any:
        return ir.Constant(self.index_type, value)

    def at(self, start: Any, *terms: Any) -> Any:
        """Index ``start`` plus terms, each a value, a whole number or a product (value, value or number)."""
        for term in terms:
            if isinstance(term, tuple):
                factor = self.index(term[1]) if isinstance(term[1], int) else term[1]
                term = self.builder.mul(term[0], factor)
            start = self.builder.add(start, self.index(term) if isinstance(term, int) else term)
        return start

    def element(self, array: Any, index: Any) -> Any:
        return self.builder.load(self.builder.gep(array, [index]))

    def load(self, array: Any, index: Any) -> Any:
        """Eight floats from any place on."""
        pointer = self.builder.bitcast(self.builder.gep(array, [index]), _VECTOR.as_pointer())
        return self.builder.load(pointer, align=4)

    def load_bytes(self, array: Any, index: Any) -> Any:
        """Eight bytes from any place on, as floats."""
        pointer = self.builder.bitcast(self.builder.gep(array, [index]), ir.VectorType(ir.IntType(8), LANES).as_pointer())
        # signed, as no byte is negative as 32 bits and unsigned ones take longer
        return self.builder.sitofp(self.builder.zext(self.builder.load(pointer, align=1), ir.VectorType(_INT32, LANES)), _VECTOR)

    def store(self, vector: Any, array: Any, index: Any, align: int = 4) -> Any:
        pointer = self.builder.bitcast(self.builder.gep(array, [index]), _VECTOR.as_pointer())
        return self.builder.store(vector, pointer, align=align)

    def shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes))

    def splat(self, value: Any) -> Any:
        """A vector of one value."""
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        return self.shuffle(self.builder.insert_element(undefined, value, _INT32(0)), undefined, [0] * LANES)

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=_CONTRACT)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        return self.add(self.builder.fmul(a, b, flags=_CONTRACT), c)

    def clamp(self, vector: Any) -> Any:
        """Every lane into [0, 1]."""
        select, compare = self.builder.select, self.builder.fcmp_ordered
        vector = select(compare(">", vector, _ZEROS), vector, _ZEROS)
        return select(compare("<", vector, _ONES), vector, _ONES)

    def variables(self, values: list[Any]) -> list[Any]:
        """Places that keep a vector through a loop; LLVM turns them into registers."""
        places = [cgutils.alloca_once(self.builder, value.type) for value in values]
        for place, value in zip(places, values, strict=True):
            self.builder.store(value, place)
        return places

    def transposed(self, rows: list[Any]) -> list[Any]:
        """Eight rows of eight to eight columns, in three rounds: pairs of lanes, of pairs, of halves."""
        low, high = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
        pairs = [self.shuffle(rows[i], rows[i + 1], lanes) for i in range(0, 8, 2) for lanes in (low, high)]
        low, high = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
        fours = [self.shuffle(pairs[i], pairs[i + 2], lanes) for i in (0, 1, 4, 5) for lanes in (low, high)]
        low, high = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
        return [self.shuffle(fours[i], fours[i + 4], lanes) for lanes in (low, high) for i in range(4)]


@intrinsic
def pointer_to(typing, array):
    """The address of an array's first element, indexed like the array.

    Where arrays are sliced and passed on, Numba counts references, and each count waits until all that was streamed has arrived in
    memory. Who takes an address sees to it that the array lives as long.
    """

    def generate(context, builder, signature, arguments):
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), generate


@intrinsic
def advanced(typing, pointer, count):
    """The address of an element further on."""

    def generate(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, _i8), generate


@intrinsic
def bits_of(typing, value):
    """The 32 bits of a float32 as a uint32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], _INT32)

    return types.uint32(types.float32), generate


@intrinsic
def transpose_8x8(typing, source, start, stride, out, to):
    """out[to + 8 i + j] = source[start + stride j + i] for i, j < 8."""

    def generate(context, builder, signature, arguments):
        code = _Code(context, builder, signature, arguments)
        source, start, stride, out, to = code.arguments
        rows = [code.load(source, code.at(start, (stride, j))) for j in range(LANES)]
        for i, column in enumerate(code.transposed(rows)):
            code.store(column, out, code.at(to, LANES * i))
        return context.get_dummy_value()

    return types.void(source, _i8, _i8, out, _i8), generate


@intrinsic
def sum_taps_8x8(typing, columns, first, weight, taps, x, channel, out, to, stride):
    """Eight outputs of eight rows: out[to + stride j + i] = sum_k weight[x taps + 8 k + i] columns[(3 (first[x + i] + k) + channel) 8 + j].

    The sums are clamped to [0, 1]. ``x`` is a multiple of 8.
    """

    def generate(context, builder, signature, arguments):
        code = _Code(context, builder, signature, arguments)
        columns, first, weight, taps, x, channel, out, to, stride = code.arguments
        starts = []
        for i in range(LANES):
            pixel = code.element(first, code.at(x, i))
            starts.append(code.at(builder.mul(channel, code.index(LANES)), (pixel, 3 * LANES)))
        weights = builder.mul(x, taps)
        sums = code.variables([_ZEROS] * LANES)
        with cgutils.for_range(builder, taps) as loop:
            for i, place in enumerate(sums):
                factor = code.splat(code.element(weight, code.at(weights, (loop.index, LANES), i)))
                pixels = code.load(columns, code.at(starts[i], (loop.index, 3 * LANES)))
                builder.store(code.multiply_add(factor, pixels, builder.load(place)), place)
        for j, row in enumerate(code.transposed([builder.load(place) for place in sums])):
            code.store(code.clamp(row), out, code.at(to, (stride, j)))
        return context.get_dummy_value()

    return types.void(columns, first, weight, _i8, _i8, _i8, out, _i8, _i8), generate


def _sum_rows(vectors: int) -> Any:
    @intrinsic
    def operation(typing, image, start, step, weight, at, taps, out, to):
        """out[to + x] = sum_k weight[at + k] image[start + step k + x], of uint8, for x < 8 * vectors."""

        def generate(context, builder, signature, arguments):
            code = _Code(context, builder, signature, arguments)
            image, start, step, weight, at, taps, out, to = code.arguments
            lanes = [LANES * v for v in range(vectors)]
            sums = code.variables([_ZEROS] * vectors)
            with cgutils.for_range(builder, taps) as loop:
                factor = code.splat(code.element(weight, code.at(at, loop.index)))
                row = code.at(start, (loop.index, step))
                for lane, place in zip(lanes, sums, strict=True):
                    pixels = code.load_bytes(image, code.at(row, lane))
                    builder.store(code.multiply_add(factor, pixels, builder.load(place)), place)
            for lane, place in zip(lanes, sums, strict=True):
                code.store(builder.load(place), out, code.at(to, lane))
            return context.get_dummy_value()

        return types.void(image, _i8, _i8, weight, _i8, _i8, out, _i8), generate

    return operation


sum_rows_8 = _sum_rows(1)
sum_rows_32 = _sum_rows(4)


def _symmetric_sum(vectors: int) -> Any:
    @intrinsic
    def operation(typing, source, start, before, after, weight, radius, out, to):
        """out[to + x] = weight[0] s[x] + sum_k weight[k] (s[before[k] + x] + s[after[k] + x]), k from 1 to radius, x < 8 * vectors.

        s is the source from ``start`` on.
        """

        def generate(context, builder, signature, arguments):
            code = _Code(context, builder, signature, arguments)
            source, start, before, after, weight, radius, out, to = code.arguments
            centre = code.splat(code.element(weight, code.index(0)))
            lanes = [LANES * v for v in range(vectors)]
            sums = code.variables([builder.fmul(centre, code.load(source, code.at(start, lane))) for lane in lanes])
            with cgutils.for_range(builder, radius) as loop:
                k = code.at(loop.index, 1)
                factor = code.splat(code.element(weight, k))
                left, right = code.at(start, code.element(before, k)), code.at(start, code.element(after, k))
                for lane, place in zip(lanes, sums, strict=True):
                    pair = builder.fadd(code.load(source, code.at(left, lane)), code.load(source, code.at(right, lane)))
                    builder.store(code.multiply_add(factor, pair, builder.load(place)), place)
            for lane, place in zip(lanes, sums, strict=True):
                code.store(builder.load(place), out, code.at(to, lane))
            return context.get_dummy_value()

        return types.void(source, _i8, before, after, weight, _i8, out, _i8), generate

    return operation


symmetric_sum_8 = _symmetric_sum(1)
symmetric_sum_32 = _symmetric_sum(4)


@intrinsic
def stream_row(typing, source, start, size, scale, bias, out, to):
    """out[to + x] = source[start + x] scale + bias for x < size, past the caches, for it is not read soon.

    ``size`` is a multiple of 8, and out[to] lies at a multiple of 32 bytes.
    """

    def generate(context, builder, signature, arguments):
        code = _Code(context, builder, signature, arguments)
        source, start, size, scale, bias, out, to = code.arguments
        scale, bias = code.splat(scale), code.splat(bias)
        with cgutils.for_range(builder, builder.lshr(size, code.index(3))) as loop:
            x = builder.mul(loop.index, code.index(LANES))
            vector = code.multiply_add(code.load(source, builder.add(start, x)), scale, bias)
            stored = code.store(vector, out, builder.add(to, x), align=4 * LANES)
            stored.set_metadata("nontemporal", builder.module.add_metadata([_INT32(1)]))
        return context.get_dummy_value()

    return types.void(source, _i8, _i8, types.float32, types.float32, out, _i8), generate


@intrinsic
def weighted_sum_of_three(typing, a, b, c, size, weight_a, weight_b, weight_c):
    """Sum of weight_a a[x] + weight_b b[x] + weight_c c[x] over x < size, a multiple of 8: eight sums, then theirs in a fixed order."""

    def generate(context, builder, signature, arguments):
        code = _Code(context, builder, signature, arguments)
        arrays, size, weights = code.arguments[:3], code.arguments[3], [code.splat(w) for w in code.arguments[4:]]
        (total,) = code.variables([_ZEROS])
        with cgutils.for_range(builder, builder.lshr(size, code.index(3))) as loop:
            x = builder.mul(loop.index, code.index(LANES))
            value = builder.fmul(weights[0], code.load(arrays[0], x))
            for weight, array in zip(weights[1:], arrays[1:], strict=True):
                value = code.multiply_add(weight, code.load(array, x), value)
            builder.store(builder.fadd(builder.load(total), value), total)
        lanes = [builder.extract_element(builder.load(total), _INT32(lane)) for lane in range(LANES)]
        while len(lanes) > 1:
            lanes = [builder.fadd(a, b) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
        return lanes[0]

    return types.float32(a, b, c, _i8, types.float32, types.float32, types.float32), generate
