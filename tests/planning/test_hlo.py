"""Reading programs: products, loops, memory traffic and collectives, all counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from tcm_jax.planning import hlo
from tcm_jax.planning.groups import groups
from tcm_jax.planning.loops import passes
from tcm_jax.planning.work import work


def written(function, *shapes, dtype=jnp.float32) -> str:
    """HLO of a function before compilation."""
    return jax.jit(function).lower(*(jax.ShapeDtypeStruct(s, dtype) for s in shapes)).as_text("hlo")


@pytest.mark.parametrize(
    ("settings", "pairs"),
    [
        ({"window_strides": (1, 1), "padding": "VALID"}, 6 * 6 * 9),
        ({"window_strides": (1, 1), "padding": "SAME"}, (8 * 3 - 2) ** 2),  # each end misses a pixel
        ({"window_strides": (2, 2), "padding": "VALID"}, 3 * 3 * 9),
        ({"window_strides": (1, 1), "padding": "VALID", "rhs_dilation": (2, 2)}, 4 * 4 * 9),
        ({"window_strides": (1, 1), "padding": ((2, 2), (2, 2)), "lhs_dilation": (2, 2)}, (8 * 3) ** 2),
    ],
)
def test_convolutions_cost_the_products_with_pixels_that_exist(settings, pairs):
    def convolve(x, w):
        return jax.lax.conv_general_dilated(x, w, **settings, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    done = work(hlo.parse(written(convolve, (2, 8, 8, 5), (3, 3, 5, 7))))
    assert done.flops == 2 * 2 * pairs * 5 * 7
    assert done.operations[0].f32 == done.flops


def test_grouped_convolution_and_batched_product():
    def grouped(x, w):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=numbers, feature_group_count=5)

    assert work(hlo.parse(written(grouped, (2, 8, 8, 5), (3, 3, 1, 10)))).flops == 2 * 2 * 36 * 9 * 10
    product = written(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), (3, 4, 5), (3, 5, 6), dtype=jnp.bfloat16)
    assert work(hlo.parse(product)).flops == 2 * 3 * 4 * 5 * 6


def test_a_loop_that_may_stop_early_counts_with_its_limit():
    def read(x, w):
        return jax.lax.while_loop(lambda s: (s[0] < 26) & (s[1].sum() > 0), lambda s: (s[0] + 1, s[1] @ w), (0, x))

    done = work(hlo.parse(written(read, (8, 16), (16, 16))))
    assert done.flops == 26 * 2 * 8 * 16 * 16
    assert done.unbounded == []


def test_a_loop_without_a_limit_counts_once_and_is_reported():
    def read(x, w):
        return jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x @ w, x)

    done = work(hlo.parse(written(read, (8, 16), (16, 16))))
    assert done.flops == 2 * 8 * 16 * 16
    assert len(done.unbounded) == 1


def test_loops_in_loops_on_the_cpu_backend():
    def nested(x, w):
        def inner(x, _):
            return jax.lax.fori_loop(0, 3, lambda _, x: x @ w, x), None

        return jax.lax.scan(inner, x, None, length=4)[0]

    shapes = jax.ShapeDtypeStruct((8, 16), jnp.float32), jax.ShapeDtypeStruct((16, 16), jnp.float32)
    module = hlo.parse(jax.jit(nested).lower(*shapes).compile().as_text())
    loops = [(c, x) for c in module.computations.values() for x in c.instructions.values() if x.opcode == "while"]
    assert sorted(passes(module, *loop) or 0 for loop in loops) == [3, 4]
    assert work(module).flops == 12 * 2 * 8 * 16 * 16


# A fusion that reads a slice of a parameter, a buffer that is updated in place, fast memory, and padded tiles.
TRAFFIC = """HloModule m

%sliced (p0: f32[100,8,128], p1: s32[]) -> f32[1,8,128] {
  %p0 = f32[100,8,128]{2,1,0:T(8,128)} parameter(0)
  %p1 = s32[]{:T(128)S(6)} parameter(1)
  ROOT %ds = f32[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%p0, %p1, %p1, %p1), dynamic_slice_sizes={1,8,128}
}

%updated (q0: f32[100,8,128], q1: f32[1,8,128], q2: s32[]) -> f32[100,8,128] {
  %q0 = f32[100,8,128]{2,1,0:T(8,128)} parameter(0)
  %q1 = f32[1,8,128]{2,1,0:T(8,128)} parameter(1)
  %q2 = s32[]{:T(128)S(6)} parameter(2)
  ROOT %dus = f32[100,8,128]{2,1,0:T(8,128)} dynamic-update-slice(%q0, %q1, %q2, %q2, %q2)
}

ENTRY %main (a: f32[100,8,128], i: s32[], n: bf16[3,130]) -> f32[100,8,128] {
  %a = f32[100,8,128]{2,1,0:T(8,128)} parameter(0)
  %i = s32[]{:T(128)S(6)} parameter(1)
  %n = bf16[3,130]{1,0:T(8,128)(2,1)} parameter(2)
  %f = f32[1,8,128]{2,1,0:T(8,128)} fusion(%a, %i), kind=kLoop, calls=%sliced
  %fast = bf16[3,130]{1,0:T(8,128)(2,1)S(1)} copy(%n)
  ROOT %u = f32[100,8,128]{2,1,0:T(8,128)} fusion(%a, %f, %i), kind=kLoop, calls=%updated
}
"""


def test_memory_traffic_counts_slices_tiles_and_main_memory_only():
    traffic = {x.name: x.bytes for x in work(hlo.parse(TRAFFIC)).operations}
    tile = 8 * 128 * 4
    assert traffic == {"f": 2 * tile, "fast": 8 * 256 * 2, "u": 2 * tile}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("replica_groups={{0,1},{2,3}}", ((0, 1), (2, 3))),
        ("replica_groups={}", ((0, 1, 2, 3),)),
        ("replica_groups=[2,2]<=[4]", ((0, 1), (2, 3))),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}", ((0, 1), (2, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}", ((0, 1, 2, 3),)),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=4] {'a':(1)2}", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=4] {'a':(2)2}", ((0, 1), (2, 3))),
    ],
)
def test_groups_of_devices(text, expected):
    x = hlo.Instruction("g", "f32[8]", "all-gather", (), f", channel_id=1, {text}, dimensions={{0}}", "")
    assert groups(x, 4) == expected


def test_chains_of_a_permutation():
    def chains(pairs):
        x = hlo.Instruction("p", "f32[8]", "collective-permute-start", (), f", source_target_pairs={{{pairs}}}", "")
        return groups(x, 6)

    assert chains("{0,1},{1,2},{2,0},{3,4},{4,3}") == ((0, 1, 2), (3, 4))
    assert chains("{1,2},{0,1},{4,5}") == ((0, 1, 2), (4, 5))
    assert chains("{0,0},{1,2}") == ((1, 2), (0,))
    assert chains("") == ((0,),)


# An all-gather that runs beside a loop: started before, carried on in each of the passes, done after.
BESIDE = """HloModule m

%started (s: f32[8]) -> f32[32] {
  %s = f32[8]{0} parameter(0)
  ROOT %g1 = f32[32]{0} all-gather(%s), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
}

%carried (c: f32[8]) -> f32[32] {
  %c = f32[8]{0} parameter(0)
  ROOT %g2 = f32[32]{0} all-gather(%c), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
}

%body (b: (s32[], f32[8])) -> (s32[], f32[8]) {
  %b = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%b), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %x = f32[8]{0} get-tuple-element(%b), index=1
  %f2 = f32[32]{0} fusion(%x), kind=kCustom, calls=%carried
  ROOT %t = (s32[], f32[8]{0}) tuple(%next, %x)
}

%more (m: (s32[], f32[8])) -> pred[] {
  %m = (s32[], f32[8]{0}) parameter(0)
  %j = s32[] get-tuple-element(%m), index=0
  %limit = s32[] constant(5)
  ROOT %less = pred[] compare(%j, %limit), direction=LT
}

ENTRY %main (p: f32[8]) -> (s32[], f32[8]) {
  %p = f32[8]{0} parameter(0)
  %f1 = f32[32]{0} fusion(%p), kind=kCustom, calls=%started
  %zero = s32[] constant(0)
  %init = (s32[], f32[8]{0}) tuple(%zero, %p)
  ROOT %w = (s32[], f32[8]{0}) while(%init), condition=%more, body=%body
}
"""


def test_a_collective_beside_a_loop_counts_once():
    assert work(hlo.parse(BESIDE), 4).sent()["all-gather"] == (1, 96)


def test_unknown_groups_are_an_error():
    x = hlo.Instruction("g", "f32[8]", "all-gather", (), ", replica_groups=everyone", "")
    with pytest.raises(ValueError, match="g: the groups of devices are written as everyone"):
        groups(x, 4)
