"""From an instance to the environment that its tests run in: published images, recipes, bundled tasks."""

from evals.environments.base import EnvironmentUnavailable, InstanceEnvironment, Source, Tell
from evals.environments.environment import environment_of
from evals.environments.options import Options, Prefer
from evals.environments.prepull import Prepulled, prepull
from evals.environments.published import ImageNames, NameBroken
from evals.environments.recipes import Recipe, RecipeBroken, Recipes

__all__ = [
    "EnvironmentUnavailable",
    "ImageNames",
    "InstanceEnvironment",
    "NameBroken",
    "Options",
    "Prefer",
    "Prepulled",
    "Recipe",
    "RecipeBroken",
    "Recipes",
    "Source",
    "Tell",
    "environment_of",
    "prepull",
]
