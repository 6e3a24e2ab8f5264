"""The servers that fewmark knows how to start, as data; any other is started by a command of one's own.

In a command ``{model}``, ``{name}`` (what it is served as), ``{host}``, ``{port}`` and ``{python}`` are filled in;
``{program}`` is the server's own program. What a server's own options are called is its own business: they follow at
the end as they are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from fewmark.core import FrozenMap
from fewmark.core.json_types import JsonObject

Weights = Literal["folder", "shape", "gguf"]
NOTHING: Final = FrozenMap()


@dataclass(frozen=True, slots=True)
class ServerKind:
    """How one server is started and spoken to.

    Parameters
    ----------
    name : str
    command : tuple of str
    install : str
        How to get it.
    ready : str
        The route that answers 200 when it is ready.
    engine : str or None
        The engine in whose environment it may be installed.
    program : str or None
        Its program, looked for in that environment, beside this interpreter and on the path.
    modules : tuple of str
        What the interpreter must have, where it is started as a module.
    weights : {"folder", "shape", "gguf"}
        What it needs of a model that is only a shape: a folder with random weights, one without (it makes up its own),
        or a GGUF file.
    flags : mapping of str to str
        The options that say what the deployment says: ``precision``, ``tensor_parallel_size``, ``random``.
    precisions : mapping of str to str
        Names of precisions that it spells otherwise.
    environment : mapping of str to str
        Variables that it is started with.
    key_variable : str or None
        The variable that it reads its key from; the key never stands in a command line.
    takes_ids, takes_ignore_eos : bool
        Whether its completions route takes token ids, and either route ``ignore_eos``.
    extra_body : mapping
        What each request says besides, so that nothing is served from a cache.
    reset : str or None
        The route that empties its prefix cache.
    """

    name: str
    command: tuple[str, ...]
    install: str = ""
    ready: str = "/health"
    engine: str | None = None
    program: str | None = None
    modules: tuple[str, ...] = ()
    weights: Weights = "folder"
    flags: Mapping[str, str] = NOTHING
    precisions: Mapping[str, str] = NOTHING
    environment: Mapping[str, str] = NOTHING
    key_variable: str | None = None
    takes_ids: bool = True
    takes_ignore_eos: bool = True
    extra_body: JsonObject = NOTHING
    reset: str | None = None


LONG_NAMES: Final = FrozenMap({"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"})

SERVERS: Final[Mapping[str, ServerKind]] = {
    kind.name: kind
    for kind in (
        ServerKind(
            "vllm",
            (
                *("{python}", "-m", "vllm.entrypoints.openai.api_server", "--model", "{model}"),
                *("--served-model-name", "{name}", "--host", "{host}", "--port", "{port}"),
                *("--generation-config", "vllm"),
            ),
            install="fewmark engines install vllm",
            engine="vllm",
            modules=("vllm",),
            weights="shape",
            flags=FrozenMap(
                {
                    "precision": "--dtype",
                    "tensor_parallel_size": "--tensor-parallel-size",
                    "random": "--load-format dummy",
                }
            ),
            precisions=LONG_NAMES,
            # its route that empties the prefix cache is there in development mode alone
            environment=FrozenMap({"VLLM_NO_USAGE_STATS": "1", "VLLM_SERVER_DEV_MODE": "1"}),
            key_variable="VLLM_API_KEY",
            reset="/reset_prefix_cache",
        ),
        ServerKind(
            "sglang",
            (
                *("{python}", "-m", "sglang.launch_server", "--model-path", "{model}"),
                *("--served-model-name", "{name}", "--host", "{host}", "--port", "{port}", "--enable-metrics"),
            ),
            install="pip install 'sglang[all]' into an environment, and name its interpreter: python",
            modules=("sglang",),
            weights="shape",
            flags=FrozenMap(
                {"precision": "--dtype", "tensor_parallel_size": "--tp-size", "random": "--load-format dummy"}
            ),
            precisions=LONG_NAMES,
            reset="/flush_cache",
        ),
        ServerKind(
            "llama-server",
            ("{program}", "-m", "{model}", "--alias", "{name}", "--host", "{host}", "--port", "{port}", "--metrics"),
            install="fewmark engines install llama.cpp",
            engine="llama.cpp",
            program="llama-server",
            weights="gguf",
            key_variable="LLAMA_API_KEY",
            extra_body=FrozenMap({"cache_prompt": False}),
        ),
        ServerKind(
            "transformers",
            (
                *("{python}", "-m", "transformers.cli.transformers", "serve", "{model}"),
                *("--host", "{host}", "--port", "{port}"),
            ),
            install="pip install 'transformers[serving]'",
            modules=("transformers", "uvicorn", "fastapi", "openai"),
            flags=FrozenMap({"precision": "--dtype"}),
            precisions=LONG_NAMES,
            takes_ids=False,
            takes_ignore_eos=False,
        ),
        ServerKind(
            "tgi",
            (
                *("{program}", "--model-id", "{model}", "--served-model-name", "{name}"),
                *("--hostname", "{host}", "--port", "{port}"),
            ),
            install="run it from its container image: a command of your own",
            program="text-generation-launcher",
            flags=FrozenMap({"precision": "--dtype", "tensor_parallel_size": "--num-shard"}),
            precisions=LONG_NAMES,
            key_variable="API_KEY",
            takes_ids=False,
            takes_ignore_eos=False,
        ),
    )
}
