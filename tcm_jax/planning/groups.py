"""The groups of devices of a collective, from the three ways in which HLO writes them."""

import math
import re

import numpy as np

from tcm_jax.planning.hlo import Instruction

_IOTA = re.compile(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"mesh\[(.*?)\](?:, device_ids=\((.*?\)?)\))? \{(.*?)\}")
_ORDER = re.compile(r"\[([\d,]+)\](?:T\(([\d,]+)\))?")


def groups(x: Instruction, devices: int) -> tuple[tuple[int, ...], ...]:
    """The groups of devices within which a collective exchanges data.

    Returns:
        numbers of devices in the order of the mesh; of a `collective-permute` each ring or chain of senders and
        receivers.

    Raises:
        ValueError: HLO writes them in an unknown way.
    """
    if x.opcode.startswith("collective-permute"):
        pairs = re.findall(r"\{(\d+),(\d+)\}", x.attribute("source_target_pairs") or "")
        return _chains({int(a): int(b) for a, b in pairs})
    found = re.search(r"replica_groups=", x.attributes)
    text = x.attributes[found.end() :] if found else "{}"
    if iota := _IOTA.match(text):
        return _rows(_iota(iota[2], iota[3]).reshape(_numbers(iota[1])))
    if mesh := _MESH.match(text):
        return _mesh_groups(mesh[1], mesh[2], mesh[3])
    listed = re.match(r"\{((?:\{[\d,]*\},?)*)\}", text)
    if not listed:
        raise ValueError(f"{x.name}: the groups of devices are written as {text[:80]}, which is unknown here")
    rows = [tuple(_numbers(row)) for row in re.findall(r"\{([\d,]+)\}", listed[1])]
    return tuple(rows) or (tuple(range(devices)),)


def _chains(receivers: dict[int, int]) -> tuple[tuple[int, ...], ...]:
    """Rings and chains of devices, from the receiver of each sender."""
    starts = [device for device in receivers if device not in receivers.values()]  # of chains; the rest are rings
    chains: list[tuple[int, ...]] = []
    seen: set[int] = set()
    for first in (*starts, *receivers):
        chain: list[int] = []
        device: int | None = first
        while device is not None and device not in seen:
            chain.append(device)
            seen.add(device)
            device = receivers.get(device)
        if chain:
            chains.append(tuple(chain))
    return tuple(chains) or ((0,),)


def _mesh_groups(axes: str, order: str | None, along: str) -> tuple[tuple[int, ...], ...]:
    """Groups along some axes of a mesh, as in "'a'=4,'b'=2" and "'a'", or along a part of an axis: "'a':(2)2" are the
    2 minor positions of the 4, with 2 major ones before them.
    """
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", axes)}
    devices = np.arange(math.prod(sizes.values()))
    if order:
        found = _ORDER.match(order)
        devices = _iota(found[1], found[2]) if found else np.array(_numbers(order))
    shape, taken, i = [], [], 0
    parts = {name: (int(before), int(size)) for name, before, size in re.findall(r"'([^']+)':\((\d+)\)(\d+)", along)}
    whole_axes = re.findall(r"'([^']+)'(?!:)", along)
    for name, size in sizes.items():
        if name in parts:
            before, inner = parts[name]
            shape += [before, inner, size // before // inner]
            taken.append(i + 1)
            i += 3
        else:
            shape.append(size)
            taken += [i] if name in whole_axes else []
            i += 1
    rest = [j for j in range(len(shape)) if j not in taken]
    members = math.prod(shape[j] for j in taken)
    return _rows(devices.reshape(shape).transpose(rest + taken).reshape(-1, members))


def _iota(shape: str, order: str | None) -> np.ndarray:
    """The numbers from 0 on, in a shape whose dimensions are transposed to `order`, as a vector."""
    dims = _numbers(shape)
    numbers = np.arange(math.prod(dims)).reshape(dims)
    return (numbers.transpose(_numbers(order)) if order else numbers).reshape(-1)


def _rows(table: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(i) for i in row) for row in table)


def _numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]
