"""What is to be done, from what the config says and what is known: one answer for every moment.

A start, a reload and a start after a kill ask the same questions here. The answers depend on
nothing else, so that asking twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from stemd.config.resolved import PipelineConfig
from stemd.config.session_plan import SessionPlan


@dataclass(frozen=True, slots=True)
class PipelineSteps:
    """Pipelines to be stopped, then those to be started; the others run on."""

    stop: tuple[str, ...]
    start: tuple[PipelineConfig, ...]


def of_pipelines(
    wanted: Sequence[PipelineConfig], running: Mapping[str, PipelineConfig]
) -> PipelineSteps:
    """Stop what is gone or has changed, start what is new or has changed."""
    configs = {pipeline.name: pipeline for pipeline in wanted}
    stop = tuple(name for name, config in running.items() if configs.get(name) != config)
    start = tuple(each for each in wanted if each.name not in running or each.name in stop)
    return PipelineSteps(stop, start)


@dataclass(frozen=True, slots=True)
class KnownSession:
    """What its file says of a session.

    `from_config`: its plan stood in the config, it was not begun by command. `withdrawn`: it
    ended because the config no longer has it.
    """

    id: str
    pipeline: str
    plan: SessionPlan
    running: bool
    from_config: bool
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class SessionSteps:
    """What becomes of the sessions of one pipeline.

    `go_on`: the session that runs, or ran when a daemon ended. `plan`: its plan from now on.
    `withdraw`: it is to end after its running scan, as the config no longer has it. `end`: others
    that say that they run. `begin`: plans to be carried out after it, in this order.
    """

    go_on: str | None
    plan: SessionPlan | None
    withdraw: bool
    end: tuple[str, ...]
    begin: tuple[SessionPlan, ...]


def of_sessions(plans: Sequence[SessionPlan], known: Sequence[KnownSession]) -> SessionSteps:
    """What becomes of one pipeline's sessions; `known` are all of them, the newest first.

    A session is known by its name: the running one goes on under the config's plan of its name.
    A plan that was carried out, by whomever, is not begun again.
    """
    running = [session for session in known if session.running]
    now = running[0] if running else None
    named = {plan.name: plan for plan in plans}
    of_now = named.get(now.plan.name) if now is not None and now.from_config else None
    done = [session.plan.wish for session in known if not session.withdrawn]
    begin = (plan for plan in named.values() if plan is not of_now and plan.wish not in done)
    return SessionSteps(
        go_on=now.id if now is not None else None,
        plan=of_now or (now.plan if now is not None else None),
        withdraw=now is not None and now.from_config and of_now is None,
        end=tuple(session.id for session in running[1:]),
        begin=tuple(begin),
    )


def of_removed(pipelines: Collection[str], known: Sequence[KnownSession]) -> tuple[str, ...]:
    """Sessions that say that they run, of pipelines that are in the config no more."""
    return tuple(each.id for each in known if each.running and each.pipeline not in pipelines)
