"""All hostile files together."""

from tests.zootool.collect.hostile.case import Case
from tests.zootool.collect.hostile.other_files import other_cases
from tests.zootool.collect.hostile.pickle_files import pickle_cases
from tests.zootool.collect.hostile.running_pickles import running_cases
from tests.zootool.collect.hostile.tensor_files import container_cases, tensor_cases


def corpus(canary: str) -> list[Case]:
    """Every case; those that run code make the folder `canary` where they succeed."""
    cases = [*running_cases(canary), *pickle_cases(), *tensor_cases(), *container_cases(), *other_cases(canary)]
    names = [case.name for case in cases]
    if len(set(names)) != len(names):
        raise ValueError(f"cases with one name: {sorted({name for name in names if names.count(name) > 1})}")
    return cases
