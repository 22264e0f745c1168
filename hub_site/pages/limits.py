"""The limits of this site, read from the settings it runs with."""

from typing import NamedTuple

from django.conf import settings

from composer.matching.ranking import MODULES_MAX
from composer.playground.services import INPUT_CHARACTERS_MAX, MAX_NEW_TOKENS_LIMIT
from composer.task.examples import CHARACTERS_MAX, EXAMPLES_MAX, HELD_OUT_MAX
from hub_site.accounts.names import NAME_LENGTH_MAX

BYTES_PER_MB = 1_000_000
SECONDS_PER_MINUTE = 60


class Limit(NamedTuple):
    what: str
    value: str
    then: str  # what happens beyond it


def duration(seconds: int) -> str:
    """Minutes where they come out even, else seconds."""
    if seconds % SECONDS_PER_MINUTE:
        return f"{seconds} seconds"
    minutes = seconds // SECONDS_PER_MINUTE
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def groups() -> list[tuple[str, list[Limit]]]:
    """All of them, by what they are about."""
    return [("Uploading", upload_limits()), ("Composing", composing()), ("Try it", try_limits())]


def upload_limits() -> list[Limit]:
    return [
        Limit(
            "One upload, all its files together",
            f"{settings.HUB_UPLOAD_MAX_MB} MB",
            "It is refused; nothing is stored.",
        ),
        Limit(
            "One form without files, such as pasted examples",
            f"{settings.DATA_UPLOAD_MAX_MEMORY_SIZE // BYTES_PER_MB} MB",
            "It is refused. Upload the examples as a file.",
        ),
        Limit(
            "Stored by one owner, a person or an organization",
            f"{settings.HUB_STORAGE_OF_OWNER_MB:,} MB" if settings.HUB_STORAGE_OF_OWNER_MB else "any",
            "An upload that does not fit is refused. Delete a module or a draft.",
        ),
        Limit(
            "Modules and drafts of one owner",
            f"{settings.HUB_REPOSITORIES_OF_OWNER:,}" if settings.HUB_REPOSITORIES_OF_OWNER else "any",
            "The next one is refused. Delete one.",
        ),
        Limit(
            "Uploads of one owner within an hour",
            f"{settings.HUB_UPLOADS_AN_HOUR:,}" if settings.HUB_UPLOADS_AN_HOUR else "any",
            "The message says when the next one is possible.",
        ),
        Limit(
            "The name of an account or a module",
            f"{NAME_LENGTH_MAX} characters",
            "Choose a shorter one: letters, digits, dots, dashes and underscores.",
        ),
    ]


def composing() -> list[Limit]:
    visitors = settings.HUB_VISITORS_COMPOSE_A_DAY
    return [
        Limit(
            "Examples to compose from, and held-out ones to measure on",
            f"{EXAMPLES_MAX}, and {HELD_OUT_MAX:,}",
            "The request is refused, and names how many there are.",
        ),
        Limit(
            "One input or one output",
            f"{CHARACTERS_MAX:,} characters",
            "The line is named. Shorten it or leave it out.",
        ),
        Limit(
            "Modules in one composition",
            str(MODULES_MAX),
            "Of more compatible ones, the most promising are tried, and the best composed.",
        ),
        Limit(
            "Compositions of one person, waiting or running",
            str(settings.HUB_COMPOSITIONS_UNFINISHED_MAX),
            "Wait for one to end, or cancel one.",
        ),
        Limit(
            "CPU time of one person's compositions within a day",
            f"{settings.HUB_CPU_MINUTES_A_DAY:,} minutes" if settings.HUB_CPU_MINUTES_A_DAY else "any",
            "The next one is refused until earlier ones are a day old. The message says when.",
        ),
        Limit(
            "Compositions within a day, from one address without an account",
            f"{visitors}, each estimated at {duration(settings.HUB_COMPOSE_QUICK_S)} or less"
            if visitors
            else "none",
            "You are asked to sign up; what you typed is kept.",
        ),
        Limit(
            "Time for one composition",
            duration(settings.HUB_COMPOSE_DEADLINE_S),
            "It is stopped and says so. Take fewer modules or a smaller budget.",
        ),
        Limit(
            "Memory for one composition",
            f"{settings.HUB_COMPOSE_MEMORY_MB} MB",
            "It is stopped and says so. Take fewer modules or a smaller base.",
        ),
        Limit(
            "CPU threads for one composition",
            str(settings.HUB_THREADS),
            "It takes longer.",
        ),
    ]


def try_limits() -> list[Limit]:
    visitors = settings.HUB_TRY_VISITORS_PER_MINUTE
    return [
        Limit(
            "Questions within a minute, with an account",
            str(settings.HUB_TRY_PER_MINUTE),
            "The message says when to ask again.",
        ),
        Limit(
            "Questions within a minute, from one address without an account",
            str(visitors) if visitors else "none",
            "The message says when to ask again. With an account you can ask more often.",
        ),
        Limit(
            "Questions waiting for an answer, all users together",
            str(settings.HUB_TRY_WAITING_MAX),
            "The page says “busy”. Ask again in a few seconds.",
        ),
        Limit(
            "One input",
            f"{INPUT_CHARACTERS_MAX:,} characters",
            "It is refused before the model reads it. Shorten it.",
        ),
        Limit(
            "One answer",
            f"{MAX_NEW_TOKENS_LIMIT} tokens, {duration(settings.HUB_TRY_ANSWER_S)}",
            "It ends there, and the page says so.",
        ),
        Limit(
            "Questions and answers are kept",
            "1 day",
            "They are deleted. Until then only you can see them.",
        ),
    ]
