"""How fast a run is, as metrics."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tcm_jax.planning import chips, hlo
from tcm_jax.planning.work import work
from tcm_jax.training.program import train_program
from tcm_jax.training.task import Task

Parse = Callable[[Mapping[str, Any]], Task]


def model_flops(config: Mapping[str, Any], mesh: jax.sharding.Mesh, parse: Parse) -> float:
    """Floating-point operations of one optimizer step on the global batch, without those that rematerialisation repeats
    (PaLM, appendix B).
    """
    program = train_program(parse({**config, "remat": "none"}), mesh, records=config["batch"])
    return work(hlo.parse(program.lower().as_text("hlo"))).flops


def speed_metrics(
    config: Mapping[str, Any], mesh: jax.sharding.Mesh, parse: Parse
) -> Callable[[float], dict[str, float]]:
    """The function from images per second to metrics: "step_time" in seconds, "images_per_second_per_device", and on a
    chip of `planning.chips` "mfu", the model FLOPs utilisation: `model_flops` as a share of the chips' peak rate.
    """
    batch = config["batch"]
    chip = chips.find(mesh.devices.flat[0].device_kind)
    mfu_per_rate = 0.0
    if chip is not None:
        peak = chip.bf16 if parse(config).config.compute_dtype == jnp.bfloat16 else chip.f32
        mfu_per_rate = model_flops(config, mesh, parse) / batch / (peak * mesh.size)

    def metrics(images_per_second: float) -> dict[str, float]:
        values = {
            "step_time": batch / max(images_per_second, 1e-9),
            "images_per_second_per_device": images_per_second / mesh.size,
        }
        return values | ({"mfu": images_per_second * mfu_per_rate} if chip else {})

    return metrics
