"""A roofline model of inference latency: the mean of `auto`'s Gaussian process, and the ratios it looks at.

Notation (all arrays (n,), one entry a cell; seconds, bytes, tokens):
    ii, oo, bb      input tokens, output tokens, batch size or concurrency
    W, W_act(bb)    weight bytes; those that one decoding step reads (a mixture of E experts, k a token, reads the share
                    1 - (1 - k/E)^bb of its experts)
    P               parameters active per token
    kv              bytes of key-value cache a token takes: 2 × layers × kv_heads × head_dim × 2
    D, BW, F, M     devices, and memory bandwidth, peak FLOP/s and memory of all of them together; of replicas that
                    share the load, all of this is of one, and bb its part
    c(tokens)       tokens of context that a layer keeps, in the mean: fewer than all where layers have a window
    b_eff, waves    when the cache of bb sequences exceeds what the weights leave free, the work goes in waves:
                    waves = (1 + (demand / capacity)^3)^(1/3), b_eff = bb / waves

    step     = W_act / BW + b_eff · kv · c(ii + oo/2) / BW + 2 P b_eff / F + layers · overhead(D)
    prefill  = b_eff · (2 P ii + 2 layers · hidden · ii · c(ii)) / F + W / BW + layers · overhead(D)
    e2e      = waves · (prefill + oo · step),  ttft = waves · prefill,  tpot = step: who waits has not begun to decode

In a closed loop each user's prefill runs once in each other user's request: the same sum.

Source: the roofline model (Williams, Waterman, Patterson 2009) applied to the two phases of a decoder; peaks are taken
at fixed shares that a device reaches in practice. Everything a real system adds is left to the process on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fewmark.tables.arrays import FloatArray

MEMORY_SHARE: Final = 0.7  # of the peak bandwidth that is reached
COMPUTE_SHARE: Final = 0.5
OVERHEAD_S: Final = 15e-6  # per layer and step: kernel launches
COMMUNICATION_S: Final = 15e-6  # per layer and step with more than one device: two reductions
USABLE_MEMORY: Final = 0.9
LATENCY_TARGETS: Final = ("e2e_latency_s", "ttft_s", "tpot_s")

FEATURES: Final = (
    "log2_input", "log2_output", "log2_load", "kv_to_weights", "compute_to_memory", "overhead_to_memory",
    "pressure", "prefill_to_decode",
)  # fmt: skip
SHARES: Final = ("memory", "compute", "overhead", "cache")


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the roofline needs of each cell's deployment, arrays (n,)."""

    weights: FloatArray  # bytes
    parameters: FloatArray
    active_parameters: FloatArray
    experts_share: FloatArray  # share of the weights that sits in experts
    expert_ratio: FloatArray  # experts a token uses / experts
    kv_per_token: FloatArray  # bytes
    layers: FloatArray
    hidden: FloatArray
    devices: FloatArray
    bandwidth: FloatArray  # of all devices, bytes/s
    flops: FloatArray  # of all devices
    memory: FloatArray  # of all devices, bytes
    replicas: FloatArray  # deployments alike that share the load; all else is of one of them
    window: FloatArray  # tokens to which layers attend that do not attend to all
    full_layers: FloatArray  # share of layers that attend to all

    def context(self, tokens: FloatArray) -> FloatArray:
        """Tokens of which a layer keeps keys and values, in the mean over layers."""
        return self.full_layers * tokens + (1.0 - self.full_layers) * np.minimum(tokens, self.window)

    def take(self, index: NDArray[np.intp]) -> Hardware:
        """The deployments at these positions: from one row a deployment to one row a cell."""
        return Hardware(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


@dataclass(frozen=True, slots=True)
class Roofline:
    """Log latency (n,), the features (n, len(FEATURES)) in octaves, the shares of time (n, len(SHARES))."""

    log_latency: FloatArray
    features: FloatArray
    shares: FloatArray


def roofline(
    ii: FloatArray, oo: FloatArray, bb: FloatArray, hardware: Hardware, latency: str, loop: NDArray[np.bool_]
) -> Roofline:
    """The roofline of each cell for one of `LATENCY_TARGETS`; see the notation above. `loop` (n,): in a closed loop."""
    h, bb = hardware, np.maximum(bb / hardware.replicas, np.minimum(bb, 1.0))
    bandwidth, flops = MEMORY_SHARE * h.bandwidth, COMPUTE_SHARE * h.flops
    demand = bb * h.context(ii + oo) * h.kv_per_token
    # a device that the weights alone would fill still runs, by means unknown: leave it a twentieth of its memory
    capacity = np.maximum(USABLE_MEMORY * h.memory - h.weights, 0.05 * h.memory)
    waves = np.cbrt(1.0 + (demand / capacity) ** 3)
    b_eff = bb / waves
    overhead = h.layers * (OVERHEAD_S + np.where(h.devices > 1, COMMUNICATION_S, 0.0))
    touched = 1.0 - (1.0 - np.minimum(h.expert_ratio, 1.0)) ** np.maximum(b_eff, 1.0)
    read = h.weights * (1.0 - h.experts_share + h.experts_share * touched) / bandwidth
    cache = b_eff * h.kv_per_token * h.context(ii + oo / 2) / bandwidth
    arithmetic = 2.0 * h.active_parameters * b_eff / flops
    attention = 2.0 * h.layers * h.hidden * ii * h.context(ii)
    prefill_compute = b_eff * (2.0 * h.active_parameters * ii + attention) / flops
    prefill_read = h.weights / bandwidth
    zero = np.zeros_like(bb)
    if latency == "ttft_s":
        parts = [prefill_read, prefill_compute, overhead, zero]
    elif latency == "tpot_s":
        parts = [read, arithmetic, overhead, cache]
    else:
        parts = [prefill_read + oo * read, prefill_compute + oo * arithmetic, overhead * (1 + oo), oo * cache]
    total = parts[0] + parts[1] + parts[2] + parts[3]
    log_latency = np.log(total if latency == "tpot_s" else total * waves)
    # the ratios are those of one decoding step over all: they mean the same for each target
    ratios = [
        cache / read, (prefill_compute / oo + arithmetic) / read, overhead / read,
        prefill_compute / (oo * (read + cache + arithmetic + overhead)),
    ]  # fmt: skip
    if latency == "ttft_s":  # but a batch that starts together has not decoded anything before its first token
        alone = [zero, prefill_compute / prefill_read, overhead / prefill_read, attention / h.active_parameters / ii]
        ratios = [np.where(loop, ratio, own) for ratio, own in zip(ratios, alone, strict=True)]
    kv, compute, launches, decode = (_soft_log2(ratio) for ratio in ratios)
    features = np.column_stack([np.log2(ii), np.log2(oo), np.log2(bb), kv, compute, launches, np.log2(waves), decode])
    return Roofline(log_latency, features, np.column_stack(parts) / total[:, None])


def log_floor(ii: FloatArray, oo: FloatArray, hardware: Hardware, latency: str) -> FloatArray:
    """The log of the least seconds that a cell of so many tokens can take at the published peaks, (n,).

    A prompt costs its arithmetic and one reading of the weights that a token uses, a decoding step that reading.
    """
    h = hardware
    read = h.weights * (1.0 - h.experts_share * (1.0 - np.minimum(h.expert_ratio, 1.0))) / h.bandwidth
    prefill = np.maximum(read, 2.0 * h.active_parameters * ii / h.flops)
    least = {"ttft_s": prefill, "tpot_s": read}.get(latency, prefill + (oo - 1.0) * read)
    return np.asarray(np.log(least))


def _soft_log2(ratio: FloatArray) -> FloatArray:
    """log2(1/16 + ratio): below a sixteenth a part no longer matters."""
    return np.asarray(np.log2(0.0625 + ratio), dtype=np.float64)
