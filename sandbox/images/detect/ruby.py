"""Ruby: the distribution's interpreter, gems by Bundler."""

from __future__ import annotations

import re

from sandbox.images.detect.base import Ecosystem, Evidence, Finding, Setup, Step
from sandbox.images.detect.native import COMPILER
from sandbox.images.detect.tree import Tree

_SYSTEM_GEMS = {"pg": "libpq-dev", "mysql2": "default-libmysqlclient-dev", "sqlite3": "libsqlite3-dev",
                "nokogiri": "libxml2-dev", "ffi": "libffi-dev", "psych": "libyaml-dev", "curb": "libcurl4-openssl-dev",
                "rmagick": "libmagickwand-dev"}  # fmt: skip
_GEM = re.compile(r"""^\s*(?:gem|\w+\.add_(?:development_|runtime_)?dependency)\s*\(?\s*["']([\w.-]+)""", re.MULTILINE)
# The gems of the distribution first: they need no registry. Not in a path of their own: Bundler would not see those.
_INSTALL = "bundle install --local --quiet || bundle install --jobs 2"


def detect(tree: Tree) -> Finding | None:
    manifests = [*tree.root_match("*.gemspec"), *tree.existing(("Gemfile", "gems.rb"))]
    if not manifests and not (tree.has("Rakefile") and tree.count(".rb")):
        return None
    file = manifests[0] if manifests else "Rakefile"
    evidence = [Evidence(file, "a Ruby project", "the distribution's Ruby, Bundler, Rake, Minitest and RSpec")]
    gems = {name for manifest in manifests for name in _GEM.findall(tree.text(manifest))}
    packages = {"rake", "ruby", "ruby-bundler", "ruby-minitest", "ruby-rspec", "ruby-test-unit"}
    libraries = {gem: package for gem, package in _SYSTEM_GEMS.items() if gem in gems}
    evidence += [Evidence(file, f"gem {gem}", f"package {package}") for gem, package in libraries.items()]
    bundled = tree.has("Gemfile") or tree.has("gems.rb")
    if tree.match("ext/*/extconf.rb", "*/extconf.rb") or libraries or gems - _PURE:
        packages |= {*COMPILER, "ruby-dev", *libraries.values()}
    steps = (Step("installing the gems", _INSTALL),) if bundled else ()
    test, seen = _test(tree, bundled)
    evidence.append(Evidence(seen, "its tests", test))
    compiled = tree.match("ext/*/extconf.rb")
    build = "bundle exec rake compile" if compiled and bundled else ""
    setup = Setup(
        packages=tuple(sorted(packages)),
        steps=steps,
        env=(("BUNDLE_SILENCE_ROOT_WARNING", "1"),),
        inputs=tuple(sorted({*manifests, *tree.existing(("Gemfile.lock", "gems.locked", ".ruby-version", ".gitignore")),
                             *tree.match("lib/*version.rb")})) if steps else (),
        narrow=bool(steps),
    )  # fmt: skip
    return Finding(Ecosystem.RUBY, tree.count(".rb"), bool(manifests), tuple(evidence), setup, build, test)


_PURE = {"rake", "minitest", "rspec", "test-unit", "bundler", "rubocop", "simplecov", "yard", "pry"}


def _test(tree: Tree, bundled: bool) -> tuple[str, str]:
    """(the test command, what says so)."""
    prefix = "bundle exec " if bundled else ""
    rakefile = tree.first("Rakefile", "rakefile", "Rakefile.rb")
    if tree.match("spec/*_spec.rb") and "TestTask" not in tree.text(rakefile):
        return f"{prefix}rspec", "spec"
    if rakefile:
        task = "test" if re.search(r"TestTask|task :test|task :default => :test", tree.text(rakefile)) else ""
        return f"{prefix}rake {task}".strip(), rakefile
    return f'{prefix}ruby -Ilib -Itest -e \'Dir["test/**/*test*.rb"].each {{ |file| require "./#{{file}}" }}\'', "test"
