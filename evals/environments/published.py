"""Which published image belongs to an instance: its name, by the row or by the set's convention.

Left out: getting it (`pull`), and what is in it (`sandbox.images.published`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from evals.instance import Instance, Schema

VARIABLE: Final = "PATCHWRIGHT_EVAL_IMAGES"
DEFAULT_NAMES: Final = ("swebench/sweb.eval.{arch}.{id_1776}:latest",)
_PRO: Final = "jefzda/sweap-images"
_LIVE: Final = "starryzhang/sweb.eval.x86_64.{id_1776}:latest"
_LONGEST_TAG: Final = 128
_PRO_EXCEPTION: Final = "instance_element-hq__element-web-ec0f940ef0e8e3b61078f145f34dc40d1938e6c5-vnan"
_ARCHITECTURES: Final = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
_PRO_WORKDIR: Final = "/app"


class NameBroken(ValueError):
    """A pattern of names that can't be filled in."""


@dataclass(frozen=True, slots=True)
class ImageNames:
    """Where published images are looked for, in this order. A row's own image goes before all patterns.

    A pattern may hold `{arch}` (x86_64 or arm64), `{id}` (the instance's id in lower case), `{id_1776}` and `{id_s}`
    (the same with `__` as `_1776_` or `_s_`, as Docker Hub wants it), and `{tag}` (what a SWE-bench Pro row says).
    `mirror` is put before names that name no registry, such as `mirror.example/hub`.
    """

    patterns: tuple[str, ...] = DEFAULT_NAMES
    mirror: str = ""

    @classmethod
    def read(cls, patterns: tuple[str, ...] = (), mirror: str = "") -> ImageNames:
        """What is given, else what the variable says (patterns with blanks between), else the default."""
        said = patterns or tuple(os.environ.get(VARIABLE, "").split()) or DEFAULT_NAMES
        for pattern in said:
            _filled(pattern, {"arch": "a", "id": "i", "id_1776": "i", "id_s": "i", "tag": "t"})
        return cls(said, mirror.rstrip("/"))

    def of(self, instance: Instance, machine: str) -> tuple[str, ...]:
        """Full names with tags, the likeliest first. `machine` as an engine or the kernel calls the processor."""
        values = {
            "arch": _ARCHITECTURES.get(machine, machine),
            "id": instance.instance_id.lower(),
            "id_1776": instance.instance_id.lower().replace("__", "_1776_"),
            "id_s": instance.instance_id.lower().replace("__", "_s_"),
            "tag": instance.image if instance.schema is Schema.SWE_BENCH_PRO else "",
        }
        names = [own] if (own := _own(instance)) else []
        if instance.schema is Schema.SWE_BENCH_LIVE and not names:
            names.append(_filled(_LIVE, values))
        if instance.schema in (Schema.SWE_BENCH_4, Schema.SWE_BENCH_5):
            names += [_filled(pattern, values) for pattern in self.patterns]
        else:  # the default pattern is that of other sets; what the user says may be meant for this one
            names += [_filled(pattern, values) for pattern in self.patterns if pattern not in DEFAULT_NAMES]
        return tuple(dict.fromkeys(self._mirrored(_tagged(name)) for name in names))

    def _mirrored(self, name: str) -> str:
        return f"{self.mirror}/{name}" if self.mirror and registry_of(name) == "docker.io" else name


def registry_of(name: str) -> str:
    """The host that an image's name means."""
    first, slash, _ = name.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"


def workdir_of(instance: Instance) -> str | None:
    """Where the set's images have their checkout, if it can't be seen from the image."""
    return _PRO_WORKDIR if instance.schema is Schema.SWE_BENCH_PRO else None


def is_foreign(name: str, machine: str) -> bool:
    """Whether a name says that the image is for x86_64 while this machine isn't."""
    return "x86_64" in name and _ARCHITECTURES.get(machine, machine) != "x86_64"


def _own(instance: Instance) -> str:
    """The row's image, "" where it names none; SWE-bench Pro's rows name a tag only, or leave it to a rule."""
    if instance.schema is not Schema.SWE_BENCH_PRO:
        return instance.image
    tag = instance.image or _pro_tag(instance)
    return tag if {"/", ":"} & set(tag) else f"{_PRO}:{tag}"


def _pro_tag(instance: Instance) -> str:
    """By the rule that its images are called by: project and id, without the id's own marks at both ends."""
    project = instance.repo.lower().replace("/", ".")
    name = instance.instance_id.removeprefix("instance_")
    if project == "element-hq.element-web" and instance.instance_id != _PRO_EXCEPTION:
        project = "element-hq.element"
    if instance.instance_id != _PRO_EXCEPTION:
        name = name.removesuffix("-vnan")
    return f"{project}-{name}"[:_LONGEST_TAG]


def _filled(pattern: str, values: dict[str, str]) -> str:
    try:
        return pattern.format_map(values)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise NameBroken(
            f"{pattern!r} is no pattern of image names ({error}): known are {', '.join(f'{{{key}}}' for key in values)}"
        ) from None


def _tagged(name: str) -> str:
    return name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"
