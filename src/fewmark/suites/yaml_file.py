"""YAML, read safely: plain data with the line of every key; duplicate keys, anchors and odd keys are refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from fewmark.core.errors import MALFORMED, InputError, SuiteError
from fewmark.core.files import read_text
from fewmark.core.json_types import Json

KeyPath = tuple[str | int, ...]
MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 50
MAX_NODES: Final = 100_000  # values and keys; YAML is read slowly


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML document: its value, where it came from, and the line (1-based) of each key and item."""

    origin: str
    value: Any
    lines: dict[KeyPath, int]

    def error(self, path: KeyPath, message: str, *, got: object = None, hint: str | None = None) -> SuiteError:
        """An error that names the file, the line and the path of the key."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        line = f":{self.lines[known]}" if known in self.lines else ""
        where = f"{format_path(path)}: " if path else ""
        return SuiteError(f"{self.origin}{line}: {where}{message}", got=got, hint=hint)


def format_path(path: KeyPath) -> str:
    """The path as people write it: ``deployments[0].engine``."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def read_document(path: Path) -> Document:
    """Read a YAML file.

    Raises
    ------
    SuiteError
        If the file cannot be read, is no YAML, or uses what a suite may not.
    """
    try:
        text = read_text(path, max_bytes=MAX_BYTES, what="a suite file")
    except InputError as error:
        raise SuiteError(error.what, got=error.got, hint=error.hint) from None
    return parse_document(text, path.name)


def parse_document(text: str, origin: str) -> Document:
    """Parse YAML text; `origin` names it in errors. Raises `SuiteError` as `read_document` does."""
    try:
        document = Document(origin, None, {})
        depth = n_nodes = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else "?"
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            n_nodes += isinstance(event, yaml.NodeEvent)
            if n_nodes > MAX_NODES:
                raise SuiteError(f"{origin}:{line}: a suite holds at most {MAX_NODES:,} values")
            if depth > MAX_DEPTH:
                raise SuiteError(f"{origin}:{line}: the YAML is nested too deeply", got=f"more than {MAX_DEPTH} levels")
            if isinstance(event, yaml.AliasEvent):
                raise SuiteError(
                    f"{origin}:{line}: anchors and aliases are not supported",
                    got=f"*{event.anchor}",
                    hint="name the values under 'axes' and refer to them with {axis: NAME}",
                )
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        value = None if node is None else _build(loader, node, (), document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise SuiteError(f"{origin}{line}: not valid YAML", got=error.problem or error.context) from None
    except yaml.YAMLError as error:
        raise SuiteError(f"{origin}: not valid YAML", got=str(error)) from None
    return Document(origin, value, document.lines)


def _build(loader: yaml.SafeLoader, node: yaml.Node, path: KeyPath, document: Document) -> Json:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
        raise document.error(path, "YAML tags are not supported", got=node.tag)
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, item, (*path, index), document) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        out: dict[str, Json] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str) or key == "<<":
                document.lines[path] = line
                raise document.error(
                    path,
                    "a key must be plain text",
                    got=getattr(key_node, "value", None) if key is not None else "a list, a mapping or nothing",
                    hint="put quotes around it",
                )
            document.lines[(*path, key)] = line
            if key in out:
                raise document.error((*path, key), "the key appears twice", hint="keep one of them")
            out[key] = _build(loader, value_node, (*path, key), document)
        return out
    # Scalars that look like a date or a number and are none, and tags whose content is none of their kind.
    try:
        value: Json = loader.construct_object(node)
        return value
    except MALFORMED as error:
        raise document.error(path, "not a value", got=node.value, hint=_reason(error)) from None


def _reason(error: Exception) -> str | None:
    """Why a text is no value, where the parser says it in words of its own."""
    return str(error) if isinstance(error, ValueError) else None
