#!/usr/bin/env python
"""Django's command line. `./hub manage …` calls it with the environment of the running site."""

import os
import sys

from django.core.management import execute_from_command_line

from hub_site.settings.env import SettingError


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub_site.settings.prod")
    try:
        execute_from_command_line(sys.argv)
    except SettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except Exception as error:
        if told := told_in_a_sentence(error):
            sys.stderr.write(f"{told}\n")
            return 1
        raise
    return 0


def told_in_a_sentence(error: Exception) -> str | None:
    """A server that is away, or takes no password of ours; --traceback shows where it was met."""
    from hub_site.common.operator_texts import operator_text  # it needs the settings, which are read now

    return None if "--traceback" in sys.argv else operator_text(error)


if __name__ == "__main__":
    sys.exit(main())
