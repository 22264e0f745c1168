"""The system's Chromium, and how we start it."""

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome")
# No sandbox: tests run as root in containers. The rest keeps the browser from talking to its maker.
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MISSING = "NO BROWSER: install one with: apt-get install chromium"


def chromium_path() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)
