"""Which cases are one, whatever their deployments' names are spelled as (`facts.identity`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fewmark.core import Case, Deployment
from fewmark.facts.facts import Facts, load_facts, user_files
from fewmark.facts.identity import NAMED, same_names, shown


class SameCases:
    """Resolves the names of deployments; earlier ones give the spelling.

    Parameters
    ----------
    known : the deployments whose spelling is taken
    asked : deployments that may be spelled otherwise
    """

    def __init__(self, known: Iterable[Deployment], asked: Iterable[Deployment], facts: Facts | None = None) -> None:
        facts = load_facts(user_files()) if facts is None else facts
        known, asked = list(known), list(asked)
        self._taken: dict[str, dict[str, str]] = {}
        self.notes: list[str] = []
        for column in NAMED:
            there, here = ([str(n) for d in of if (n := getattr(d, column)) is not None] for of in (known, asked))
            taken = same_names(column, [*there, *here], facts)
            self._taken[column] = taken
            self.notes += shown({name: taken[name] for name in here}, column)
        self._found: dict[Deployment, Deployment] = {}

    def deployment(self, deployment: Deployment) -> Deployment:
        """The deployment with its names in the spelling that stands for all."""
        found = self._found.get(deployment)
        if found is None:
            named: dict[str, Any] = {}
            for column in NAMED:
                name = getattr(deployment, column)
                other = self._taken[column].get(str(name))
                if name is not None and other is not None and other != name:
                    named[column] = other
            found = self._found[deployment] = replace(deployment, **named) if named else deployment
        return found

    def case_id(self, case: Case) -> str:
        """The id that all spellings of a case share."""
        deployment = self.deployment(case.deployment)
        return case.case_id if deployment == case.deployment else Case(deployment, case.workload).case_id
