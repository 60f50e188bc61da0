"""Rows and logs of our own, a trait each, with what both harnesses say of them."""

from __future__ import annotations

from evals.grading.logs import START
from tests.evals.cases import Case

_CUT = {"FAIL_TO_PASS": ["t.py::f[a"], "PASS_TO_PASS": ["t.py::p"]}
CASES = (
    Case("both pass", "PASSED f\nPASSED p", ("f", "", "p", "")),
    Case("the message of a failure is no part of its id", "FAILED f - AssertionError\nPASSED p", ("", "f", "p", "")),
    Case("xfail passes", "XFAIL f\nXFAIL p", ("f", "", "p", "")),
    Case("an error fails", "ERROR f\nPASSED p", ("", "f", "p", "")),
    Case("a test that is not there fails", "PASSED p", ("", "f", "p", "")),
    Case(
        "skipped: 4 forgets it, 5 fails F2P and keeps P2P", "SKIPPED f\nSKIPPED p", ("", "", "", ""), ("", "f", "p", "")
    ),
    Case("a word that is no status is in no list", "PASSED p\nERRORS f", ("", "", "p", "")),
    Case(
        "the count of skipped tests is a test for 4 only",
        "SKIPPED [2] t.py:3: why\nPASSED f",
        ("f", "", "", ""),
        ("f", "", "", "[2]"),
        fields={"PASS_TO_PASS": ["[2]"]},
    ),
    Case(
        "a percentage is a test for both",
        "PASSED [100%]\nPASSED f",
        ("f", "", "[100%]", ""),
        fields={"PASS_TO_PASS": ["[100%]"]},
    ),
    Case(
        "a cut id: 5 takes what begins so",
        "PASSED t.py::f[a b]\nPASSED t.py::p",
        ("t.py::f[a", "", "t.py::p", ""),
        repo="astropy/astropy",
        fields=_CUT,
    ),
    Case(
        "a cut id is met by its first word in 4, by its whole id in 5",
        "PASSED t.py::f[a\tb]\nPASSED t.py::p",
        ("", "t.py::f[a", "t.py::p", ""),
        ("t.py::f[a", "", "t.py::p", ""),
        repo="astropy/astropy",
        fields=_CUT,
    ),
    Case(
        "a cut id: what begins so has to agree",
        "PASSED t.py::f[a b]\nFAILED t.py::f[a c] - x\nPASSED t.py::p",
        ("", "t.py::f[a", "t.py::p", ""),
        repo="astropy/astropy",
        fields=_CUT,
    ),
    Case(
        "a cut id: 4 lets the last one win",
        "FAILED t.py::f[a c] - x\nPASSED t.py::f[a b]\nPASSED t.py::p",
        ("t.py::f[a", "", "t.py::p", ""),
        ("", "t.py::f[a", "t.py::p", ""),
        repo="astropy/astropy",
        fields=_CUT,
    ),
    Case(
        "a whole id with a blank is known to 5 only",
        "PASSED f x\nPASSED p",
        ("", "f x", "p", ""),
        ("f x", "", "p", ""),
        repo="astropy/astropy",
        fields={"FAIL_TO_PASS": ["f x"]},
    ),
    Case("the status behind the id", "f PASSED\np PASSED", ("f", "", "p", ""), repo="astropy/astropy"),
    Case(
        "colours are taken off",
        "\x1b[32mPASSED\x1b[0m f\n\x1b[31mPASSED\x1b[0m p",
        ("f", "", "p", ""),
        repo="astropy/astropy",
    ),
    Case("a message in an id of 5", "FAILED f - a - b\nPASSED p", ("", "f", "p", ""), repo="astropy/astropy"),
    Case(
        "made-up passes, the command failed",
        "PASSED f\nPASSED p",
        ("f", "", "p", ""),
        "invalid",
        after=">>>>> Test Exit Code: 1\n",
    ),
    Case(
        "a failure explains the exit code", "FAILED f\nPASSED p", ("", "f", "p", ""), after=">>>>> Test Exit Code: 1\n"
    ),
    Case("an exit code of 0", "PASSED f\nPASSED p", ("f", "", "p", ""), after=">>>>> Test Exit Code: 0\n"),
    Case(
        "an exit code below 0", "PASSED f\nPASSED p", ("f", "", "p", ""), "invalid", after=">>>>> Test Exit Code: -9\n"
    ),
    Case("nothing was run", "Traceback: no\nModuleNotFoundError: x", ("", "f", "", "p"), "invalid"),
    Case("a suite without names was run", "3 passing", ("", "f", "", "p")),
    Case("a suite of zero tests was not", "Executed 0 of 0", ("", "f", "", "p"), "invalid"),
    Case(
        "results outside of the markers count when there are none inside",
        "",
        ("f", "", "p", ""),
        after="PASSED f\nPASSED p\n",
    ),
    Case("results outside don't count beside others", "PASSED p", ("", "f", "p", ""), after="PASSED f\n"),
    Case("a second start ends the results", f"PASSED p\n{START}\nPASSED f", ("", "f", "p", "")),
    Case("tests that timed out", "PASSED f\nPASSED p\n>>>>> Tests Timed Out", "invalid"),
    Case("a patch that doesn't apply", "PASSED f\n>>>>> Patch Apply Failed", "invalid"),
    Case("no markers", "PASSED f\nPASSED p", "invalid", bare=True),
    Case("a carriage return ends a line", "....\rPASSED f\r\nPASSED p", ("f", "", "p", "")),
    Case(
        "a path in a parameter",
        "PASSED t[/tmp/x/a]\nPASSED p",
        ("t[/a]", "", "p", ""),
        repo="psf/requests",
        fields={"FAIL_TO_PASS": ["t[/a]"]},
    ),
    Case(
        "an address in a parameter stays",
        "PASSED t[//h/a]\nPASSED t[/a/*]",
        ("t[//h/a]", "", "t[/a/*]", ""),
        repo="psf/requests",
        fields={"FAIL_TO_PASS": ["t[//h/a]"], "PASS_TO_PASS": ["t[/a/*]"]},
    ),
    Case(
        "buttons have numbers",
        "PASSED f[MouseButton.LEFT]\nPASSED p",
        ("f[1]", "", "p", ""),
        repo="matplotlib/matplotlib",
        fields={"FAIL_TO_PASS": ["f[1]"]},
    ),
    Case("seaborn", "f PASSED [ 5%]\nFAILED p - x", ("f", "", "", "p"), repo="mwaskom/seaborn"),
    Case(
        "seaborn: a lone word stops 4",
        "PASSED\nf PASSED x\np PASSED y",
        "stops",
        ("f", "", "p", ""),
        repo="mwaskom/seaborn",
    ),
    Case(
        "sympy",
        "test_f ok\ntest_p F",
        ("test_f", "", "", "test_p"),
        repo="sympy/sympy",
        fields={"FAIL_TO_PASS": ["test_f"], "PASS_TO_PASS": ["test_p"]},
    ),
    Case(
        "sympy: a heading names a failure",
        "__ a/b.py:test_f __\ntest_p ok",
        ("", "a/b.py:test_f", "test_p", ""),
        repo="sympy/sympy",
        fields={"FAIL_TO_PASS": ["a/b.py:test_f"], "PASS_TO_PASS": ["test_p"]},
    ),
    Case(
        "Django",
        "f (a.B) ... ok\np (a.B) ... FAIL",
        ("f (a.B)", "", "", "p (a.B)"),
        repo="django/django",
        fields={"FAIL_TO_PASS": ["f (a.B)"], "PASS_TO_PASS": ["p (a.B)"]},
    ),
    Case(
        "Django: output before the ok",
        "f (a.B) ... said\nmore\nok\np ... ok",
        ("f (a.B)", "", "p", ""),
        repo="django/django",
        fields={"FAIL_TO_PASS": ["f (a.B)"]},
    ),
    Case(
        "Django: skipped", "f ... ok\np ... skipped 'why'", ("f", "", "", ""), ("f", "", "p", ""), repo="django/django"
    ),
    Case(
        "Django: a request torn apart",
        "f ... Internal Server Error: /a/\nok\np ... ERROR",
        ("f", "", "", "p"),
        repo="django/django",
    ),
    Case(
        "Django: installed in",
        "f ... Testing against Django installed in '/x'\nmore silenced).\nok\np ... ok",
        ("f", "", "p", ""),
        repo="django/django",
    ),
    Case(
        "Django: checks",
        "f ... System check identified no issues (0 silenced)\nok\np ... OK",
        ("f", "", "p", ""),
        repo="django/django",
    ),
    Case("Django: a bare heading stops both", "f ... ok\nERROR:\np ... ok", "stops", repo="django/django"),
    Case("Django: a heading", "ERROR: f (a.B)\nFAIL: p (a.B)", ("", "f", "", "p"), repo="django/django"),
    Case("no rows of tests: resolved", "PASSED x", ("", "", "", ""), fields={"FAIL_TO_PASS": [], "PASS_TO_PASS": []}),
    Case("no test passing is no run", "0 passing", ("", "f", "", "p"), "invalid"),
    Case(
        "a cut id of skipped tests is kept in 5",
        "PASSED f\nSKIPPED p[a b]",
        ("f", "", "", ""),
        ("f", "", "p[a", ""),
        repo="astropy/astropy",
        fields={"PASS_TO_PASS": ["p[a"]},
    ),
    Case(
        "a cut id: of those that don't pass the first one in the log speaks",
        "PASSED f\nSKIPPED p[a c]\nFAILED p[a b]",
        ("f", "", "", "p[a"),
        ("f", "", "p[a", ""),
        repo="astropy/astropy",
        fields={"PASS_TO_PASS": ["p[a"]},
    ),
    Case(
        "Django: torn results inside of a torn one",
        "f ... Testing against Django installed in a\n"
        "p ... Testing against Django installed in b\nq ... Testing against Django installed in c silenced).\nok",
        ("f", "", "", "p"),
        repo="django/django",
    ),
)
