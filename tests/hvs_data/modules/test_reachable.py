"""Modules behind functions and objects: whatever a user hands over in place of a module, its model is found."""

import dataclasses
import functools
import types
import weakref

import pytest
import torch
from torch import nn

import hvs_data as hvs
from hvs_data.modules.reachable import functions_of_forward, reachable_modules

NET = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
TABLE = {"net": NET}
SPACE = types.SimpleNamespace(inner=types.SimpleNamespace(net=NET), other=nn.Linear(1, 1))
LIBRARY = types.ModuleType("users_library")
LIBRARY.net = NET
LIBRARY.other = nn.Linear(1, 1)
REFERENCE, PROXY, WEAK_TABLE = weakref.ref(NET), weakref.proxy(NET), weakref.WeakValueDictionary(net=NET)


def named(x):
    return NET(x)


def with_default(x, net=NET):
    return net(x)


def with_keyword(x, *, net=NET):
    return net(x)


def nested(x):
    def inner(y):
        return (lambda z: NET(z))(y)

    return inner(x)


def closing_over(net):
    def outer():
        def inner(x):
            return net(x)

        return inner

    return outer()


def with_attribute(x):
    return with_attribute.net(x)


with_attribute.net = NET


class Callable:
    def __init__(self, net):
        self._net = net

    def __call__(self, x):
        return self._net(x)


class Deep:
    """Holds its model in an object of an object."""

    def __init__(self, net):
        self.trainer = types.SimpleNamespace(model=net, ema=nn.Linear(1, 1))

    def __call__(self, x):
        return self._run(x)

    def _run(self, x):
        return self.trainer.model(x)


class Lazily:
    def __init__(self, net):
        self._held = [net]

    @property
    def net(self):
        return self._held[0]

    @functools.cached_property
    def again(self):
        return self.net

    def encode(self, x):
        return self.net(x)

    def encode_again(self, x):
        return self.again(x)


class OfClass:
    net = NET

    @classmethod
    def encode(cls, x):
        return cls.net(x)

    @staticmethod
    def encode_statically(x):
        return OfClass.net(x)


@dataclasses.dataclass
class Fields:
    net: nn.Module

    def encode(self, x):
        return self.net(x)


@dataclasses.dataclass(slots=True)
class Slots:
    net: nn.Module

    def __call__(self, x):
        return self.net(x)


LAZILY = Lazily(NET)

WAYS = {
    "a lambda of a global": lambda x: NET(x),
    "a lambda of an output's attribute": lambda x: NET(x).real[:, 0],
    "a function": named,
    "a function of a function": lambda x: named(x),
    "a function in a function": nested,
    "a closure": closing_over(NET),
    "a default": with_default,
    "a default of a keyword": with_keyword,
    "an attribute of the function": with_attribute,
    "partial, the function's own": functools.partial(named),
    "partial, an argument": functools.partial(lambda net, x: net(x), NET),
    "partial, a keyword": functools.partial(lambda x, net: net(x), net=NET),
    "partial of partial": functools.partial(functools.partial(lambda net, x: net(x), NET)),
    "a method of the module": NET.forward,
    "a method of an object": Fields(NET).encode,
    "a method through a property": Lazily(NET).encode,
    "a property in a lambda": lambda x: LAZILY.net(x),
    "a cached property": Lazily(NET).encode_again,
    "a class method": OfClass.encode,
    "a static method": OfClass.encode_statically,
    "an object": Callable(NET),
    "an object of objects": Deep(NET),
    "an object with slots": Slots(NET),
    "a dict": lambda x: TABLE["net"](x),
    "an object's object": lambda x: SPACE.inner.net(x),
    "an attribute by its name": lambda x: getattr(SPACE.inner, "net")(x),  # noqa: B009
    "a Python module": lambda x: LIBRARY.net(x),
    "a weak reference": lambda x: REFERENCE()(x),
    "a weak proxy": lambda x: PROXY(x),
    "a proxy itself": PROXY,
    "a weak method": weakref.WeakMethod(NET.forward),
    "a weak dict": lambda x: WEAK_TABLE["net"](x),
    "a cache": functools.lru_cache(named),
    "a decorated function": torch.no_grad()(named),
    "a compiled function": torch.compile(named, backend="eager"),
    "a compiled lambda": torch.compile(lambda x: NET(x), backend="eager"),
    "a compiled module": torch.compile(NET, backend="eager"),
    "a functional call": lambda x: torch.func.functional_call(NET, {}, (x,)),
    "a list of functions": [named, nn.ReLU()],
    "a module's list": None,  # below
}


class Hiding(nn.Module):
    """Keeps a network in a list, so that it is none of its parameters, as distillers do."""

    def __init__(self, net):
        super().__init__()
        self.teacher = [net]


WAYS["a module's list"] = Hiding(NET)


def below(modules):
    return {id(inner) for module in modules for inner in module.modules()}


@pytest.mark.parametrize("way", WAYS)
def test_the_module_is_found(way):
    found = reachable_modules(WAYS[way])
    assert id(NET) in below(found)
    # nothing else than what was asked for: neither a trainer's moving average nor other attributes of what is named
    assert id(SPACE.other) not in below(found) and id(LIBRARY.other) not in below(found)


def test_what_a_function_does_not_name_is_not_found():
    deep = Deep(NET)
    assert reachable_modules(lambda x: deep.trainer.model(x)) == [NET]
    assert reachable_modules(lambda x: x.flatten(1)) == []
    assert reachable_modules([None, "NET", 3, torch.ones(2), torch.nn.functional.normalize]) == []


def test_a_part_that_a_function_calls_is_given_like_the_model():
    assert reachable_modules(closing_over(nn.Sequential())) != []
    model = nn.ModuleDict({"encoder": NET})
    holder = types.SimpleNamespace(model=model)
    assert reachable_modules(lambda x: holder.model.encoder(x)) == [model, NET]


def test_a_cell_without_a_value_and_cycles():
    def calls(x):
        return later(x)

    assert reachable_modules(calls) == []
    later = functools.partial(calls)
    later.keywords["self"] = later
    assert reachable_modules(calls) == []


def test_a_dead_reference_is_nothing():
    gone = nn.Linear(1, 1)
    reference, proxy = weakref.ref(gone), weakref.proxy(gone)
    del gone
    assert reachable_modules([reference]) == [] and reachable_modules([proxy]) == []


def test_an_exchanged_global_is_seen():
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    held = {"net": first}
    encode = lambda x: held["net"](x)  # noqa: E731
    assert reachable_modules(encode) == [first]
    held["net"] = second
    assert reachable_modules(encode) == [second]


class Global(hvs.Objective):
    """An objective whose model is in no attribute of it."""

    def encode(self, pixels):
        return self._features(pixels)

    def _features(self, pixels):
        return NET(pixels)


def test_an_objectives_methods_are_read_too():
    assert Global().modules() == [NET]


def test_functions_of_a_forward_are_its_own():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = Hiding(nn.Linear(1, 1))
            self.also = named

        def forward(self, x):
            return self._more(self.also(self.part(x)))

        def _more(self, x):
            return with_default(x)

        def unused(self, x):
            return with_keyword(x)

    functions = functions_of_forward(Model())
    assert set(functions) == {Model.forward, Model._more, named, with_default}
