"""The report as one page: what was resolved, of what, how sure that is, what it took, why the rest failed.

It stands by itself: no request leaves it, and without its script only sorting and searching are missing. All names
and messages are data of others and are shown as text. Left out: what the numbers are (`summary`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from evals.report import plots
from evals.report.html import Html, document, element, joined
from evals.report.instances import anchor, instance_table, trajectory_address
from evals.report.numbers import count, date, duration, interval, money, percent, plural, short_count
from evals.report.setup import setup_tables
from evals.report.tables import plain_table
from evals.report.use import use_section

MAX_NAMED: Final = 1000  # attempts that one list names
_FEW: Final = 6  # names that are shown without being asked for
_SECTIONS: Final = (
    ("result", "Result"),
    ("groups", "By group"),
    ("use", "What it took"),
    ("failures", "Failures"),
    ("checks", "Checks"),
    ("instances", "Instances"),
    ("set-up", "Set-up"),
)


def page(report: Mapping[str, Any]) -> str:
    """The whole page as text, to be written as UTF-8."""
    manifest = report["manifest"]
    body = (
        _head(report, manifest),
        element(
            "main",
            _result(report),
            _groups(report["by"]),
            use_section(report),
            _failures(report),
            _checks(report),
            instance_table(report["attempts"], report["counts"]["per_instance"]),
            setup_tables(manifest),
        ),
        element("footer", element("p", _about(report))),
    )
    return document(f"{_model(report)} – {report['run']}", *body)


def _model(report: Mapping[str, Any]) -> str:
    return ", ".join(report["models"]) or "no model"


def _dataset(manifest: Mapping[str, Any]) -> str:
    said = manifest.get("dataset")
    return str(said.get("name", "") if isinstance(said, Mapping) else said or "")


def _head(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> Html:
    counts = report["counts"]
    of = plural(counts["instances_asked"], "instance")
    if dataset := _dataset(manifest):
        of += f" of {dataset}"
    if counts["per_instance"] > 1:
        of += f", {counts['per_instance']} attempts each"
    return element(
        "header",
        element("div", "Evaluation run ", element("code", report["run"]), _begun(manifest), class_="eyebrow"),
        element("h1", _model(report)),
        element("p", of),
        element("nav", [element("a", name, href=f"#{slug}") for slug, name in _SECTIONS], aria_label="Sections"),
    )


def _begun(manifest: Mapping[str, Any]) -> str:
    created = manifest.get("created")
    return f", {date(str(created))}" if isinstance(created, int | float) else ""


# -- the result -------------------------------------------------------------------------------------------------


def _result(report: Mapping[str, Any]) -> Html:
    counts, rate = report["counts"], report["resolved"]
    parts = [
        ("resolved", "resolved", counts["resolved"]),
        ("unresolved", "unresolved", counts["unresolved"]),
        ("no_patch", "no patch", counts["no_patch"]),
        ("infrastructure", "no verdict (infrastructure)", counts["infrastructure"]),
        ("missing", "not ended", counts["missing"]),
    ]
    keys = [
        element("span", element("i", class_=f"key key-{kind}"), f"{name} {count(number)}")
        for kind, name, number in parts
        if number
    ]
    hero = element(
        "div",
        element("div", percent(rate["rate"]), class_="figure"),
        element(
            "div",
            element("p", element("strong", f"{count(rate['resolved'])} of {plural(rate['attempts'], 'attempt')}"),
                    f" resolved; 95 % interval {interval(rate['low'], rate['high'])} (Wilson)"),
            plots.interval_bar(rate["rate"], rate["low"], rate["high"], 480),
            class_="beside",
        ),
        class_="hero",
    )  # fmt: skip
    return element(
        "section",
        hero,
        plots.parts_bar("parts", "Results of all attempts", parts),
        element("p", keys, class_="legend"),
        _denominator(report),
        _facts(report),
        _repeats(report["repeats"]),
        id="result",
    )


def _denominator(report: Mapping[str, Any]) -> Html:
    """What the rate is a share of, in words, and the other shares that somebody may mean."""
    counts, rate = report["counts"], report["resolved"]
    lines = [f"The denominator: {rate['denominator']}."]
    if counts["infrastructure"]:
        other = rate["with_a_verdict"]
        lines.append(
            f"Without the {plural(counts['infrastructure'], 'attempt')} that the infrastructure failed: "
            f"{plots.rate_words(other)} of {count(other['attempts'])}."
        )
    if counts["doubtful"]:
        other = rate["without_doubtful"]
        lines.append(
            f"Without the {count(counts['doubtful'])} whose environment is in doubt as well: {plots.rate_words(other)} "
            f"of {count(other['attempts'])}."
        )
    if counts["per_instance"] > 1:
        lines.append(
            "The rate is the mean over instances; attempts at one instance resemble each other, and the interval "
            "takes that into account."
        )
    missing = counts["missing"]
    note = (
        element(
            "p",
            f"Not finished: {plural(missing, 'attempt')} of {count(counts['attempts_asked'])} asked for "
            f"{'has' if missing == 1 else 'have'} not ended and {'is' if missing == 1 else 'are'} not in the rate.",
            class_="note",
        )
        if missing
        else None
    )
    return joined(element("p", " ".join(lines)), note)


def _facts(report: Mapping[str, Any]) -> Html:
    usage = report["usage"]
    cached = usage["cached_share"]["overall"]

    def total(name: str) -> float | None:
        said: float | None = usage[name].get("sum")
        return said

    def per(name: str, shown: Any) -> str:
        return f"{shown(usage[name]['mean'])} per attempt" if usage[name]["known"] else "not known"

    unpriced = usage["cost"]["unknown"]
    price = per("cost", money) + (f", not known of {count(unpriced)}" if unpriced and usage["cost"]["known"] else "")
    facts = (
        ("Tokens written", short_count(total("completion_tokens")), per("completion_tokens", short_count)),
        ("Tokens read", short_count(total("prompt_tokens")), per("prompt_tokens", short_count)),
        ("Of these cached", percent(cached), "of all prompts' tokens"),
        ("Cost", money(total("cost")), price),
        ("Steps", short_count(total("steps")), per("steps", short_count)),
        ("Time of attempts", duration(total("seconds")), per("seconds", duration)),
    )
    cells = [element("div", element("dt", n), element("dd", v, element("small", s))) for n, v, s in facts]
    return element("dl", cells, class_="facts")


def _repeats(repeats: Mapping[str, Any] | None) -> Html | None:
    if repeats is None:
        return None
    most, unfinished = repeats["attempts"], repeats["unfinished"]
    title = f"pass@k and pass^k of {plural(repeats['instances'], 'instance')} with {most} attempts each"
    left = f"; {plural(unfinished, 'instance')} with attempts that haven't ended left out" if unfinished else ""
    said = element(
        "p",
        "pass@k: at least one of k attempts is right; pass^k: all of them are. Both are unbiased estimates"
        + left
        + ".",
    )
    if not repeats["instances"]:
        return joined(element("h3", title), said)
    curve = repeats["curve"]
    lines = [
        ("a", "pass@k", [(point["k"], point["pass_at"]) for point in curve]),
        ("b", "pass^k", [(point["k"], point["pass_hat"]) for point in curve]),
    ]
    drawn = plots.curves(
        "passes", title, lines, shown=lambda k: f"{k:g}" if k == int(k) else "",
        description="; ".join(f"k = {p['k']}: {percent(p['pass_at'])} and {percent(p['pass_hat'])}" for p in curve),
    )  # fmt: skip
    rows = [[str(p["k"]), percent(p["pass_at"]), percent(p["pass_hat"])] for p in curve]
    times = [
        ("a", f"{number} of {most}", times) for number, times in reversed(list(enumerate(repeats["resolved_times"])))
    ]
    keys = [element("span", element("i", class_=f"key key-{kind}"), name) for kind, name, _ in lines]
    return joined(
        element("h3", title),
        said,
        element(
            "div",
            element("figure", drawn, element("p", keys, class_="legend")),
            element("div", plain_table(title, ("k", "pass@k", "pass^k"), rows)),
            element("figure", element("figcaption", "Instances by how often they were resolved"),
                    plots.bars(times, repeats["instances"])),
            class_="plots",
        ),
    )  # fmt: skip


# -- groups, use, failures --------------------------------------------------------------------------------------


def _groups(by: Mapping[str, Any]) -> Html:
    names = (("repository", "By repository"), ("difficulty", "By difficulty"), ("end", "By how the attempt ended"))
    parts = [element("h2", "Resolved by group")]
    failed = any(group["infrastructure"] for group in by["end"])
    for key, title in names:
        rows = [
            [
                group["name"],
                count(group["resolved"]),
                count(group["attempts"]),
                percent(group["rate"]),
                interval(group["low"], group["high"]),
                plots.interval_bar(group["rate"], group["low"], group["high"]),
                *([count(group["infrastructure"]) if group["infrastructure"] else ""] if failed else []),
            ]
            for group in by[key]
        ]
        head = [
            "group",
            "resolved",
            "attempts",
            "rate",
            "95 % interval",
            "0 to 100 %",
            *(["no verdict"] if failed else []),
        ]
        parts += [element("h3", title), plain_table(title, head, rows)]
    note = "Intervals of small groups are wide: where they overlap, the order of groups may be chance."
    return element("section", *parts, element("p", note, class_="soft"), id="groups")


def _failures(report: Mapping[str, Any]) -> Html:
    clusters, total = report["causes"], report["counts"]["attempts"]
    known = {(row["instance_id"], row["attempt"]): row for row in report["attempts"]}
    parts = [element("h2", "Why attempts aren't resolved")]
    if not clusters:
        return element("section", *parts, element("p", "All of them are."), id="failures")
    parts.append(
        element(
            "p",
            "Each attempt stands under the first cause that its record shows. A cluster says where to look, not what "
            "the mistake was.",
        )
    )
    for cluster in clusters:
        members = [known[instance, attempt] for instance, attempt in cluster["attempts"]]
        size = len(members)
        kind = "infrastructure" if cluster["cause"] == "infrastructure" else "unresolved"
        also = f" Holds as well for {count(cluster['also'])} listed under another cause." if cluster["also"] else ""
        parts.append(
            element(
                "div",
                element(
                    "h3", cluster["cause"], element("small", f" {plural(size, 'attempt')}, {percent(size / total)}")
                ),
                plots.share_bar(kind, size, total),
                element("p", f"{cluster['meaning']}.{also}", class_="soft"),
                element("details", element("summary", "which"), names_list(members), open=size <= _FEW),
                class_="cluster",
            )
        )
    return element("section", *parts, id="failures")


def names_list(rows: Sequence[Mapping[str, Any]]) -> Html:
    """Attempts with links to their trajectories, or to their row in the table."""
    items = []
    for row in rows[:MAX_NAMED]:
        address = trajectory_address(row) or f"#{anchor(row)}"
        name = row["instance_id"] + (f", attempt {row['attempt']}" if row["attempt"] > 1 else "")
        items.append(element("li", element("a", name, href=address)))
    if len(rows) > MAX_NAMED:
        items.append(element("li", f"and {count(len(rows) - MAX_NAMED)} more"))
    return element("ul", items, class_="names")


# -- checks -----------------------------------------------------------------------------------------------------


def _checks(report: Mapping[str, Any]) -> Html:
    fine, parts = [], []
    for field, title, none in (
        ("leaks", "Looked for the answer", "No trajectory was flagged."),
        ("doubts", "Environment in doubt", "No verdict is in doubt for its environment."),
        ("infrastructure", "No verdict: the infrastructure failed", "Every attempt that ended has a verdict."),
    ):
        rows = [
            [_name(one), element("span", "; ".join(value) if isinstance(value := one[_FIELD[field]], list) else value)]
            for one in report[field][:MAX_NAMED]
        ]
        if rows:
            parts += [element("h3", title), plain_table(title, ("attempt", "what was seen"), rows)]
        else:
            fine.append(none)
    parts += _of_attempts(report)
    if report["missing"]:
        names = [element("li", _name(one)) for one in report["missing"][:MAX_NAMED]]
        what = element("summary", plural(len(report["missing"]), "attempt"))
        parts += [element("h3", "Not ended"), element("details", what, element("ul", names, class_="names"))]
    return element(
        "section", element("h2", "Checks"), element("p", " ".join(fine)) if fine else None, *parts, id="checks"
    )


def _of_attempts(report: Mapping[str, Any]) -> Iterator[Html]:
    """What says nothing of a verdict, and is there in few runs: nothing is said where there is nothing."""
    retried = [(_name(row), row["tries"]) for row in report["attempts"] if row["tries"]]
    leaking = {
        str(row["instance_id"]): leaks
        for row in report["attempts"]
        if isinstance(leaks := row["environment"].get("leaks"), list) and leaks
    }
    for title, what, found in (
        ("Tried again after a failure of the infrastructure", ("attempt", "what failed before"), retried),
        ("The answer was in the environment", ("instance", "what its image holds"), list(leaking.items())),
    ):
        if found:
            rows = [[name, element("span", "; ".join(map(str, said)))] for name, said in found[:MAX_NAMED]]
            yield from (element("h3", title), plain_table(title, what, rows))


_FIELD: Final = {"leaks": "leaks", "doubts": "doubt", "infrastructure": "infrastructure"}


def _name(one: Mapping[str, Any]) -> str:
    return f"{one['instance_id']}, attempt {one['attempt']}" if one["attempt"] > 1 else str(one["instance_id"])


def _about(report: Mapping[str, Any]) -> str:
    rules = sorted({row["swebench"] for row in report["attempts"] if row["swebench"]})
    by = f" Verdicts by the rules of swebench {' and '.join(rules)}." if rules else ""
    said = manifest_version(report["manifest"])
    return f"Written by Patchwright{f' {said}' if said else ''} from the run's records.{by}"


def manifest_version(manifest: Mapping[str, Any]) -> str:
    versions = manifest.get("versions")
    said = str(versions.get("patchwright", "")) if isinstance(versions, Mapping) else ""
    return said if re.fullmatch(r"[\w.+-]{1,40}", said) else ""
