"""The one registry: names, collisions, near misses, plug-ins."""

import pytest

from exitbench import registry as registry_module
from exitbench.errors import ExitbenchError, UnknownNameError
from exitbench.registry import Registry


class _EntryPoint:
    """What the installed metadata of a third-party package offers."""

    def __init__(self, name, load):
        self.name, self.load = name, load


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """(group, entry point) of every plug-in that counts as installed; none at first."""
    plugins = []
    monkeypatch.setattr(
        registry_module, "entry_points", lambda group: [entry for belongs, entry in plugins if belongs == group]
    )
    return plugins


@pytest.fixture
def fruits():
    registry = Registry("fruit")
    for name in ("pear", "apple", "quince"):
        registry.add(name, name.upper())
    return registry


def test_add_and_get(fruits):
    """An entry that comes back changed, or under another name."""
    assert fruits.add("plum", "PLUM") == "PLUM"
    assert fruits.get("plum") == "PLUM"
    assert "plum" in fruits
    assert "cherry" not in fruits


def test_names_are_sorted(fruits):
    """A list whose order depends on which module was imported first."""
    assert list(fruits) == ["apple", "pear", "quince"]
    assert len(fruits) == 3


def test_collision_is_refused(fruits):
    """A second package that silently takes over a name."""
    with pytest.raises(ExitbenchError, match="fruit 'pear' is already registered as 'PEAR'; choose another name"):
        fruits.add("pear", "a nashi")
    assert fruits.get("pear") == "PEAR"


def test_same_object_twice_is_no_collision(fruits):
    """A module imported again that ends in an error."""
    entry = fruits.get("pear")
    assert fruits.add("pear", entry) is entry
    assert len(fruits) == 3


@pytest.mark.parametrize(
    ("name", "hint"),
    [("aple", "did you mean 'apple'"), ("quinze", "did you mean 'quince'"), ("xyz", "known: apple, pear, quince")],
)
def test_unknown_name(fruits, name, hint):
    """A typing error answered with a KeyError, or with no way out."""
    with pytest.raises(UnknownNameError, match=f"unknown fruit '{name}'; {hint}"):
        fruits.get(name)


def test_plugin_is_found_by_every_way_in(installed):
    """A plug-in that is loaded by name but missing from lists and counts."""
    installed.append(("exitbench.fruits", _EntryPoint("mango", lambda: "MANGO")))
    assert Registry("fruit").get("mango") == "MANGO"
    assert "mango" in Registry("fruit")
    assert list(Registry("fruit")) == ["mango"]
    assert len(Registry("fruit")) == 1
    assert list(Registry("nut")) == []


def test_plugins_are_loaded_once_and_late(installed, fruits):
    """Third-party modules imported at start-up, or again at every look-up."""
    loaded = []
    installed.append(("exitbench.fruits", _EntryPoint("mango", lambda: loaded.append(0) or "MANGO")))
    assert not loaded
    assert fruits.get("mango") == fruits.get("mango") == "MANGO"
    assert list(fruits) == ["apple", "mango", "pear", "quince"]
    assert len(loaded) == 1


def test_plugin_cannot_take_a_built_in_name(installed, fruits):
    """A plug-in that changes what a built-in name means."""
    installed.append(("exitbench.fruits", _EntryPoint("pear", lambda: "a nashi")))
    with pytest.raises(ExitbenchError, match="fruit 'pear' is already registered"):
        fruits.get("apple")
    assert fruits.get("pear") == "PEAR"


def test_plugin_may_look_things_up_while_it_loads(installed, fruits):
    """A plug-in that builds on a built-in entry and sends the registry round in circles."""
    installed.append(("exitbench.fruits", _EntryPoint("perry", lambda: fruits.get("pear") + " pressed")))
    assert fruits.get("perry") == "PEAR pressed"
