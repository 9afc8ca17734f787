"""Kubernetes' own schemas for kubeconform, made of its published OpenAPI document: nothing is fetched in a test."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.chart.tools import VERSIONS


def write(folder: Path) -> None:
    """A file for each kind, as `kubeconform -schema-location` looks for it; unknown fields are errors."""
    module = f"k8s.io/kubernetes@v{VERSIONS['KUBERNETES']}"
    told = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True, check=True).stdout
    definitions = json.loads((Path(json.loads(told)["Dir"]) / "api/openapi-spec/swagger.json").read_text())[
        "definitions"
    ]
    for definition in definitions.values():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            group = f"{kind['group'].split('.')[0]}-" if kind["group"] else ""
            name = f"{kind['kind']}-{group}{kind['version']}".lower()
            (folder / f"{name}.json").write_text(json.dumps(_strict(definition, definitions, ())))


def _strict(schema: Any, definitions: dict[str, Any], within: tuple[str, ...]) -> Any:
    """With every reference in place, and no field besides those that are named."""
    if isinstance(schema, list):
        return [_strict(part, definitions, within) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("$ref"), str):
        name = schema["$ref"].rpartition("/")[2]
        if name in within:  # a schema of schemas
            return {}
        return _strict(definitions[name], definitions, (*within, name))
    strict = {key: _strict(value, definitions, within) for key, value in schema.items()}
    if schema.get("format") == "int-or-string":
        strict.pop("type", None)
    elif isinstance(strict.get("properties"), dict) and "additionalProperties" not in strict:
        strict["additionalProperties"] = False
    return strict
