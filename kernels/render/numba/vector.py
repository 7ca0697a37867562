"""Loops over vectors of float32 numbers, written in LLVM's intermediate representation.

Numba leaves vectors to LLVM's loop vectoriser, which finds none in a transpose, in sums whose terms lie at computed places, or in a
reduction whose order must not change. These few operations say it outright. They run on every processor that LLVM knows, which splits
the vectors where a machine's are shorter. Nothing is checked: arrays are C-contiguous, and places, steps and lengths count elements.

An element's terms are added in the same order whatever the length of a vector, so that pixels do not depend on it.
"""

# In formulas i < 8, and j < LANES.

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from hvs_data.kernels.numba_compile import LANES

PIECE = 8  # floats: outputs side by side that are summed together, and vectors whose number must not depend on the machine
_BLOCK = 4  # floats of 128 bits, within which all processors shuffle cheaply

_FLOAT, _INT32 = ir.FloatType(), ir.IntType(32)
_i8 = types.int64


def _vector(lanes: int) -> Any:
    return ir.VectorType(_FLOAT, lanes)


def _constant(value: float, lanes: int) -> Any:
    return ir.Constant(_vector(lanes), [value] * lanes)


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

    def load(self, array: Any, index: Any, lanes: int = LANES) -> Any:
        """Floats from any place on."""
        pointer = self.builder.bitcast(self.builder.gep(array, [index]), _vector(lanes).as_pointer())
        return self.builder.load(pointer, align=4)

    def load_bytes(self, array: Any, index: Any) -> Any:
        """Bytes from any place on, as floats."""
        pointer = self.builder.bitcast(self.builder.gep(array, [index]), ir.VectorType(ir.IntType(8), LANES).as_pointer())
        # signed, as no byte is negative as 32 bits and unsigned ones take longer
        return self.builder.sitofp(self.builder.zext(self.builder.load(pointer, align=1), ir.VectorType(_INT32, LANES)), _vector(LANES))

    def store(self, vector: Any, array: Any, index: Any, align: int = 4) -> Any:
        pointer = self.builder.bitcast(self.builder.gep(array, [index]), vector.type.as_pointer())
        return self.builder.store(vector, pointer, align=align)

    def shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes))

    def splat(self, value: Any, lanes: int = LANES) -> Any:
        """A vector of one value."""
        undefined = ir.Constant(_vector(lanes), ir.Undefined)
        return self.shuffle(self.builder.insert_element(undefined, value, _INT32(0)), undefined, [0] * lanes)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """One instruction wherever the processor has it. Of a product and a sum that may become one, not all do, and not every time."""
        name, kind = f"llvm.fmuladd.v{a.type.count}f32", ir.FunctionType(a.type, [a.type] * 3)
        return self.builder.call(self.builder.module.declare_intrinsic(name, (), kind), [a, b, c])

    def clamp(self, vector: Any) -> Any:
        """Every lane into [0, 1]."""
        select, compare, lanes = self.builder.select, self.builder.fcmp_ordered, vector.type.count
        zeros, ones = _constant(0.0, lanes), _constant(1.0, lanes)
        vector = select(compare(">", vector, zeros), vector, zeros)
        return select(compare("<", vector, ones), vector, ones)

    def variables(self, values: list[Any]) -> list[Any]:
        """Places that keep a vector through a loop; LLVM turns them into registers."""
        places = [cgutils.alloca_once(self.builder, value.type) for value in values]
        for place, value in zip(places, values, strict=True):
            self.builder.store(value, place)
        return places

    def joined(self, blocks: list[Any]) -> Any:
        """Vectors one after another, as one: as many as a power of two."""
        while len(blocks) > 1:
            lanes = list(range(2 * blocks[0].type.count))
            blocks = [self.shuffle(first, second, lanes) for first, second in zip(blocks[::2], blocks[1::2], strict=True)]
        return blocks[0]

    def transposed_blocks(self, vectors: list[Any]) -> list[Any]:
        """Four vectors of blocks of four floats: block by block, element k of vector j becomes element j of vector k."""
        count = vectors[0].type.count

        def mixed(a: Any, b: Any, places: list[int]) -> Any:
            """Places 0-3 are elements of a's block, 4-7 of b's."""
            lanes = [start + place + (count - _BLOCK) * (place >= _BLOCK) for start in range(0, count, _BLOCK) for place in places]
            return self.shuffle(a, b, lanes)

        low, high = [0, 4, 1, 5], [2, 6, 3, 7]
        (ab, ab_high), (cd, cd_high) = ([mixed(vectors[i], vectors[i + 1], lanes) for lanes in (low, high)] for i in (0, 2))
        low, high = [0, 1, 4, 5], [2, 3, 6, 7]
        return [mixed(a, b, lanes) for a, b in ((ab, cd), (ab_high, cd_high)) for lanes in (low, high)]


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
def prefer_long_vectors(typing):
    """Let LLVM's vectoriser use vectors of LANES in the function that calls this one; left alone, it takes no more than eight."""

    def generate(context, builder, signature, arguments):
        if LANES > PIECE:
            # past llvmlite's own list of attributes, which has none that are written as strings
            set.add(builder.function.attributes, f'"prefer-vector-width"="{32 * LANES}"')
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def transpose_piece(typing, source, start, stride, out, to):
    """out[to + LANES i + j] = source[start + stride j + i]."""

    def generate(context, builder, signature, arguments):
        code = _Code(context, builder, signature, arguments)
        source, start, stride, out, to = code.arguments
        for left in range(0, PIECE, _BLOCK):
            vectors = []
            for j in range(_BLOCK):
                rows = range(j, LANES, _BLOCK)
                vectors.append(code.joined([code.load(source, code.at(start, (stride, row), left), _BLOCK) for row in rows]))
            for i, column in enumerate(code.transposed_blocks(vectors)):
                code.store(column, out, code.at(to, LANES * (left + i)))
        return context.get_dummy_value()

    return types.void(source, _i8, _i8, out, _i8), generate


def _sum_taps(channels: int) -> Any:
    @intrinsic
    def operation(typing, columns, first, weight, taps, x, step, channel, out, to, stride, plane):
        """Eight outputs of LANES rows, from ``x`` on, a multiple of 8, clamped to [0, 1]; of so many of ``step`` channels, from one on.

        out[to + plane c + stride j + i] = sum_k weight[x taps + 8 k + i] columns[LANES (step (first[x + i] + k) + channel + c) + j]
        """

        def generate(context, builder, signature, arguments):
            code = _Code(context, builder, signature, arguments)
            columns, first, weight, taps, x, step, channel, out, to, stride, plane = code.arguments
            step = builder.mul(step, code.index(LANES))
            starts = [code.at(builder.mul(channel, code.index(LANES)), (code.element(first, code.at(x, i)), step)) for i in range(PIECE)]
            weights = builder.mul(x, taps)
            sums = [code.variables([_constant(0.0, LANES)] * PIECE) for _ in range(channels)]
            with cgutils.for_range(builder, taps) as loop:
                for i, start in enumerate(starts):
                    factor = code.splat(code.element(weight, code.at(weights, (loop.index, PIECE), i)))
                    for c in range(channels):
                        pixels = code.load(columns, code.at(start, (loop.index, step), c * LANES))
                        builder.store(code.multiply_add(factor, pixels, builder.load(sums[c][i])), sums[c][i])
            for c, places in enumerate(sums):
                clamped = [code.clamp(builder.load(place)) for place in places]
                halves = [code.transposed_blocks(clamped[left : left + _BLOCK]) for left in range(0, PIECE, _BLOCK)]
                for j, (left, right) in enumerate(zip(*halves, strict=True)):
                    for block in range(0, LANES, _BLOCK):
                        lanes = [start + block + i for start in (0, LANES) for i in range(_BLOCK)]
                        code.store(code.shuffle(left, right, lanes), out, code.at(to, (plane, c), (stride, block + j)))
            return context.get_dummy_value()

        return types.void(columns, first, weight, _i8, _i8, _i8, _i8, out, _i8, _i8, _i8), generate

    return operation


# Processors with the longer vectors have registers for the sums of all channels, which then share their weights.
TOGETHER = 3 if LANES > PIECE else 1
sum_taps = _sum_taps(TOGETHER)
sum_taps_1 = _sum_taps(1)


@intrinsic
def floats_of_bytes(typing, source, start, out, to):
    """out[to + j] = source[start + j], of uint8."""

    def generate(context, builder, signature, arguments):
        code = _Code(context, builder, signature, arguments)
        source, start, out, to = code.arguments
        code.store(code.load_bytes(source, start), out, to)
        return context.get_dummy_value()

    return types.void(source, _i8, out, _i8), generate


def _sum_rows(vectors: int) -> Any:
    @intrinsic
    def operation(typing, source, start, step, weight, at, taps, out, to):
        """out[to + x] = sum_k weight[at + k] source[start + step k + x], for x < LANES * vectors."""

        def generate(context, builder, signature, arguments):
            code = _Code(context, builder, signature, arguments)
            source, start, step, weight, at, taps, out, to = code.arguments
            lanes = [LANES * v for v in range(vectors)]
            sums = code.variables([_constant(0.0, LANES)] * vectors)
            with cgutils.for_range(builder, taps) as loop:
                factor = code.splat(code.element(weight, code.at(at, loop.index)))
                row = code.at(start, (loop.index, step))
                for lane, place in zip(lanes, sums, strict=True):
                    pixels = code.load(source, code.at(row, lane))
                    builder.store(code.multiply_add(factor, pixels, builder.load(place)), place)
            for lane, place in zip(lanes, sums, strict=True):
                code.store(builder.load(place), out, code.at(to, lane))
            return context.get_dummy_value()

        return types.void(source, _i8, _i8, weight, _i8, _i8, out, _i8), generate

    return operation


sum_rows_1 = _sum_rows(1)
sum_rows_8 = _sum_rows(8)


def _symmetric_sum(vectors: int) -> Any:
    @intrinsic
    def operation(typing, source, start, before, after, weight, radius, out, to):
        """out[to + x] = weight[0] s[x] + sum_k weight[k] (s[before[k] + x] + s[after[k] + x]), k from 1 to radius, x < LANES * vectors.

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


symmetric_sum_1 = _symmetric_sum(1)
symmetric_sum_7 = _symmetric_sum(7)


@intrinsic
def interleave(typing, red, green, blue, start, scale, bias, out, to):
    """out[to + 3 j + c] = channel c[start + j] scale[c] + bias[c]."""

    def generate(context, builder, signature, arguments):
        code = _Code(context, builder, signature, arguments)
        *channels, start, scale, bias, out, to = code.arguments
        vectors = []
        for c, channel in enumerate(channels):
            factor, summand = (code.splat(code.element(array, code.index(c))) for array in (scale, bias))
            vectors.append(code.multiply_add(code.load(channel, start), factor, summand))
        # red and green side by side, and blue twice, which makes it as long
        pair, last = code.joined(vectors[:2]), code.joined(vectors[2:] * 2)
        for third in range(3):
            elements = [divmod(third * LANES + lane, 3) for lane in range(LANES)]
            lanes = [c * LANES + j for j, c in elements]
            code.store(code.shuffle(pair, last, lanes), out, code.at(to, third * LANES))
        return context.get_dummy_value()

    return types.void(red, green, blue, _i8, scale, bias, out, _i8), generate


@intrinsic
def stream_row(typing, source, size, scale, bias, out, to):
    """out[to + x] = source[x] scale + bias for x < size, past the caches, for it is not read soon.

    ``size`` is a multiple of 8, and out[to] lies at a multiple of 32 bytes.
    """

    def generate(context, builder, signature, arguments):
        code = _Code(context, builder, signature, arguments)
        source, size, scale, bias, out, to = code.arguments
        scale, bias = code.splat(scale, PIECE), code.splat(bias, PIECE)
        with cgutils.for_range(builder, builder.lshr(size, code.index(3))) as loop:
            x = builder.mul(loop.index, code.index(PIECE))
            vector = code.multiply_add(code.load(source, x, PIECE), scale, bias)
            stored = code.store(vector, out, builder.add(to, x), align=4 * PIECE)
            stored.set_metadata("nontemporal", builder.module.add_metadata([_INT32(1)]))
        return context.get_dummy_value()

    return types.void(source, _i8, types.float32, types.float32, out, _i8), generate


@intrinsic
def weighted_sum_of_three(typing, a, b, c, size, weight_a, weight_b, weight_c):
    """Sum of weight_a a[x] + weight_b b[x] + weight_c c[x] over x < size, a multiple of 8: eight sums, then theirs in a fixed order."""

    def generate(context, builder, signature, arguments):
        code = _Code(context, builder, signature, arguments)
        arrays, size, weights = code.arguments[:3], code.arguments[3], [code.splat(w, PIECE) for w in code.arguments[4:]]
        (total,) = code.variables([_constant(0.0, PIECE)])
        with cgutils.for_range(builder, builder.lshr(size, code.index(3))) as loop:
            x = builder.mul(loop.index, code.index(PIECE))
            value = builder.fmul(weights[0], code.load(arrays[0], x, PIECE))
            for weight, array in zip(weights[1:], arrays[1:], strict=True):
                value = code.multiply_add(weight, code.load(array, x, PIECE), value)
            builder.store(builder.fadd(builder.load(total), value), total)
        lanes = [builder.extract_element(builder.load(total), _INT32(lane)) for lane in range(PIECE)]
        while len(lanes) > 1:
            lanes = [builder.fadd(a, b) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
        return lanes[0]

    return types.float32(a, b, c, _i8, types.float32, types.float32, types.float32), generate
