"""All hostile files together."""

from tests.zootool.untrusted.hostile.amplifying_pickles import amplifying_cases
from tests.zootool.untrusted.hostile.archive_files import archive_cases, tar_cases
from tests.zootool.untrusted.hostile.case import Case
from tests.zootool.untrusted.hostile.container_files import container_cases
from tests.zootool.untrusted.hostile.other_files import other_cases
from tests.zootool.untrusted.hostile.pickle_files import pickle_cases
from tests.zootool.untrusted.hostile.running_pickles import running_cases
from tests.zootool.untrusted.hostile.tensor_files import tensor_cases


def corpus(canary: str) -> list[Case]:
    """Every case; those that run code make the folder `canary` where they succeed."""
    torch_files = [*running_cases(canary), *pickle_cases(), *amplifying_cases(), *tensor_cases(), *container_cases()]
    cases = [*torch_files, *other_cases(canary), *tar_cases(), *archive_cases()]
    names = [case.name for case in cases]
    if len(set(names)) != len(names):
        raise ValueError(f"cases with one name: {sorted({name for name in names if names.count(name) > 1})}")
    return cases
