"""The types of settings: what a value may be, said once, for flags, TOML files and the arguments of plug-ins."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, FiniteFloat

from oleander.settings.classes import class_word
from oleander.settings.schedule import schedule
from oleander.settings.sizes import sizes

Count = Annotated[int, Ge(1), Le(1_000_000)]
CountOrZero = Annotated[int, Ge(0), Le(1_000_000)]
Threads = Annotated[int, Ge(1), Le(1024)]
Side = Annotated[int, Ge(4), Le(512)]
CohortSize = Annotated[int, Ge(1), Le(10_000)]
Seed = Annotated[int, Ge(0), Lt(2**63)]
Share = Annotated[FiniteFloat, Ge(0.01)]
Rate = Annotated[FiniteFloat, Ge(0), Le(1)]
Positive = Annotated[FiniteFloat, Gt(0)]
NotNegative = Annotated[FiniteFloat, Ge(0)]
Schedule = CountOrZero | Annotated[str, AfterValidator(schedule)]
"""Rounds: a number, up to which, or ranges."""
Sizes = Count | Annotated[str, AfterValidator(sizes)]
"""Images of a client: a number, or a range of which each client draws its own."""
ClassName = Annotated[str, AfterValidator(class_word)]
Class = CountOrZero | ClassName
"""A class of the dataset: its number, or its name, which a run takes for the number (``oleander.settings.classes``)."""
FilePath = Annotated[str, "a path"]
"""A file of the user's: made absolute in records, each machine's own on a network, and known by its content, not its name."""
FolderPath = Annotated[str, "a folder"]
"""The same of a folder and what is in it."""

VOCABULARY = {
    "Count": Count, "CountOrZero": CountOrZero, "Class": Class, "CohortSize": CohortSize, "Side": Side, "Rate": Rate,
    "Positive": Positive, "NotNegative": NotNegative, "FilePath": FilePath, "FolderPath": FolderPath, "bool": bool, "str": str,
}  # fmt: skip
"""What a plug-in may declare a setting of its own to be, with ``Literal[…]`` and ``None``."""
