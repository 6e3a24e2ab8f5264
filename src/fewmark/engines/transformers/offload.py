"""Weights that live on another tier than the arithmetic: accelerate's offloading to host memory and to disk.

A disk tier is only measured where reads reach the disk: before every forward pass the files are dropped from the page
cache (``posix_fadvise``, ``DONTNEED``), as they would be in a model larger than memory. Where that is not possible,
the facts say so.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from fewmark.core.json_types import Json
from fewmark.engines.checkpoints.source import unsupported
from fewmark.engines.memory.footprint import tiers_of
from fewmark.engines.worker.scratch import temporary_folder

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
MOUNTS: Final = Path("/proc/self/mounts")


class DiskFolder:
    """A folder of weights that is removed again; knows how to make its files cold.

    Parameters
    ----------
    parent : str or None
        Where it is made; by default where temporary files go.
    cold : bool
        Whether to drop the page cache before each forward pass.
    """

    def __init__(self, parent: str | None, *, cold: bool = True) -> None:
        where = Path(parent) if parent else Path(tempfile.gettempdir())
        if not where.is_dir():
            raise unsupported(f"offload_folder {str(where)!r} is not a folder")
        self.path = temporary_folder("offload", where if parent else None)
        self._descriptors: list[int] = []
        self.page_cache = "cold" if cold else "warm"
        if cold and (reason := _always_cached(self.path)):
            self.page_cache = f"warm: {reason}"

    def open_files(self) -> None:
        """Get ready to drop what was written; what was not yet on the disk is written there first."""
        if self.page_cache != "cold":
            return
        for file in sorted(item for item in self.path.rglob("*") if item.is_file()):
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)  # pages that still wait to be written cannot be dropped
            self._descriptors.append(descriptor)

    def drop_cache(self) -> None:
        """Forget the files' pages; a failure is noted once, and the rest counts as warm."""
        if self.page_cache != "cold":
            return
        try:
            for descriptor in self._descriptors:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except (OSError, AttributeError) as error:
            self.page_cache = f"warm: posix_fadvise is not available ({error})"

    def remove(self) -> None:
        """Delete the folder."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        shutil.rmtree(self.path, ignore_errors=True)


def free_disk_bytes(parent: str | None) -> int | None:
    """Bytes free where weights would be written; None where that cannot be known."""
    try:
        return shutil.disk_usage(parent or tempfile.gettempdir()).free
    except OSError:
        return None


def placed(placement: Json) -> tuple[str, str]:
    """The tiers of weights and cache. Raises `CaseFailure` for what no placement can be."""
    try:
        weights, cache = tiers_of(placement)
    except ValueError as error:
        raise unsupported(str(error)) from None
    if cache == "disk":
        raise unsupported("placement of the cache on disk is not available: accelerator or cpu")
    return weights, cache


def to_cpu(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """Keep the weights in host memory and bring each module's to `device` for its forward pass."""
    return _accelerate().cpu_offload(model, execution_device=device)


def to_disk(model: PreTrainedModel, folder: DiskFolder, device: torch.device) -> PreTrainedModel:
    """Keep the weights in files and read each module's for its forward pass on `device`.

    Parameters of a model without storage (on torch's meta device) are written as random numbers, one after the other,
    so that a model larger than memory can be run.
    """
    import torch

    accelerate = _accelerate()
    if any(parameter.is_meta for parameter in model.parameters()):
        from accelerate.utils import offload_weight, save_offload_index

        index: dict[str, Json] = {}
        draw = torch.Generator().manual_seed(0)
        for name, value in model.state_dict(keep_vars=True).items():
            # The scale keeps activations finite over many layers, also in half precision.
            tensor = torch.empty(value.shape, dtype=value.dtype).normal_(0.0, 0.02, generator=draw)
            index = offload_weight(tensor, name, str(folder.path), index)
        save_offload_index(index, str(folder.path))
    model = accelerate.disk_offload(model, str(folder.path), execution_device=device)
    folder.open_files()
    return model


def without_storage(config: PretrainedConfig, dtype: torch.dtype, attention: str | None) -> PreTrainedModel:
    """The model with parameters on the meta device and its buffers real. Raises `CaseFailure`."""
    from transformers import AutoModelForCausalLM

    accelerate = _accelerate()
    extra = {} if attention is None else {"attn_implementation": attention}
    try:
        with accelerate.init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, **extra)
    except (ValueError, ImportError) as error:
        raise unsupported(f"transformers cannot build this model: {error}") from None
    model.tie_weights()
    model.generation_config = type(model.generation_config)()
    return model.eval()


def _accelerate() -> ModuleType:
    try:
        import accelerate
    except ImportError:
        raise unsupported("weights on another tier need accelerate: pip install 'fewmark[transformers]'") from None
    module: ModuleType = accelerate
    return module


def _always_cached(path: Path) -> str | None:
    """Why the files of a folder can never leave memory; None where they can, or where nobody knows."""
    if not hasattr(os, "posix_fadvise"):
        return "this system has no posix_fadvise"
    try:
        mounts = [line.split()[1:3] for line in MOUNTS.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    inside = [(len(at), kind) for at, kind in mounts if path.resolve().is_relative_to(at)]
    kind = max(inside, default=(0, ""))[1]
    return f"{path.parent} is a {kind}, which is memory" if kind in IN_MEMORY else None
