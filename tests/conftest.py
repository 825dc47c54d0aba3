"""How all tests run: strict JAX, a user's cache of their own, and zoos that find their animals by walking a folder.

Nothing of qresearch is imported at the top, so that no import comes before the hook that checks its types.
"""

import importlib
import inspect
import os
import pkgutil
from pathlib import Path

import hypothesis
import jax
import pytest

TESTS = Path(__file__).parent
# The classes of a folder that have all these methods; a test that asks for the name runs once for each of them.
ZOOS = {
    "grid_class": ("qresearch.grids", ("round", "encode", "decode")),
    "estimator_class": ("qresearch.estimators", ("pull",)),
    "observer_class": ("qresearch.observers", ("measure", "combine", "resolve")),
    "quantizer_class": ("qresearch.quantizers", ("init", "apply")),
    "ptq_class": ("qresearch.ptq", ("solve",)),
}

jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile(
    "qresearch",
    deadline=None,  # the first example compiles
    max_examples=20,
    derandomize=True,
    database=None,
)
hypothesis.settings.load_profile("qresearch")


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory):
    """A user's cache for the session, without compiled programs in it; processes that tests start inherit both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
        jax.config.update("jax_enable_compilation_cache", False)
        yield Path(os.environ["XDG_CACHE_HOME"])


@pytest.fixture(scope="module", autouse=True)
def strict_dtypes(request):
    """In the folders of the floors, mixing dtypes raises; not in the tests of whole runs, which lie beside this file.

    Those train with optax's Adam: see `standard_dtypes`.
    """
    strict = request.path.parent != TESTS
    with jax.numpy_dtype_promotion("strict" if strict else "standard"):
        yield


@pytest.fixture
def standard_dtypes():
    """For tests that train with optax's Adam: it raises a float to an int32 power, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def pytest_generate_tests(metafunc):
    for name, (package, methods) in ZOOS.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, classes_of(package, methods), ids=lambda cls: cls.__name__)


def classes_of(package: str, methods: tuple[str, ...]) -> list[type]:
    """Every class that a module of the package defines and that has the methods, protocols apart."""
    found = []
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            own = cls.__module__ == module.name and not getattr(cls, "_is_protocol", False)
            if own and all(callable(getattr(cls, method, None)) for method in methods):
                found.append(cls)
    assert found, f"{package} has no class with the methods {methods}"
    return found
