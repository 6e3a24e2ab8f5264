"""DeepSpeed: `init_inference` where the weights stay with the arithmetic, ZeRO-Inference where they live elsewhere.

The placement decides: ``accelerator`` runs `deepspeed.init_inference` (without kernel injection, which exists for few
models); ``cpu`` and ``disk`` run ZeRO stage 3 with the parameters offloaded to host memory or to files. Models, options
and the way of timing are those of the transformers engine. Files are read past the page cache (libaio, O_DIRECT).
"""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from fewmark.core.json_types import Json, JsonObject
from fewmark.engines.base import Availability
from fewmark.engines.checkpoints.source import text_option, unsupported
from fewmark.engines.environments.recipe import Recipe
from fewmark.engines.registry import installed_version
from fewmark.engines.transformers.engine import TransformersEngine
from fewmark.engines.transformers.model import build
from fewmark.engines.transformers.offload import DiskFolder

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.integrations import HfDeepSpeedConfig

RECIPE: Final = Recipe(
    steps=(
        ("torch==2.13.0", "setuptools", "wheel", "ninja"),
        ("deepspeed==0.19.8", "transformers==5.23.0", "accelerate==1.15.0", "safetensors"),
    ),
    check="import deepspeed, transformers",
    needs_gib=2.5,
)
EXTENSIONS: Final = "TORCH_EXTENSIONS_DIR"
HEADERS: Final = ("/usr/include/libaio.h", "/usr/local/include/libaio.h")
PREFETCH_PARAMETERS: Final = 50_000_000


class DeepSpeedEngine(TransformersEngine):
    """A static batch through DeepSpeed, with the clock read at every step."""

    name: ClassVar[str] = "deepspeed"
    recipe: ClassVar[Recipe] = RECIPE
    options: ClassVar[frozenset[str]] = TransformersEngine.options - {"page_cache"}

    def __init__(self) -> None:
        super().__init__()
        self._keep: HfDeepSpeedConfig | None = None

    @classmethod
    def probe(cls) -> Availability:
        """Whether deepspeed and what it runs on are installed, without importing them."""
        install = "fewmark engines install deepspeed"
        missing = [name for name in ("torch", "transformers", "deepspeed") if importlib.util.find_spec(name) is None]
        if missing:
            return Availability(False, reason=f"not installed: {', '.join(missing)}", install=install)
        return Availability(True, version=installed_version("deepspeed"))

    def _build(
        self, config: PretrainedConfig, checkpoint: Path | None, dtype: torch.dtype, options: JsonObject
    ) -> PreTrainedModel:
        weights, attention = self._placement[0], text_option(options, "attention")
        self._facts["method"] = "init_inference" if weights == "accelerator" else f"ZeRO-3, parameters on {weights}"
        needs_compiler(self._device.type, to_disk=weights == "disk")
        if self._offloads_cache():
            raise unsupported("deepspeed keeps the cache with the arithmetic: placement of the cache is accelerator")
        _alone(self._device)
        with compiling_alone():
            return self._made(config, checkpoint, dtype, weights, attention, options)

    def _made(
        self, config: PretrainedConfig, checkpoint: Path | None, dtype: torch.dtype, weights: str,
        attention: str | None, options: JsonObject,
    ) -> PreTrainedModel:  # fmt: skip
        deepspeed = importlib.import_module("deepspeed")

        deepspeed.init_distributed("nccl" if self._device.type == "cuda" else "gloo")
        if weights == "accelerator":
            model = build(config, checkpoint, dtype, self._device, attention)
            return deepspeed.init_inference(
                model, dtype=dtype, replace_with_kernel_inject=False, tensor_parallel={"tp_size": 1}
            ).module
        if weights == "disk":
            self._folder = DiskFolder(text_option(options, "offload_folder"))
        settings = zero_settings(
            weights, str(dtype).removeprefix("torch."), None if self._folder is None else str(self._folder.path),
            buffer=2 * (self._shape.largest_module if self._shape is not None else PREFETCH_PARAMETERS),
            pinned=self._device.type == "cuda",
        )  # fmt: skip
        from transformers.integrations import HfDeepSpeedConfig

        # While this object lives, transformers builds models inside `deepspeed.zero.Init`: partitioned and offloaded.
        self._keep = HfDeepSpeedConfig(settings)
        model = build(config, checkpoint, dtype, self._device, attention)
        engine = deepspeed.initialize(model=model, config=settings)[0]
        return engine.module.eval()

    def close(self) -> None:
        """Drop the model and its files, and leave the process group."""
        self._keep = None
        super().close()
        import torch

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def zero_settings(
    weights: str, dtype: str, folder: str | None, *, buffer: int, pinned: bool = False
) -> dict[str, Json]:
    """DeepSpeed's configuration of ZeRO stage 3 for inference; `buffer` in parameters, at least the largest tensor."""
    offload: dict[str, Json] = {"device": "cpu", "pin_memory": pinned}
    if weights == "disk":
        offload = {"device": "nvme", "nvme_path": folder, "buffer_count": 5, "buffer_size": buffer}
        offload["pin_memory"] = pinned
    settings: dict[str, Json] = {
        "zero_optimization": {
            "stage": 3,
            "offload_param": offload,
            "stage3_prefetch_bucket_size": PREFETCH_PARAMETERS,
            "stage3_param_persistence_threshold": 0,
            "stage3_max_live_parameters": 2 * buffer,
        },
        "train_micro_batch_size_per_gpu": 1,
        "steps_per_print": 2**31,
    }
    if dtype in ("float16", "bfloat16"):
        settings[{"float16": "fp16", "bfloat16": "bf16"}[dtype]] = {"enabled": True}
    return settings


def needs_compiler(device: str, *, to_disk: bool) -> None:
    """Refuse what DeepSpeed would fail to compile when it runs. Raises `CaseFailure` with the way to get it."""
    missing = [name for name in ("g++", "ninja") if shutil.which(name) is None]
    if missing and (device == "cpu" or to_disk):
        raise unsupported(
            f"DeepSpeed compiles when it runs; {' and '.join(missing)} missing: apt-get install g++ ninja-build"
        )
    if to_disk and not any(Path(header).is_file() for header in HEADERS):
        raise unsupported("offloading to disk needs the header of libaio: apt-get install libaio-dev")


@contextmanager
def compiling_alone() -> Iterator[None]:
    """What DeepSpeed compiles goes into the engine's own environment, where no two workers compile at once.

    torch (2.13) marks a build by a file beside it. A worker that is killed while it compiles leaves that file, and
    whoever loads the part later waits for its end, for ever and without a word: here it is known to be left over.
    """
    folder = Path(sys.prefix) / "torch_extensions"
    try:
        if os.environ.get(EXTENSIONS, str(folder)) != str(folder):
            raise FileExistsError(EXTENSIONS)  # where somebody else chose the folder, nothing is ours to remove
        folder.mkdir(exist_ok=True)
        held = (folder / "fewmark.lock").open("w")
    except OSError:
        yield
        return
    with held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for left in folder.rglob("lock"):
            left.unlink(missing_ok=True)
        os.environ[EXTENSIONS] = str(folder)
        yield


def _alone(device: torch.device) -> None:
    """What a launcher would set for one process: rank 0 of 1, at a free port of this host."""
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_SIZE": "1", "CROSS_RANK": "0", "CROSS_SIZE": "1"}
    for name, value in (alone | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}).items():
        os.environ.setdefault(name, value)
