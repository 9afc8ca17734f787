"""The Tiltfile, evaluated by a Starlark interpreter; Tilt's built-ins note what they are asked for.

Each has the parameters of Tilt's own that the Tiltfile uses: another, or one that is misspelt, is a TypeError.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import starlark
import yaml

from tests.chart.tools import ROOT, Manifest, run, tool

CONTEXT = "kind-pressroom"
WORKLOADS = ("Deployment", "StatefulSet", "Job")

# What Python cannot give: a namespace of functions, and a function that is called later.
BEFORE = """
config = struct(
    define_bool=_define_bool,
    define_string_list=_define_string_list,
    parse=_parse,
    set_enabled_resources=_set_enabled_resources,
)
TRIGGER_MODE_MANUAL = "manual"
_namers = []
def workload_to_resource_function(namer):
    _namers.append(namer)
"""
AFTER = "_named([_namers[0](struct(**workload)) for workload in _workloads()])"


@dataclass
class Tiltfile:
    """What Tilt would know after it has read the file with these flags, as `tilt up -- --keda` gives them."""

    flags: dict[str, Any] = field(default_factory=dict)
    context: str = CONTEXT
    asked: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """By name of a built-in, the arguments of each call, by their names."""
    manifests: list[Manifest] = field(default_factory=list)
    names: dict[str, Manifest] = field(default_factory=dict)
    """By name of a resource, its workload."""
    read: set[str] = field(default_factory=set)
    """Files that are read, or handed to helm."""

    def resources(self) -> dict[str, dict[str, Any]]:
        """By name, the arguments of k8s_resource and local_resource."""
        found = self.asked["k8s_resource"] + self.asked["local_resource"]
        by_name = {one["new_name"] or one["name"]: one for one in found}
        assert len(by_name) == len(found)
        return by_name

    def _note(self, called: str, /, **given: Any) -> dict[str, Any]:
        self.asked[called].append(given)
        return {"is": called, **given}

    def _text(self, path: str) -> str:
        self.read.add(path)
        return (ROOT / path).read_text()

    # ---- Tilt's built-ins ----

    def version_settings(self, constraint: str) -> None:
        self._note("version_settings", constraint=constraint)

    def _define_bool(self, name: str, usage: str) -> None:
        self._note("define_bool", name=name, usage=usage)

    def _define_string_list(self, name: str, args: bool, usage: str) -> None:
        self._note("define_string_list", name=name, args=args, usage=usage)

    def _parse(self) -> dict[str, Any]:
        assert set(self.flags) <= {one["name"] for one in self.asked["define_bool"] + self.asked["define_string_list"]}
        return self.flags

    def _set_enabled_resources(self, resources: list[str]) -> None:
        self._note("set_enabled_resources", resources=resources)

    def k8s_context(self) -> str:
        return self.context

    def allow_k8s_contexts(self, contexts: str) -> None:
        self._note("allow_k8s_contexts", contexts=contexts)

    def read_yaml_stream(self, path: str) -> list[Any]:
        return list(yaml.safe_load_all(self._text(path)))

    def read_json(self, path: str) -> Any:
        return json.loads(self._text(path))

    def decode_yaml_stream(self, text: str) -> list[Any]:
        return [found for found in yaml.safe_load_all(text) if found]

    def helm(self, path: str, name: str, namespace: str, values: list[str], set: list[str]) -> str:  # noqa: A002 - Tilt's
        self.read.update(values)
        chosen = [f"--values={ROOT / one}" for one in values] + [f"--set={one}" for one in set]
        # As Tilt does: with custom resources, without tests, and everything says its namespace.
        arguments = ["--namespace", namespace, "--include-crds", "--skip-tests", *chosen]
        self._note("helm", path=path, name=name, namespace=namespace, values=values, set=set)
        found = self.decode_yaml_stream(run(tool("helm", "HELM"), "template", name, str(ROOT / path), *arguments))
        for manifest in found:
            manifest["metadata"].setdefault("namespace", namespace)
        return yaml.safe_dump_all(found)

    def k8s_yaml(self, yaml: list[str]) -> None:  # noqa: A002, RUF100 - Tilt's
        for one in yaml:
            text = one if "\n" in one else self._text(one)
            self.manifests += self.decode_yaml_stream(text)

    def docker_build(self, ref: str, context: str, build_args: dict[str, str], live_update: list[Any]) -> None:
        self._note("docker_build", ref=ref, context=context, build_args=build_args, live_update=live_update)

    def fall_back_on(self, files: list[str]) -> dict[str, Any]:
        return self._note("fall_back_on", files=files)

    def sync(self, local_path: str, remote_path: str) -> dict[str, Any]:
        return self._note("sync", local_path=local_path, remote_path=remote_path)

    def port_forward(self, local_port: int, container_port: int, name: str, link_path: str = "") -> dict[str, Any]:
        return self._note(
            "port_forward", local_port=local_port, container_port=container_port, name=name, link_path=link_path
        )

    def link(self, url: str, name: str) -> dict[str, Any]:
        return self._note("link", url=url, name=name)

    def k8s_resource(
        self, workload: str = "", new_name: str = "", port_forwards: Any = (), trigger_mode: str = "auto",
        resource_deps: Any = (), objects: Any = (), links: Any = (), labels: Any = (),
    ) -> None:  # fmt: skip
        self._note(
            "k8s_resource", name=workload, new_name=new_name, port_forwards=port_forwards, trigger_mode=trigger_mode,
            auto_init=True, resource_deps=resource_deps, objects=objects, links=links, labels=labels,
        )  # fmt: skip

    def local_resource(
        self, name: str, cmd: str, deps: Any = (), serve_cmd: str = "", trigger_mode: str = "auto",
        auto_init: bool = True, resource_deps: Any = (), links: Any = (), labels: Any = (),
        allow_parallel: bool = False,
    ) -> None:  # fmt: skip
        self._note(
            "local_resource", name=name, new_name="", cmd=cmd, deps=deps, serve_cmd=serve_cmd, port_forwards=(),
            trigger_mode=trigger_mode, auto_init=auto_init, resource_deps=resource_deps, links=links, labels=labels,
            allow_parallel=allow_parallel,
        )  # fmt: skip

    # ---- Ours ----

    def _workloads(self) -> list[dict[str, str]]:
        return [
            {"name": found["metadata"]["name"], "kind": found["kind"], "namespace": found["metadata"]["namespace"]}
            for found in self._of_workloads()
        ]

    def _of_workloads(self) -> list[Manifest]:
        return [found for found in self.manifests if found["kind"] in WORKLOADS]

    def _named(self, names: list[str]) -> None:
        assert len(set(names)) == len(names)
        self.names = dict(zip(names, self._of_workloads(), strict=True))


BUILT_IN = """
version_settings _define_bool _define_string_list _parse _set_enabled_resources k8s_context allow_k8s_contexts
read_yaml_stream read_json decode_yaml_stream helm k8s_yaml docker_build fall_back_on sync port_forward link
k8s_resource local_resource _workloads _named
"""


def evaluate(context: str = CONTEXT, **flags: Any) -> Tiltfile:
    """Read the Tiltfile. Raises starlark.StarlarkError where Tilt would stop."""
    file = Tiltfile(flags=flags, context=context)
    module = starlark.Module()
    for name in BUILT_IN.split():
        module.add_callable(name, getattr(file, name))
    known = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
    dialect = starlark.Dialect.extended()
    for title, text in (("before", BEFORE), ("Tiltfile", (ROOT / "Tiltfile").read_text()), ("after", AFTER)):
        starlark.eval(module, starlark.parse(title, text, dialect), known)
    return file


def dockerfile() -> dict[str, Any]:
    """Of the Dockerfile: names of its arguments, what it copies of the project, and the last working folder."""
    text = (ROOT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    return {
        "arguments": set(re.findall(r"^ARG (\w+)", text, re.MULTILINE)),
        "copied": {name for line in copied for name in line.split()},
        "folder": Path(re.findall(r"^WORKDIR (\S+)$", text, re.MULTILINE)[-1]),
    }
