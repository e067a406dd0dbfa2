"""Functions by name are found and called, or refused in one line."""

import pytest

from mutualnet.user_functions import call_function, find_function


def refuses():
    raise ValueError("too many classes")


def test_a_function_is_found_and_called():
    assert find_function("collections:Counter").__name__ == "Counter"
    assert call_function("collections:Counter", "task") == {}


@pytest.mark.parametrize("spec", ["nowhere:f", "collections:f", ":f", "collections:", "a b:c"])
def test_a_name_that_leads_nowhere_is_refused(spec):
    with pytest.raises(ValueError, match=f"^task '{spec}' cannot be imported"):
        call_function(spec, "task")


def test_what_a_function_refuses_keeps_its_name():
    spec = "tests.test_user_functions:refuses"
    with pytest.raises(ValueError, match=r"^task '.*:refuses' fails \(ValueError: too many clas"):
        call_function(spec, "task")
    with pytest.raises(ValueError, match=r"fails \(TypeError: .*argument"):
        call_function("math:sqrt", "recipe")
