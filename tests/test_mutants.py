"""The mutants still fit the code; `make mutants` says whether they are noticed."""

import importlib.util
import re

import pytest

SPEC = importlib.util.spec_from_file_location("mutants_run", __file__.replace("test_mutants.py", "mutants/run.py"))
run = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(run)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy").resolve()
    run.copy_tree(folder)
    return folder


@pytest.mark.parametrize("mutant", run.mutants([]), ids=lambda mutant: mutant.name)
def test_a_mutant_applies_and_names_tests_that_exist(mutant, tree):
    run.apply(mutant.patch, tree)
    run.apply(mutant.patch, tree, reverse=True)
    for arguments in mutant.caught_by:
        file, *function = arguments[0].split("::")
        source = (run.ROOT / file).read_text()
        assert not function or re.search(rf"def {re.escape(function[0].split('[')[0])}\(", source)


def test_numbers_are_used_once():
    numbers = [mutant.name[:3] for mutant in run.mutants([])]
    assert len(numbers) == len(set(numbers))


def test_those_for_ci_exist():
    names = (run.HERE / "ci.txt").read_text().split()
    assert len(names) == len(set(names)) == 28
    assert len(run.mutants(names)) == 28


def test_a_patch_that_does_not_fit_is_named(tree, tmp_path):
    patch = tmp_path / "999-none.patch"
    patch.write_text("--- a/LICENSE\n+++ b/LICENSE\n@@ -1 +1 @@\n-nothing like it\n+x\n")
    with pytest.raises(run.Stop, match=r"999-none\.patch no longer applies"):
        run.apply(patch, tree)


def test_what_pytest_says_is_read():
    assert run.first_failure("..F\nFAILED tests/test_a.py::test_b[1-x] - assert 0\nFAILED tests/test_a.py::test_c") == (
        "tests/test_a.py::test_b[1-x]"
    )
    assert run.first_failure("ERROR tests/test_a.py - ImportError") == "tests/test_a.py"


def test_the_report_counts_and_explains():
    mutant = run.Mutant("001-sign", "a sign", [["tests/test_a.py"]], run.HERE)
    other = mutant._replace(name="002-other")
    report = run.table(
        [run.Outcome(mutant, "tests/test_a.py::test_b", 2.0), run.Outcome(other, None, 1.0)], {"002-other": "idle"}
    )
    assert "1 of 2 noticed" in report
    assert "| 001-sign | a sign | `tests/test_a.py::test_b` | 2 |" in report
    assert "**nobody**: idle" in report
