"""A Kubernetes Deployment and Service for a recommendation: the same command, the accelerators as a resource.

A node's label for a GPU is the cluster's own business, so that the accelerator is an annotation and no selector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import pandas as pd
import yaml

from fewmark.core import InputError
from fewmark.core.files import write_file
from fewmark.interop.exports.base import CELLS, Row, slug
from fewmark.interop.exports.serve_command import PORT, chosen_row, serve_words

_IMAGES: Final = {"vllm": "vllm/vllm-openai:v{}", "sglang": "lmsysorg/sglang:v{}"}
_MAX_NAME: Final = 63  # characters of a DNS label
_AMD: Final = ("mi1", "mi2", "mi3", "mi4", "instinct", "amd", "radeon")
_INTEL: Final = ("gaudi", "hpu")


@dataclass(frozen=True)
class KubernetesManifest:
    """Deployment and Service; `image` where the engine's version does not tell it, `resource` for other devices."""

    image: str = ""
    namespace: str = ""
    resource: str = ""
    replicas: int | None = None

    name = "kubernetes"
    description = "a Kubernetes Deployment and Service for a recommendation"
    takes = CELLS
    targets = ()

    def write(self, frame: pd.DataFrame, out: str) -> int:
        """The manifest of the chosen row."""
        row = chosen_row(frame)
        text = yaml.safe_dump_all(self._documents(row), sort_keys=False, allow_unicode=True)
        write_file(out, text)
        return 1

    def _documents(self, row: Row) -> list[dict[str, object]]:
        words, comments = serve_words(row)
        name = slug(str(row["model"]).rsplit("/", 1)[-1])[:_MAX_NAME].strip("-") or "model"
        name = name if name[0].isalpha() else f"m-{name}"[:_MAX_NAME]
        labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "inference"}
        metadata: dict[str, object] = {"name": name, "labels": labels}
        if self.namespace:
            metadata["namespace"] = self.namespace
        notes = {f"fewmark/note-{i}": comment for i, comment in enumerate(comments, start=1)}
        probe = {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 10}
        container: dict[str, object] = {
            "name": "server",
            "image": self._image(row),
            "command": words,
            "ports": [{"containerPort": PORT}],
            "startupProbe": {**probe, "failureThreshold": 180},
            "readinessProbe": probe,
        }
        if (device := self._device(row)) and "accelerator_count" in row:
            container["resources"] = {"limits": {device: str(row["accelerator_count"])}}
        replicas = self.replicas or (math.ceil(row["replicas"]) if "replicas" in row else 1)
        return [
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {**metadata, "annotations": notes},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": metadata,
                "spec": {"selector": labels, "ports": [{"port": PORT, "targetPort": PORT}]},
            },
        ]

    def _image(self, row: Row) -> str:
        if self.image:
            return self.image
        engine = str(row["engine"]).lower()
        if engine not in _IMAGES or "engine_version" not in row:
            raise InputError("no image is known", got=f"{engine} {row.get('engine_version', '')}".strip(),
                             hint="--set image=REGISTRY/NAME:TAG")  # fmt: skip
        return _IMAGES[engine].format(str(row["engine_version"]).removeprefix("v"))

    def _device(self, row: Row) -> str:
        if self.resource or "accelerator" not in row:
            return self.resource
        said = str(row["accelerator"]).lower()
        if "cpu" in said or "xeon" in said or "epyc" in said:
            return ""
        if any(word in said for word in _AMD):
            return "amd.com/gpu"
        return "habana.ai/gaudi" if any(word in said for word in _INTEL) else "nvidia.com/gpu"
