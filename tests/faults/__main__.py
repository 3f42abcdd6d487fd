"""`make faults`: every fault at length, as a table; writes docs/reliability.md.

Words after the command choose faults by what their titles contain; then nothing is written.
"""

import contextlib
import sys
import time
import traceback

from tests.faults import report
from tests.faults.catalogue import FAULTS, Fault
from tests.faults.trial import Outcome
from tests.harness import ROOT, Service

Outcomes = dict[str, Outcome | None]


def main(words: list[str]) -> int:
    """Run the faults; 1 if one of them broke a promise."""
    chosen = [f for f in FAULTS if not words or any(word in f.title for word in words)]
    outcomes: Outcomes = {}
    shared = Service()
    try:
        for number, fault in enumerate(chosen, 1):
            print(f"[{number}/{len(chosen)}] {fault.title} …", flush=True)
            outcomes[fault.title] = _strike(fault, shared)
    finally:
        shared.remove()
    print("\n" + report.table(outcomes))
    if not words:
        (ROOT / "docs/reliability.md").write_text(report.page(outcomes))
    return 0 if all(outcomes.values()) else 1


def _strike(fault: Fault, shared: Service) -> Outcome | None:
    """Run one fault; None where it broke a promise, which is printed."""
    begun = time.monotonic()
    try:
        with fault.place() if fault.place else contextlib.nullcontext(_running(shared)) as service:
            outcome = fault.run(service, fault.long)
    except Exception:
        traceback.print_exc()
        print(f"    FAILED after {time.monotonic() - begun:.0f} s", flush=True)
        return None
    found = outcome.reckoning
    print(
        f"    {found.accepted} batches accepted, {found.stored} events stored, {found.lost} lost, "
        f"{found.twice} twice, {found.dead} dead; {outcome.note} "
        f"({time.monotonic() - begun:.0f} s)",
        flush=True,
    )
    return outcome


def _running(service: Service) -> Service:
    """The shared service, started where a failed fault left it stopped, or at first."""
    if service._process is None or service.process.poll() is not None:
        service.lines.clear()
        service.start()
    return service


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
