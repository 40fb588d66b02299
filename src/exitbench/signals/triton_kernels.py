"""GPU kernels of the fused readout: hidden states times head, reduced tile by tile before anything reaches memory.

A program takes one tile of rows and walks along one stretch of the vocabulary. For each tile of logits it runs the
product over D in a pipelined loop on the tensor cores, finishes the logits in registers (bias, scale, soft-cap,
rounding) and folds them into a few running numbers a row. `triton_readout` launches the kernels and merges the
stretches.

Programs are numbered so that those running at the same time share few row tiles and few stretches: each then reads what
its neighbours have just brought into the L2 cache. Operands come through tensor descriptors (TMA on Hopper), which also
fill with zeros beyond the edges and leave registers to the logits.

What a tile costs beside its product is registers and instructions: 34 a logit in pass 1 (Hopper's machine code, two
ids looked up). By that count the tensor cores wait for a fifth of the time at D = 2048 and a sixteenth at 8192. Hence
no masks but in the last tile, columns counted from the tile's start, and no sum that follows from others.

Triton's interpreter, in which the kernels run without a GPU, truncates where a GPU rounds to bfloat16 and multiplies
bfloat16 matrices wrongly. `INTERPRETED` marks the one place that differs for it; operands are float32 copies there.

Shapes: R rows, D hidden size, V vocabulary, S stretches of the vocabulary, K ids to look up.
"""

import triton
import triton.language as tl
from triton import knobs

__all__ = ["INTERPRETED", "compare_kernel", "reduce_kernel"]

INTERPRETED = knobs.runtime.interpret
"""Whether kernels run in Triton's interpreter; decided when triton is first imported."""

_ROW_TILES_AT_ONCE = tl.constexpr(8)
_NO_LOGIT = tl.constexpr(-1e30)  # finite, so that 0 times it is 0


def _set_blocks(arguments):
    """Give the descriptors the block shapes of a configuration."""
    for name in ("hidden", "final_hidden"):
        if name in arguments:
            arguments[name].block_shape = [arguments["BLOCK_R"], arguments["BLOCK_D"]]
    arguments["weight"].block_shape = [arguments["BLOCK_V"], arguments["BLOCK_D"]]


def _configs(*choices):
    """Configurations to choose from, each (rows, columns, warps, stages); a tiny one alone for the interpreter."""
    if INTERPRETED:
        blocks = {"BLOCK_R": 16, "BLOCK_V": 128, "BLOCK_D": 32}
        return [triton.Config(blocks, pre_hook=_set_blocks)]
    return [
        triton.Config(
            {"BLOCK_R": rows, "BLOCK_V": columns, "BLOCK_D": 64},
            num_warps=num_warps,
            num_stages=num_stages,
            pre_hook=_set_blocks,
        )
        for rows, columns, num_warps, num_stages in choices
    ]


@triton.jit
def _place(R, num_stretches, BLOCK_R: tl.constexpr):
    """Row tile and stretch of this program: a few row tiles with all their stretches, then the next few."""
    program = tl.program_id(0)
    num_row_tiles = tl.cdiv(R, BLOCK_R)
    per_group = _ROW_TILES_AT_ONCE * num_stretches
    first = program // per_group * _ROW_TILES_AT_ONCE
    in_group = min(num_row_tiles - first, _ROW_TILES_AT_ONCE)
    inside = program % per_group
    return first + inside % in_group, inside // in_group


@triton.jit
def _rounded(x, OUTPUT: tl.constexpr, INTERPRETED: tl.constexpr):
    """Float32 `x` rounded to the nearest number of the output dtype, to even between two."""
    if INTERPRETED and OUTPUT == tl.bfloat16:
        bits = x.to(tl.int32, bitcast=True)
        even = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
        return tl.where(x == x, even.to(tl.float32, bitcast=True), x)
    return x.to(OUTPUT).to(tl.float32)


@triton.jit
def _tanh(x):
    """Hyperbolic tangent within a few float32 roundings: a series near 0, where the quotient cancels."""
    square = x * x
    series = x * (1 + square * (-1 / 3 + square * (2 / 15 + square * (-17 / 315 + square * (62 / 2835)))))
    decay = tl.exp(-2 * tl.abs(x))
    quotient = (1 - decay) / (1 + decay)
    return tl.where(square < 0.0625, series, tl.where(x < 0, -quotient, quotient))


@triton.jit
def _within(x, start, V, other):
    """Tile `x` with `other` in the columns beyond V, which only the last tile has; masks would cost all registers."""
    if start + x.shape[1] > V:
        x = tl.where((start + tl.arange(0, x.shape[1]) < V)[None, :], x, other)
    return x


@triton.jit
def _logits(
    product,
    start,
    bias_ptr,
    V,
    SCALE: tl.constexpr,
    SOFTCAP: tl.constexpr,
    OUTPUT: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Logits of a tile from the product, rounded after every step as torch does in that dtype; 0 beyond V."""
    if bias_ptr is not None:
        columns = start + tl.arange(0, product.shape[1])
        product += tl.load(bias_ptr + columns, mask=columns < V, other=0.0).to(tl.float32)[None, :]
    x = _rounded(product, OUTPUT, INTERPRETED)
    if SCALE != 1.0:
        x = _rounded(x * SCALE, OUTPUT, INTERPRETED)
    if SOFTCAP is not None:
        x = _rounded(_tanh(_rounded(x / SOFTCAP, OUTPUT, INTERPRETED)), OUTPUT, INTERPRETED)
        x = _rounded(x * SOFTCAP, OUTPUT, INTERPRETED)
    return x


@triton.jit
def _look_up(x, start, V, rows, inside, ids_ptr, at_ptr, NUM_IDS: tl.constexpr):
    """Store the logits at each row's ids, where this tile has them."""
    columns = tl.arange(0, x.shape[1])[None, :]
    for k in tl.static_range(NUM_IDS):
        wanted = tl.load(ids_ptr + rows * NUM_IDS + k, mask=inside, other=-1)
        found = (wanted >= start) & (wanted < min(start + x.shape[1], V))
        at = tl.sum(tl.where(columns == (wanted - start)[:, None], x, 0.0), 1)
        tl.store(at_ptr + rows * NUM_IDS + k, at, mask=found)


@triton.jit
def _best_two(x):
    """Largest logit of a tile's rows, its column, the lowest of those tied, and the largest of the other columns."""
    columns = tl.arange(0, x.shape[1])[None, :]
    top = tl.max(x, 1)
    column = tl.min(tl.where(x == top[:, None], columns, x.shape[1] - 1), 1)
    return top, column, tl.max(tl.where(columns == column[:, None], _NO_LOGIT, x), 1)


@triton.jit
def _sums_at(x, higher, top, total, weighted):
    """Sums of exp(x - higher) and of it times x - higher: a tile's, and those so far, which are of x - top."""
    drop = top - higher
    shifted = x - higher[:, None]
    exponential = tl.exp(shifted)
    weighted = tl.exp(drop) * (weighted + drop * total) + tl.sum(exponential * shifted, 1)
    return tl.exp(drop) * total + tl.sum(exponential, 1), weighted


@triton.autotune(
    configs=_configs((128, 256, 8, 3), (128, 256, 8, 4), (128, 128, 8, 4), (128, 128, 4, 3), (64, 256, 4, 3)),
    key=["V", "D", "num_stretches"],
)
@triton.jit
def reduce_kernel(
    hidden,  # descriptor of (R, D)
    weight,  # descriptor of (V, D)
    bias_ptr,  # (V,) or None
    ids_ptr,  # (R, K)
    at_ptr,  # (R, K): logits at those ids; untouched where the id is out of range
    part_ptr,  # (6, S, R) float32: top, second, sum, weighted sum, mean, centred square
    top_id_ptr,  # (S, R) int32
    R,
    V,
    D,
    stretch,  # ids a stretch, a multiple of BLOCK_V
    num_stretches,
    NUM_IDS: tl.constexpr,
    SCALE: tl.constexpr,
    SOFTCAP: tl.constexpr,
    OUTPUT: tl.constexpr,
    INTERPRETED: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Reduce the logits of a row tile over one stretch of the vocabulary."""
    row_tile, index = _place(R, num_stretches, BLOCK_R)
    rows = row_tile * BLOCK_R + tl.arange(0, BLOCK_R)
    inside = rows < R
    top = tl.full((BLOCK_R,), _NO_LOGIT, tl.float32)
    second = top
    top_id = tl.zeros((BLOCK_R,), tl.int32)
    total = tl.zeros((BLOCK_R,), tl.float32)  # of exp(x - top)
    weighted = total  # of exp(x - top) * (x - top)
    mean = total
    square = total  # of (x - mean)**2
    for start in range(index * stretch, min(index * stretch + stretch, V), BLOCK_V):
        product = tl.zeros((BLOCK_R, BLOCK_V), tl.float32)
        for d in range(0, D, BLOCK_D):
            product = tl.dot(hidden.load([row_tile * BLOCK_R, d]), weight.load([start, d]).T, product)
        x = _logits(product, start, bias_ptr, V, SCALE, SOFTCAP, OUTPUT, INTERPRETED)
        num_here = tl.minimum(V - start, BLOCK_V)
        tile_mean = tl.sum(x, 1) / num_here  # x is 0 beyond V
        x = _within(x, start, V, _NO_LOGIT)

        _look_up(x, start, V, rows, inside, ids_ptr, at_ptr, NUM_IDS)
        tile_top, tile_id, tile_second = _best_two(x)
        second = tl.maximum(tl.maximum(second, tile_second), tl.minimum(top, tile_top))
        top_id = tl.where(tile_top > top, start + tile_id, top_id)
        higher = tl.maximum(top, tile_top)
        total, weighted = _sums_at(x, higher, top, total, weighted)
        top = higher
        share = num_here / (start - index * stretch + num_here)
        centred = _within(x - tile_mean[:, None], start, V, 0.0)
        # Chan, Golub and LeVeque: the tile's mean and centred square merged with those of the tiles before it.
        gap = tile_mean - mean
        square += tl.sum(centred * centred, 1) + gap * gap * (1 - share) * num_here
        mean += gap * share

    part = part_ptr + index * R + rows
    plane = num_stretches * R
    tl.store(part, top, mask=inside)
    tl.store(part + plane, second, mask=inside)
    tl.store(part + 2 * plane, total, mask=inside)
    tl.store(part + 3 * plane, weighted, mask=inside)
    tl.store(part + 4 * plane, mean, mask=inside)
    tl.store(part + 5 * plane, square, mask=inside)
    tl.store(top_id_ptr + index * R + rows, top_id, mask=inside)


@triton.autotune(
    configs=_configs((128, 128, 8, 3), (128, 128, 8, 4), (64, 256, 8, 3), (64, 128, 4, 3)),
    key=["V", "D", "num_stretches"],
)
@triton.jit
def compare_kernel(
    hidden,  # descriptor of (R, D)
    final_hidden,  # descriptor of (R, D)
    weight,  # descriptor of (V, D)
    bias_ptr,  # (V,) or None
    known_ptr,  # (7, R) float32: own top, log-normaliser, mean; the same of the final; own logit at the final top id
    final_top_id_ptr,  # (R,) int32
    part_ptr,  # (4, S, R) float32: surprise, total variation, logits above, centred product
    R,
    V,
    D,
    stretch,  # ids a stretch, a multiple of BLOCK_V
    num_stretches,
    SCALE: tl.constexpr,
    SOFTCAP: tl.constexpr,
    OUTPUT: tl.constexpr,
    INTERPRETED: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Compare the logits of a row tile with the final ones over one stretch of the vocabulary."""
    row_tile, index = _place(R, num_stretches, BLOCK_R)
    rows = row_tile * BLOCK_R + tl.arange(0, BLOCK_R)
    inside = rows < R
    known = known_ptr + rows
    top = tl.load(known, mask=inside, other=0.0)
    log_normaliser = tl.load(known + R, mask=inside, other=0.0)
    mean = tl.load(known + 2 * R, mask=inside, other=0.0)
    final_top = tl.load(known + 3 * R, mask=inside, other=0.0)
    final_log_normaliser = tl.load(known + 4 * R, mask=inside, other=0.0)
    final_mean = tl.load(known + 5 * R, mask=inside, other=0.0)
    of_final_top = tl.load(known + 6 * R, mask=inside, other=0.0)
    final_top_id = tl.load(final_top_id_ptr + rows, mask=inside, other=0)
    surprise = tl.zeros((BLOCK_R,), tl.float32)
    distance = surprise
    above = surprise
    covariance = surprise
    columns = tl.arange(0, BLOCK_V)[None, :]
    for start in range(index * stretch, min(index * stretch + stretch, V), BLOCK_V):
        product = tl.zeros((BLOCK_R, BLOCK_V), tl.float32)
        final_product = tl.zeros((BLOCK_R, BLOCK_V), tl.float32)
        for d in range(0, D, BLOCK_D):
            transposed = weight.load([start, d]).T
            product = tl.dot(hidden.load([row_tile * BLOCK_R, d]), transposed, product)
            final_product = tl.dot(final_hidden.load([row_tile * BLOCK_R, d]), transposed, final_product)
        x = _logits(product, start, bias_ptr, V, SCALE, SOFTCAP, OUTPUT, INTERPRETED)
        final_x = _logits(final_product, start, bias_ptr, V, SCALE, SOFTCAP, OUTPUT, INTERPRETED)
        x, final_x = _within(x, start, V, _NO_LOGIT), _within(final_x, start, V, _NO_LOGIT)

        shifted = x - top[:, None]
        final_shifted = final_x - final_top[:, None]
        probability = tl.exp(shifted - log_normaliser[:, None])
        final_probability = tl.exp(final_shifted - final_log_normaliser[:, None])
        surprise += tl.sum(final_probability * (final_shifted - shifted), 1)
        distance += tl.sum(tl.abs(probability - final_probability), 1)
        # The id itself is left out by name: its logit may be rounded otherwise in another pass.
        higher = (x > of_final_top[:, None]) & (columns != (final_top_id - start)[:, None])
        above += tl.sum(tl.where(higher, 1.0, 0.0), 1)
        centred = _within(shifted - mean[:, None], start, V, 0.0)
        covariance += tl.sum(centred * (final_shifted - final_mean[:, None]), 1)

    part = part_ptr + index * R + rows
    plane = num_stretches * R
    tl.store(part, surprise, mask=inside)
    tl.store(part + plane, distance * 0.5, mask=inside)
    tl.store(part + 2 * plane, above, mask=inside)
    tl.store(part + 3 * plane, covariance, mask=inside)
