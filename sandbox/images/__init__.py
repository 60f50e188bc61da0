"""Images: what the machine that code runs on has installed.

The base image is made from the distribution's packages without a registry (`base_image`), more comes from a
Dockerfile or a set-up command (`dockerfile`), and `resolve` chooses for one run.
"""

from sandbox.images.base_image import base_image, base_tar, base_tree, cached_bases, find_base_tree, import_tar
from sandbox.images.bwrap import ensure_bwrap, find_bwrap
from sandbox.images.progress import Progress, Report
from sandbox.images.recipe import Recipe, recipe
from sandbox.images.resolve import ImageConfig, as_lines, resolve_image

__all__ = [
    "ImageConfig",
    "Progress",
    "Recipe",
    "Report",
    "as_lines",
    "base_image",
    "base_tar",
    "base_tree",
    "cached_bases",
    "ensure_bwrap",
    "find_base_tree",
    "find_bwrap",
    "import_tar",
    "recipe",
    "resolve_image",
]
