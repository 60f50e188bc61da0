"""From a repository's files to what its machine needs: explicit descriptions first, then one detector per ecosystem.

Everything here reads and decides; nothing is run, fetched or built.
"""

from __future__ import annotations

from sandbox.images.detect import cpp, explicit, go, java, node, php, python, ruby, rust
from sandbox.images.detect.base import (
    Detection,
    Detector,
    Ecosystem,
    Evidence,
    Finding,
    Setup,
    Source,
    Step,
)
from sandbox.images.detect.tree import Tree

__all__ = [
    "DETECTORS",
    "Detection",
    "Detector",
    "Ecosystem",
    "Evidence",
    "Finding",
    "Setup",
    "Source",
    "Step",
    "Tree",
    "candidates",
    "detect",
    "findings",
]

DETECTORS: tuple[Detector, ...] = (
    python.detect, node.detect, go.detect, rust.detect, java.detect, cpp.detect, ruby.detect, php.detect,
)  # fmt: skip


def findings(tree: Tree) -> list[Finding]:
    """What each detector says, the likeliest first: a project's own manifest, then the most source files."""
    found = [finding for detector in DETECTORS if (finding := detector(tree)) is not None]
    return sorted(found, key=lambda finding: (not finding.strong, -finding.weight))


def detect(tree: Tree) -> Detection:
    """What the ecosystems' detectors choose; explicit descriptions aren't looked at."""
    found = findings(tree)
    if not found:
        return Detection(Source.BASE, (Evidence("", "no manifest of a known kind", "the base image"),))
    first, *others = found
    notes = [*first.notes]
    notes += [f"also {other.ecosystem} ({other.evidence[0].file}): not set up" for other in others if other.strong]
    source = Source.DETECTED if first.setup.needs_image else Source.BASE
    return Detection(
        source, first.evidence, ecosystem=first.ecosystem, setup=first.setup, test=first.check, notes=tuple(notes)
    )


def candidates(tree: Tree) -> list[Detection]:
    """All ways to get an image, the most explicit first; the last one needs nothing that can be missing."""
    explicitly = [explicit.devcontainer(tree), explicit.dockerfile(tree)]
    return [*(found for found in explicitly if found is not None), detect(tree)]
