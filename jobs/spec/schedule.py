"""When Prefect starts a job: at a time, or on an event."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from zoneinfo import available_timezones

import pydantic
from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, Field

EXAMPLE = "write minute hour day month weekday, e.g. 15 2 * * * for every night at 02:15"


class ScheduleSpec(BaseModel):
    """`schedule:` in a job file; without it a job runs only when a person or an event starts it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: str = Field(description="minute hour day month weekday, e.g. 15 2 * * *")
    timezone: str = Field("UTC", description="IANA name, e.g. Europe/Berlin")

    @pydantic.field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        if (fields := len(cron.split())) != 5:
            raise ValueError(f"{cron!r} has {fields} fields instead of five; {EXAMPLE}")
        try:
            next(CronSim(cron, datetime.now(UTC)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(f"{cron!r} never occurs ({error or 'no such date'}); {EXAMPLE}") from error
        return cron

    @pydantic.field_validator("timezone")
    @classmethod
    def _is_timezone(cls, timezone: str) -> str:
        if timezone not in (known := available_timezones()):
            close = difflib.get_close_matches(timezone, known, 1)
            meant = f"did you mean {close[0]}?" if close else "write an IANA name such as Europe/Berlin"
            raise ValueError(f"{timezone!r} is not a time zone; {meant}")
        return timezone

    def __str__(self) -> str:
        return f"{self.cron} {self.timezone}"


class TriggerSpec(BaseModel):
    """`trigger:` in a job file: an event that starts the job, such as the end of another job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: str = Field(min_length=1, description="name of the event, e.g. nightscribe.run.finished")
    resource: str = Field(min_length=1, description="resource of the event, e.g. nightscribe.job.reviews, or lake.*")

    def __str__(self) -> str:
        return f"{self.event} of {self.resource}"
