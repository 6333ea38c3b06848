"""Traffic of compiled programs: XLA's texts as this machine and the TPU compiler write them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from vqa_jax.planning import hlo

# ruff: noqa: E501 (XLA's lines)
# As the TPU compiler writes: layouts name memory spaces (S(1) is on the chip, none is HBM), one
# collective is spread over several fusions, a reduce-scatter hides in a fusion.
TPU_TEXT = """\
HloModule jit_step, is_scheduled=true, entry_computation_layout={()->f32[]}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}

%start_gather (param: bf16[8,256]) -> (bf16[8,256], bf16[32,256]) {
  %param = bf16[8,256]{1,0:T(8,128)(2,1)} parameter(0)
  %all-gather.1 = bf16[32,256]{1,0:T(8,128)(2,1)} all-gather(%param), channel_id=1, replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}, dimensions={0}, metadata={op_name="jit(step)/gather"}
  ROOT %started = (bf16[8,256]{1,0}, bf16[32,256]{1,0}, u32[]{:S(2)}) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.1 (p0: bf16[8,256], p1: bf16[32,256], p2: f32[64,64]) -> (f32[64,64], bf16[8,256], bf16[32,256]) {
  %p0 = bf16[8,256]{1,0:T(8,128)(2,1)} parameter(0)
  %p1 = bf16[32,256]{1,0:T(8,128)(2,1)} parameter(1)
  %p2 = f32[64,64]{1,0:T(8,128)} parameter(2)
  %all-gather.2 = bf16[32,256]{1,0:T(8,128)(2,1)} all-gather(%p0), channel_id=1, replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}, dimensions={0}
  %twice = f32[64,64]{1,0:T(8,128)} add(%p2, %p2)
  ROOT %both = (f32[64,64]{1,0:T(8,128)}, bf16[8,256]{1,0}, bf16[32,256]{1,0}) tuple(%twice, %p0, %all-gather.2)
}

%finish (q0: bf16[8,256], q1: bf16[32,256]) -> bf16[32,256] {
  %q0 = bf16[8,256]{1,0} parameter(0)
  %q1 = bf16[32,256]{1,0} parameter(1)
  %all-gather.3 = bf16[32,256]{1,0} all-gather(%q0), channel_id=1, replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}, dimensions={0}
  ROOT %done = bf16[32,256]{1,0} custom-call(%q0, %q1, %all-gather.3), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter (input: f32[32,256]) -> f32[8,256] {
  %input = f32[32,256]{1,0} parameter(0)
  %all-reduce.7 = f32[32,256]{1,0} all-reduce(%input), channel_id=7, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  %zero = s32[] constant(0)
  ROOT %own = f32[8,256]{1,0} dynamic-slice(%all-reduce.7, %zero, %zero), dynamic_slice_sizes={8,256}
}

%slice_layer (stack: bf16[6,8,256], i: s32[]) -> bf16[8,256] {
  %stack = bf16[6,8,256]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero.1 = s32[] constant(0)
  %one = bf16[1,8,256]{2,1,0} dynamic-slice(%stack, %i, %zero.1, %zero.1), dynamic_slice_sizes={1,8,256}
  ROOT %layer = bf16[8,256]{1,0} bitcast(%one)
}

%condition (state: (s32[], bf16[6,8,256])) -> pred[] {
  %state = (s32[]{:T(128)}, bf16[6,8,256]{2,1,0}) parameter(0)
  %limit = s32[]{:T(128)} constant(6)
  %count = s32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %less = pred[]{:T(512)} compare(%count, %limit), direction=LT
}

%body (carry: (s32[], bf16[6,8,256])) -> (s32[], bf16[6,8,256]) {
  %carry = (s32[]{:T(128)}, bf16[6,8,256]{2,1,0}) parameter(0)
  %n = s32[]{:T(128)S(2)} get-tuple-element(%carry), index=0
  %weights = bf16[6,8,256]{2,1,0} get-tuple-element(%carry), index=1
  %fetched = bf16[8,256]{1,0:T(8,128)(2,1)S(1)} fusion(%weights, %n), kind=kLoop, calls=%slice_layer
  %begin = (bf16[8,256]{1,0:S(1)}, bf16[32,256]{1,0:S(1)}, u32[]{:S(2)}) fusion(%fetched), kind=kCustom, calls=%start_gather
  %src = bf16[8,256]{1,0:S(1)} get-tuple-element(%begin), index=0
  %dst = bf16[32,256]{1,0:S(1)} get-tuple-element(%begin), index=1
  %other = f32[64,64]{1,0:T(8,128)} broadcast(%n), dimensions={}
  %going = (f32[64,64]{1,0:T(8,128)}, bf16[8,256]{1,0:S(1)}, bf16[32,256]{1,0:S(1)}) fusion(%src, %dst, %other), kind=kOutput, calls=%async_collective_fusion.1
  %whole = bf16[32,256]{1,0:S(1)} fusion(%src, %dst), kind=kCustom, calls=%finish
  %kernel = f32[16,16]{1,0:T(8,128)} custom-call(%other), custom_call_target="tpu_custom_call", backend_config={"note":{
 "metadata":"over lines"
}}, metadata={op_name="kernel"}
  %slice-start.1 = ((f32[64,64]{1,0:T(8,128)}), f32[8,64]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%other), slice={[0:8], [0:64]}
  %slice-done.1 = f32[8,64]{1,0:T(8,128)S(1)} slice-done(%slice-start.1)
  ROOT %next = (s32[]{:T(128)}, bf16[6,8,256]{2,1,0}) tuple(%n, %weights)
}

ENTRY %main (w: bf16[6,8,256], g: f32[32,256]) -> f32[8,256] {
  %w = bf16[6,8,256]{2,1,0} parameter(0)
  %g = f32[32,256]{1,0} parameter(1)
  %start = s32[]{:T(128)} constant(0)
  %init = (s32[]{:T(128)}, /*index=1*/bf16[6,8,256]{2,1,0}) tuple(%start, %w)
  %loop = (s32[]{:T(128)}, bf16[6,8,256]{2,1,0}) while(%init), condition=%condition, body=%body
  %exchanged = f32[32,256]{1,0:S(1)} all-to-all(%g), channel_id=9, replica_groups=[2,4]<=[8], dimensions={0}
  %total = f32[]{:T(128)S(2)} all-reduce(%start), channel_id=8, replica_groups=mesh['a'=2,'b'=4] {'a','b':(2)2}, to_apply=%add
  ROOT %reduced = f32[8,256]{1,0} fusion(%g), kind=kCustom, calls=%all-reduce-scatter
}
"""


@pytest.fixture(scope="module")
def traffic():
    return hlo.traffic(TPU_TEXT)


def test_a_collective_in_pieces_counts_once_a_round(traffic):
    gathers = [c for c in traffic.collectives if c.kind == "all-gather"]
    assert len(gathers) == 1
    (gather,) = gathers
    assert (gather.times, gather.group, gather.size) == (6, 4, 32 * 256 * 2)
    assert gather.sent == 6 * 32 * 256 * 2 * 3 / 4
    assert gather.source == "jit(step)/gather"


def test_kinds_groups_and_bytes(traffic):
    by_kind = {c.kind: c for c in traffic.collectives}
    scattered = by_kind["reduce-scatter"]
    assert (scattered.group, scattered.sent) == (4, 32 * 256 * 4 * 3 / 4)
    assert (by_kind["all-to-all"].group, by_kind["all-to-all"].sent) == (4, 32 * 256 * 4 * 3 / 4)
    assert (by_kind["all-reduce"].group, by_kind["all-reduce"].sent) == (4, 2 * 4 * 3 / 4)
    assert traffic.interconnect == sum(c.sent for c in traffic.collectives)
    row = {"count": 6, "gigabytes": by_kind["all-gather"].sent / 1e9}
    assert traffic.by_kind()["all-gather"] == row


def test_hbm_counts_slices_rounds_and_no_memory_on_the_chip(traffic):
    layer = 8 * 256 * 2
    round_bytes = (
        layer  # one layer of the stack is read; it is fetched and gathered on the chip
        + 64 * 64 * 4  # written by the broadcast
        + 2 * 64 * 64 * 4  # read and written beside the collective
        + (64 * 64 + 16 * 16) * 4  # what the kernel is given and gives
        + 8 * 64 * 4  # the slice that is fetched
    )
    outside = (
        32 * 256 * 4  # the exchanged array is read from HBM
        + 4  # the scalar
        + (32 * 256 + 8 * 256) * 4  # the gradient and its slice
    )
    assert traffic.hbm == 6 * round_bytes + outside


def test_compiled_here_loops_and_groups_are_found():
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "fsdp"))

    def local(w, x):
        def body(carry, layer):
            whole = jax.lax.all_gather(layer, "fsdp", axis=0, tiled=True)
            return jnp.sin(carry @ whole), None

        out, _ = jax.lax.scan(body, x, w)
        return jax.lax.psum(out, ("data", "fsdp"))

    sharded = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(PartitionSpec(None, "fsdp"), PartitionSpec(("data", "fsdp"))),
        out_specs=PartitionSpec(),
    )
    w, x = jax.ShapeDtypeStruct((5, 64, 64), jnp.float32), jax.ShapeDtypeStruct((8, 64), "float32")
    found = hlo.traffic(jax.jit(sharded).lower(w, x).compile().as_text())
    by_kind = {c.kind: c for c in found.collectives}
    gather, total = by_kind["all-gather"], by_kind["all-reduce"]
    assert (gather.times, gather.group, gather.size) == (5, 4, 64 * 64 * 4)
    assert (total.times, total.group, total.size) == (1, 8, 64 * 4)
    assert found.interconnect == pytest.approx(5 * 64 * 64 * 4 * 3 / 4 + 2 * 64 * 4 * 7 / 8)
    assert found.hbm > 5 * 2 * 64 * 64 * 4  # each gathered matrix is written and read


# As libtpu writes a sum over two slices, which is scattered and gathered within each.
SLICES_TEXT = """\
HloModule jit_step, is_scheduled=true

%body (p: (s32[], f32[64,8])) -> (s32[], f32[64,8]) {
  %p = (s32[], f32[64,8]{1,0}) parameter(0)
  %mine = f32[64,8]{1,0} get-tuple-element(%p), index=1
  %after-all = token[] after-all(), frontend_attributes={MegascaleRendezvousKeyName="all-reduce_0"}
  %send = (f32[64,8]{1,0}, u32[]{:S(2)}, token[]) send(%mine, %after-all), channel_id=2, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_transfer_type="ALL_REDUCE"}
  %send-done = token[] send-done(%send), channel_id=2, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %next = (s32[], f32[64,8]{1,0}) tuple(%i, %mine)
}

%condition (p: (s32[], f32[64,8])) -> pred[] {
  %p = (s32[], f32[64,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %limit = s32[] constant(3)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (a: (s32[], f32[64,8])) -> (s32[], f32[64,8]) {
  %a = (s32[], f32[64,8]{1,0}) parameter(0)
  ROOT %loop = (s32[], f32[64,8]{1,0}) while(%a), condition=%condition, body=%body
}
"""


def test_what_goes_to_other_slices_is_counted_in_loops():
    found = hlo.traffic(SLICES_TEXT)
    assert found.network == 3 * 64 * 8 * 4 and found.interconnect == 0


def test_not_a_program():
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.Program("nothing")
