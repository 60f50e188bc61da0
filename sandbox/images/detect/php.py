"""PHP: the distribution's interpreter and PHPUnit, packages by Composer."""

from __future__ import annotations

from sandbox.images.detect.base import Ecosystem, Evidence, Finding, Setup, Step
from sandbox.images.detect.tree import Tree, table

_EXTENSIONS = ("php-cli", "php-curl", "php-intl", "php-mbstring", "php-sqlite3", "php-xml", "php-zip")
# The scripts of the packages would switch the extensions on and choose the `php` of the release.
_SWITCH_ON = """for folder in /etc/php/*; do
    for file in /usr/share/php"$(basename "$folder")"-*/*/*.ini; do
        priority=$(sed -n 's/^; priority=//p' "$file")
        mkdir -p "$folder/cli/conf.d"
        ln -sf "$file" "$folder/cli/conf.d/${priority:-20}-$(basename "$file")"
    done
    [ -e /usr/bin/php ] || ln -s "php$(basename "$folder")" /usr/bin/php
done
php -r 'exit(extension_loaded("mbstring") && extension_loaded("dom") ? 0 : 1);'"""
_INSTALL = """export COMPOSER_HOME=/tmp/composer COMPOSER_ALLOW_SUPERUSER=1
composer install --no-interaction --no-progress --no-scripts --prefer-dist"""
_AUTOLOAD = """export COMPOSER_HOME=/tmp/composer COMPOSER_ALLOW_SUPERUSER=1
composer dump-autoload --no-interaction --no-scripts"""


def detect(tree: Tree) -> Finding | None:
    settings = tree.first("phpunit.xml", "phpunit.xml.dist", "phpunit.dist.xml")
    if not tree.has("composer.json") and not (settings and tree.count(".php")):
        return None
    composer = tree.json("composer.json")
    file = "composer.json" if composer else str(settings)
    evidence = [Evidence(file, "a PHP project", "the distribution's PHP with its usual extensions")]
    needs = [str(name) for key in ("require", "require-dev") for name in table(composer, key) if "/" in name]
    steps = [Step("switching the extensions on", _SWITCH_ON)]
    packages = {*_EXTENSIONS}
    build = ""
    if needs:
        evidence.append(Evidence("composer.json", f"{len(needs)} packages of others", "composer install"))
        steps.append(Step("installing the packages", _INSTALL))
        packages |= {"composer", "unzip"}
    elif composer.get("autoload") or composer.get("autoload-dev"):
        evidence.append(Evidence("composer.json", "an autoloader, no packages of others", "composer dump-autoload"))
        steps.append(Step("making the autoloader", _AUTOLOAD))
        packages.add("composer")
    own = any("phpunit" in name for name in needs)
    if not own:
        packages.add("phpunit")
    test = str(table(composer, "scripts").get("test", ""))
    test = "vendor/bin/phpunit" if own else "phpunit" if settings or not test else test
    if settings:
        evidence.append(Evidence(settings, "PHPUnit's settings", test))
    # a copy, not a link: the autoloader finds the sources beside the folder that it really lies in
    copy = ("vendor",) if len(steps) > 1 else ()
    setup = Setup(
        packages=tuple(sorted(packages)),
        steps=tuple(steps),
        inputs=tree.existing(("composer.json", "composer.lock")) if copy else (),
        copy=copy,
        narrow=bool(copy),
    )
    return Finding(Ecosystem.PHP, tree.count(".php"), True, tuple(evidence), setup, build, test)
