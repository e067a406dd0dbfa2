"""Functions by name are found and called, or refused in one line."""

from __future__ import annotations

import pytest

from mutualnet.user_functions import call_function, find_function


def refuses():
    raise ValueError("too many classes")


def breaks():
    return nothing  # noqa: F821


def test_a_file_that_does_not_run_says_where(tmp_path, monkeypatch):
    (tmp_path / "broken_file.py").write_text("x = 1\ny = (\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"cannot be imported \(SyntaxError: .*line 2"):
        call_function("broken_file:f", "task")


def test_a_function_is_found_and_called():
    assert find_function("collections:Counter").__name__ == "Counter"
    assert call_function("collections:Counter", "task") == {}


@pytest.mark.parametrize("spec", ["nowhere:f", "collections:f", ":f", "collections:", "a b:c"])
def test_a_name_that_leads_nowhere_is_refused(spec):
    with pytest.raises(ValueError, match=f"^task '{spec}' cannot be imported"):
        call_function(spec, "task")


def test_what_a_function_refuses_keeps_its_name():
    spec = "tests.test_user_functions:refuses"
    place = r"test_user_functions.py line \d+"
    with pytest.raises(ValueError, match=rf"^task '.*:refuses' fails \(ValueError: too.*, {place}"):
        call_function(spec, "task")
    with pytest.raises(ValueError, match=rf"^task '.*:breaks' fails \(NameError: .*, {place}"):
        call_function("tests.test_user_functions:breaks", "task")
    with pytest.raises(ValueError, match=r"fails \(TypeError: .*argument"):
        call_function("math:sqrt", "recipe")
