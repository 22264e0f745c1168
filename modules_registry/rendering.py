"""A module's card as its page shows it: rendered in a child with limits, once for the same text."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from django.conf import settings
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from hub_site.jobs.child_folder import new_folder
from hub_site.jobs.children import ChildBroke, ChildDied, ChildError, ChildRefused, Launcher
from hub_site.jobs.sandbox import Limits
from modules_registry.card_html import HTML_FILE, MARKDOWN_FILE

RENDERED_CHARACTERS_MAX = 64 * 1024  # a longer card stays plain
# A long model card takes 0.1 s and 30 MB; what takes more was made to.
LIMITS = Limits(memory_mb=256, cpu_s=1, file_mb=8, disk_mb=16, threads=8)
RENDER_S = 5.0  # by the clock, on a machine that has more to do; then the card stays plain this time
AT_ONCE = 2  # children of one web process
CARDS_CACHED = 64  # each of at most RENDERED_CHARACTERS_MAX and what card_html makes of it
LOOK_S = 0.2  # so often the clock is looked at

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShownCard:
    """What a page shows of a card."""

    html: SafeString
    is_plain: bool  # as it was typed: it is too long, or too expensive to render


places = threading.BoundedSemaphore(AT_ONCE)


@cache
def launcher() -> Launcher:
    package = "modules_registry.card_html"
    return Launcher(preload=package, call=f"{package}:render_file", root=settings.BASE_DIR, threads=1)


def shown_card(markdown: str, *, is_kept: bool = True) -> ShownCard:
    """Render a card as its page shows it, see `card_html`; as it was typed if that costs too much.

    Args:
        is_kept: the next one who asks for the same text is not to wait for it.
    """
    render: Callable[[str], str | None] = rendered_html if is_kept else render_html
    try:
        html = render(markdown) if len(markdown) <= RENDERED_CHARACTERS_MAX else None
    except (ChildError, OSError) as error:  # the machine's fault: a page is shown without it, too
        logger.warning("a card stays plain this time: %s", error)
        html = None
    if html is None:
        return ShownCard(mark_safe(f"<pre>{escape(markdown)}</pre>"), is_plain=True)
    return ShownCard(mark_safe(html), is_plain=False)  # nh3 has cleaned it


def render_html(markdown: str) -> str | None:
    """Return a card's HTML; None if it costs too much, now and whenever it is asked for.

    Raises:
        ChildError, OSError: it could not be rendered this time. `rendered_html` does not keep that.
    """
    if not markdown.strip():
        return ""
    if not places.acquire(timeout=RENDER_S):
        raise ChildError(f"Other cards have taken more than {RENDER_S:.0f} s.")
    try:
        return html_of_child(markdown)
    except (ChildRefused, ChildBroke) as error:  # too long, too much memory, or a fault of the parser
        logger.warning("a card stays plain: %s", error)
        return None
    except ChildDied as died:
        if died.may_be_of_the_site:
            raise
        logger.warning("a card stays plain: %s", died)
        return None
    finally:
        places.release()


rendered_html = lru_cache(maxsize=CARDS_CACHED)(render_html)


def html_of_child(markdown: str) -> str:
    """Render in a child of its own.

    Raises:
        ChildError: it did not come to an end within its limits.
    """
    ends_at_s = time.monotonic() + RENDER_S
    with new_folder(Path(settings.FILE_UPLOAD_TEMP_DIR), "card-") as folder:
        (folder / MARKDOWN_FILE).write_text(markdown, encoding="utf-8", errors="replace")
        with launcher().start_child(folder, LIMITS) as child:
            for _ in child.events(LOOK_S):
                if time.monotonic() > ends_at_s:
                    raise ChildError(f"It took more than {RENDER_S:.0f} s.")
        return (folder / HTML_FILE).read_text(encoding="utf-8")
