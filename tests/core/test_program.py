"""Counting compiled programs: once for each compilation, under the name of the function, and nothing else."""

import jax
import jax.numpy as jnp
import pytest

from qresearch.core.program import count_programs, program


def test_a_program_is_counted_when_it_is_compiled():
    @program
    def doubled(x):
        return 2 * x

    with count_programs() as counted:
        for _ in range(3):
            assert doubled(jnp.ones(3))[0] == 2.0
        assert counted == {}  # it fills at the end of the block
    assert counted == {"doubled": 1}
    with count_programs() as counted:
        doubled(jnp.zeros(3))
    assert counted == {}
    with count_programs() as counted:
        doubled(jnp.ones(4))
        doubled(jnp.ones((3, 1)))
    assert counted == {"doubled": 2}


def test_options_and_names():
    @program(static_argnums=0)
    def scaled(factor, x):
        return factor * x

    @program
    def shifted(x):
        return x + 1

    with count_programs() as counted:
        scaled(2.0, jnp.ones(3))
        scaled(3.0, jnp.ones(3))
        shifted(jnp.ones(3))
    assert counted == {"scaled": 2, "shifted": 1}


def test_other_programs_are_not_counted():
    with count_programs() as counted:
        jax.jit(lambda x: x - 5)(jnp.ones(7))
        jnp.ones(7) * 11
    assert counted == {}


def test_counters_nest_and_survive_errors():
    @program
    def squared(x):
        return x * x

    with pytest.raises(RuntimeError, match="stop"), count_programs() as outer:
        squared(jnp.ones(2))
        with count_programs() as inner:
            squared(jnp.ones(3))
        raise RuntimeError("stop")
    assert (inner, outer) == ({"squared": 1}, {"squared": 2})


def test_a_program_inside_a_program_is_not_one_of_its_own():
    @program
    def inner_part(x):
        return x + 3

    @program
    def whole(x):
        return inner_part(x) * 2

    with count_programs() as counted:
        assert whole(jnp.ones(2))[0] == 8.0
    assert counted == {"whole": 1}
