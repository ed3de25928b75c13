"""The steps that stop services before their sources are replaced, and start them afterwards."""

from __future__ import annotations

from collections.abc import Iterable

from runner.plan.model import Step
from runner.spec.model import Service, Spec


def services_of(spec: Spec, sources: Iterable[str]) -> list[Service]:
    """The services that use one of these sources."""
    names = set(sources)
    return [one for one in spec.services.values() if set(one.sources) & names]


def stop_step(service: Service, needs: tuple[str, ...]) -> Step:
    """Stops a service once these steps are done."""
    return Step(
        id=f"{service.name}.stop",
        action="service.stop",
        title=f"Stop the service {service.name}",
        params={"service": service.name},
        needs=needs,
        effect="writes",
        timeout=service.timeout,
        phase="restore",
        reason="nothing may write to what is being replaced",
    )


def start_step(service: Service, sources: list[str]) -> Step:
    """Starts a service once all of these sources have been placed or put back."""
    stop = f"{service.name}.stop"
    ends = tuple(f"{one}.{verb}" for one in sources for verb in ("confirm", "unswap"))
    return Step(
        id=f"{service.name}.start",
        action="service.start",
        title=f"Start the service {service.name}",
        params={"service": service.name, "sources": sources},
        after=(stop, *ends),
        effect="writes",
        when="always",
        undoes=stop,
        timeout=service.timeout,
        phase="serve",
        reason="it starts once its sources are untouched, proven or rolled back",
    )
