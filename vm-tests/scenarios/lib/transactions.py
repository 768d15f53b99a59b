"""certwarden's transactions on a node's disk: their ledgers and reports."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDED = {"verified", "rolled-back", "rollback-failed", "discarded"}


@dataclass(frozen=True)
class Transaction:
    directory: Path

    def records(self) -> list[dict[str, Any]]:
        """The lines of its ledger; the last one may be half written."""
        found = []
        for line in (self.directory / "ledger.jsonl").read_text().splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return found

    def states(self) -> list[str]:
        return [record["state"] for record in self.records() if record.get("state")]

    @property
    def state(self) -> str | None:
        states = self.states()
        return states[-1] if states else None

    def report(self) -> Any:
        return json.loads((self.directory / "report.json").read_text())


class Transactions:
    """All of a node's transactions, oldest first."""

    def __init__(self, tree: Path) -> None:
        self._directory = tree / "var/lib/certwarden"

    def all(self) -> list[Transaction]:
        try:
            found = sorted((self._directory / "transactions").iterdir())
        except FileNotFoundError:
            return []
        return [Transaction(path) for path in found if (path / "ledger.jsonl").exists()]

    def count(self) -> int:
        return len(self.all())

    def states(self) -> list[str]:
        """The states of all, each once where it comes twice in a row."""
        states = [state for transaction in self.all() for state in transaction.states()]
        return [s for i, s in enumerate(states) if i == 0 or states[i - 1] != s]

    @property
    def state(self) -> str | None:
        """Where the newest one stands."""
        states = self.states()
        return states[-1] if states else None

    def ended(self) -> bool:
        return self.state in ENDED

    def observe_only(self) -> bool:
        """Whether certwarden has stopped to change anything until a person has looked."""
        state = json.loads((self._directory / "state.json").read_text())
        return bool(state.get("observe_only"))
