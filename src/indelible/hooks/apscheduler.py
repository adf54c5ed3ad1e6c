"""APScheduler 3: one event for each run of a job, and for each run that did not happen.

    watch(scheduler, client)

By the scheduler's own events: EXECUTED is `success`, ERROR `error`, MISSED `missed` (too late), and
MAX_INSTANCES `skipped` (the run before still runs). A run is timed from its submission; one that is
over before the scheduler tells of its submission has no duration. To give what is captured inside a
job a context, decorate its function with `indelible.hooks.jobs.job` instead.

An event is named by the job's id, or, where the id was made up by APScheduler and is another one at
each start, by the job's name, which is that of its function.
"""

import re
import threading
import time
import weakref
from collections import OrderedDict
from typing import Any, Final, Unpack

import apscheduler
from apscheduler import events
from apscheduler.schedulers.base import BaseScheduler

from indelible.client.client import Indelible
from indelible.client.context import Context
from indelible.hooks.configuration import Settings, observer_of
from indelible.hooks.observation import Work
from indelible.hooks.watch import is_same

UNNAMED: Final = "<unnamed>"
_OUTCOMES: Final = {
    events.EVENT_JOB_EXECUTED: "success",
    events.EVENT_JOB_ERROR: "error",
    events.EVENT_JOB_MISSED: "missed",
    events.EVENT_JOB_MAX_INSTANCES: "skipped",
}
_MADE_UP: Final = re.compile(r"[0-9a-f]{32}")
_MOST: Final = 10_000


def watch(
    scheduler: BaseScheduler, client: Indelible | None = None, **settings: Unpack[Settings]
) -> BaseScheduler:
    """Record the runs of a scheduler's jobs; returns the scheduler.

    Done again with the same client it changes nothing.

    Args:
        scheduler: before or after it was started.
        client: the client to send with; without one, that of `settings`, else the default one.
        settings: options of `Indelible`, and fields of `indelible.hooks.observer.Recording`;
            `skip` takes ids of jobs.
    """
    listener = _Listener(scheduler, client, settings)
    there = _listeners.setdefault(scheduler, [])
    if not any(is_same(one.client, listener.client) for one in there):
        there.append(listener)
        scheduler.add_listener(listener.heard, events.EVENT_ALL)
    return scheduler


class _Listener:
    """Called on the scheduler's thread and on those of its executors.

    LIMIT: a run that an executor lost (a broken process pool) is told by no event of the
    scheduler's; its beginning is forgotten once `_MOST` later runs began.
    """

    def __init__(self, scheduler: BaseScheduler, client: Indelible | None, settings: Any) -> None:
        framework = f"apscheduler {apscheduler.version}"
        self._observer = observer_of(client, settings, framework=framework)
        self._scheduler = weakref.proxy(scheduler)
        self._names: OrderedDict[str, str] = OrderedDict()
        # When a run began, or None where its end came first.
        self._began: OrderedDict[object, float | None] = OrderedDict()
        self._meeting = threading.Lock()

    @property
    def client(self) -> Indelible:
        return self._observer.client

    def heard(self, event: Any) -> None:
        if event.code == events.EVENT_JOB_ADDED:
            self._added(event)
        elif event.code == events.EVENT_JOB_SUBMITTED:
            now = time.perf_counter()
            for moment in event.scheduled_run_times:
                self._meet((event.job_id, moment), now)
        elif event.code in _OUTCOMES:
            self._ended(event)

    def _added(self, event: Any) -> None:
        if _MADE_UP.fullmatch(event.job_id):
            job = self._scheduler.get_job(event.job_id, event.jobstore)
            if job is not None:
                _remember(self._names, event.job_id, job.name)

    def _ended(self, event: Any) -> None:
        began = None
        if event.code != events.EVENT_JOB_MAX_INSTANCES:  # that one never began
            began = self._meet((event.job_id, event.scheduled_run_time), None)
        name = event.job_id
        if _MADE_UP.fullmatch(name):
            name = self._names.get(name, UNNAMED)
        if not self._observer.wants("job", name):
            return
        ran = event.code in (events.EVENT_JOB_EXECUTED, events.EVENT_JOB_ERROR)
        error = getattr(event, "exception", None)
        self._observer.saw(
            Work(
                kind="job",
                name=name,
                outcome=_OUTCOMES[event.code],
                framework=self._observer.framework,
                context=Context(),
                duration_s=time.perf_counter() - began if ran and began is not None else None,
                failure=self._observer.failure_of(error) if error is not None else None,
            )
        )

    def _meet(self, run: object, now: float | None) -> float | None:
        """Of a run's two ends, keep the first and let go of both at the second.

        Returns the beginning where it was kept.
        """
        with self._meeting:
            if run in self._began:
                return self._began.pop(run)
            _remember(self._began, run, now)
        return None


_listeners: "Final[weakref.WeakKeyDictionary[BaseScheduler, list[_Listener]]]" = (
    weakref.WeakKeyDictionary()
)


def _remember(table: "OrderedDict[Any, Any]", key: object, value: object) -> None:
    table[key] = value
    while len(table) > _MOST:
        table.popitem(last=False)
