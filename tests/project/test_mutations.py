"""Every mutation of `tests/mutations/` is noticed by the tests that it names."""

import re

import pytest
from mutations import MUTATIONS, PACKAGE, ROOT, copy_package, failed, mutate, run_tests

NAMES = [mutation.name for mutation in MUTATIONS]


def test_the_table_does_not_rot():
    """Each text stands once in its file, changes something, and the tests are there."""
    assert len(set(NAMES)) == len(NAMES) >= 30
    for mutation in MUTATIONS:
        text = (PACKAGE / mutation.file).read_text(encoding="utf-8")
        assert text.count(mutation.old) == 1, f"{mutation.name}: {mutation.old!r} is not once in {mutation.file}"
        compile(text.replace(mutation.old, mutation.new), mutation.file, "exec")
        assert mutation.new != mutation.old and mutation.tests
        for test in mutation.tests:
            file, _, function = test.partition("::")
            source = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {function}\(", source, re.MULTILINE), f"{mutation.name}: no {test}"


def test_a_text_that_is_not_there_is_said(tmp_path):
    copy = copy_package(tmp_path)
    with pytest.raises(ValueError, match=r"beta's sign: 'no such text' stands 0 times"):
        mutate(copy, next(m for m in MUTATIONS if m.name == "beta's sign")._replace(old="no such text"))


@pytest.mark.slow
def test_the_package_as_it_is_passes(tmp_path):
    copy_package(tmp_path)
    tests = sorted({test for mutation in MUTATIONS for test in mutation.tests})
    status, output = run_tests(tmp_path, tuple(tests))
    assert status == 0 and not failed(output), output


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAMES)
def test_a_mutation_is_noticed(tmp_path, mutation):
    mutate(copy_package(tmp_path), mutation)
    status, output = run_tests(tmp_path, mutation.tests)
    assert status == 1 and failed(output), f"{mutation.name} survived, or broke before a test ran:\n{output}"
