"""Images: what the machine that code runs on has installed.

The base image is made from the distribution's packages without a registry (`base_image`). What a repository needs on
top is said by it or detected (`detect`), and made for an engine or as a root folder (`environment`).
"""

from sandbox.images.base_image import base_image, base_tar, base_tree, cached_bases, find_base_tree, import_tar
from sandbox.images.bwrap import ensure_bwrap, find_bwrap
from sandbox.images.environment import Environment, choices, environment_for, resolve_image
from sandbox.images.progress import Progress, Report
from sandbox.images.recipe import Recipe, recipe
from sandbox.images.resolve import ImageConfig, as_lines
from sandbox.images.setup_context import read_environment
from sandbox.images.try_out import enter, run_tests

__all__ = [
    "Environment",
    "ImageConfig",
    "Progress",
    "Recipe",
    "Report",
    "as_lines",
    "base_image",
    "base_tar",
    "base_tree",
    "cached_bases",
    "choices",
    "ensure_bwrap",
    "enter",
    "environment_for",
    "find_base_tree",
    "find_bwrap",
    "import_tar",
    "read_environment",
    "recipe",
    "resolve_image",
    "run_tests",
]
