"""Typed readers of the environment. A wrong value stops the program and says what to write instead."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from hub_site.common.watched_connection import WatchedConnection

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off"}
MIN_SECRET_CHARACTERS = 32  # below this Django's signatures can be guessed
POOL_TIMEOUT_S = 5  # a request waits so long for a connection


class SettingError(Exception):
    """An environment variable is missing or makes no sense. The message names it and shows an example."""

    def __init__(self, name: str, problem: str, example: str) -> None:
        self.name = name
        super().__init__(f"The setting {name} {problem}. Example: {name}={example}")


def read_value(name: str) -> str:
    """The value of NAME, or of the file that NAME_FILE names, as containers are given secrets; else empty."""
    if value := os.environ.get(name, "").strip():
        return value
    file_name = f"{name}_FILE"
    path = os.environ.get(file_name, "").strip()
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        problem = f"names {path}, which cannot be read ({getattr(error, 'strerror', None) or 'no text'})"
        raise SettingError(file_name, problem, f"/run/secrets/{name.lower()}") from error


def env_str(name: str, default: str | None = None, *, example: str = "text") -> str:
    """The value, the default when unset or empty; without a default the setting must be there."""
    value = read_value(name) or default
    if value is None:
        raise SettingError(name, "is not set", example)
    return value


def env_choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    value = env_str(name, default)
    if value not in choices:
        raise SettingError(name, f"is “{value}”; it can be {' or '.join(choices)}", default)
    return value


def env_bool(name: str, default: bool) -> bool:
    value = env_str(name, str(default)).lower()
    if value not in TRUE | FALSE:
        raise SettingError(name, f"is “{value}”, not yes or no", "yes")
    return value in TRUE


def env_int(name: str, default: int, *, least: int = 0, most: int = 2**31 - 1) -> int:
    value = env_str(name, str(default))
    try:
        number = int(value)
    except ValueError:
        raise SettingError(name, f"is “{value}”, not a whole number", str(default)) from None
    if not least <= number <= most:
        raise SettingError(name, f"is {number}; it must lie between {least} and {most}", str(default))
    return number


def env_list(name: str, default: list[str]) -> list[str]:
    return [part.strip() for part in env_str(name, ",".join(default)).split(",") if part.strip()]


def env_path(name: str, default: Path) -> Path:
    path = Path(env_str(name, str(default))).expanduser()
    if not path.is_absolute():
        raise SettingError(name, f"is “{path}”, not a full path", str(default))
    return path


def env_secret(name: str, default: str | None = None) -> str:
    value = env_str(name, default, example="$(openssl rand -base64 48)")
    if len(value) < MIN_SECRET_CHARACTERS:
        problem = f"is shorter than {MIN_SECRET_CHARACTERS} characters"
        raise SettingError(name, problem, "$(openssl rand -base64 48)")
    return value


def env_url(name: str, default: str | None = None, *, schemes: tuple[str, ...], example: str) -> SplitResult:
    """A URL of one of the schemes. Its text never enters a message: it may hold a password."""
    value = env_str(name, default, example=example)
    try:
        url = urlsplit(value)
        _ = url.port  # raises when it is no number
    except ValueError:
        raise SettingError(name, "is not a URL", example) from None
    if url.scheme not in schemes:
        raise SettingError(name, f"must begin with {' or '.join(f'{s}://' for s in schemes)}", example)
    return url


def env_url_with_password(
    name: str, password_name: str, *, schemes: tuple[str, ...], example: str
) -> SplitResult:
    """As env_url. A URL without a password gets that of the setting `password_name`, if there is one."""
    url = env_url(name, schemes=schemes, example=example)
    password = read_value(password_name)
    if not password or url.password or not url.hostname:
        return url
    user, _, place = url.netloc.rpartition("@")
    return url._replace(netloc=f"{user.removesuffix(':')}:{quote(password, safe='')}@{place}")


def env_broker(name: str) -> str:
    """The URL of the broker, with the password of CELERY_BROKER_PASSWORD if it has none."""
    schemes = ("redis", "rediss", "redis+socket", "amqp", "amqps", "memory")
    example = "redis://localhost:6379/0"
    url = env_url_with_password(name, "CELERY_BROKER_PASSWORD", schemes=schemes, example=example)
    return url.geturl() if url.netloc else env_str(name)  # put together again it lacks the empty host


# Over a network: how long to wait for a connection, and when one whose other end says nothing is given up.
# Idle for 30 s, asked three times 10 s apart; what was sent and not confirmed for 30 s.
OVER_A_NETWORK = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# The same on the server's side: what a machine held that is gone, as a lock, is free again after a minute.
FOR_A_LOST_CLIENT = (
    "-c tcp_keepalives_idle=30",
    "-c tcp_keepalives_interval=10",
    "-c tcp_keepalives_count=3",
    "-c tcp_user_timeout=30000",
)
# Compiling a query takes longer than any query of the site, and its indexes lie in memory or on a fast disk.
FOR_SHORT_QUERIES = ("-c jit=off", "-c random_page_cost=1.1")


def env_database(name: str, *, pool_size: int, statement_timeout_s: int = 0) -> dict[str, Any]:
    """Django's description of the Postgres that a URL names.

    Args:
        pool_size: 0 means one connection per thread.
        statement_timeout_s: how long one query may take; 0 means without a limit.
    """
    example = "postgresql://hub:password@localhost:5432/hub"
    schemes = ("postgresql", "postgres")
    url = env_url_with_password(name, "DATABASE_PASSWORD", schemes=schemes, example=example)
    options: dict[str, Any] = dict(parse_qsl(url.query))
    socket_folder = options.pop("host", "")
    is_network = not socket_folder
    if is_network:
        options = OVER_A_NETWORK | options
    database = unquote(url.path.lstrip("/"))
    if not database:
        raise SettingError(name, "names no database", example)
    limit = [f"-c statement_timeout={statement_timeout_s}s"] if statement_timeout_s else []
    asked = filter(None, [options.get("options")])
    watch = FOR_A_LOST_CLIENT if is_network else ()
    options["options"] = " ".join([*watch, *asked, *FOR_SHORT_QUERIES, *limit])
    if pool_size:
        options["pool"] = {
            "connection_class": WatchedConnection,
            "min_size": 1,
            "max_size": pool_size,
            "timeout": POOL_TIMEOUT_S,
        }
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database,
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": socket_folder or unquote(url.hostname or ""),
        "PORT": str(url.port or ""),
        "OPTIONS": options,
        "CONN_MAX_AGE": 0 if pool_size else 60,  # a pool keeps its own connections
        "CONN_HEALTH_CHECKS": True,
    }


def env_hub(name: str) -> dict[str, str]:
    """The Hub that NAME_ENDPOINT, NAME_TOKEN and NAME_NAMESPACE describe."""
    schemes, example = ("http", "https"), "https://huggingface.co"
    return {
        "endpoint": env_url(f"{name}_ENDPOINT", example, schemes=schemes, example=example).geturl(),
        "token": env_str(f"{name}_TOKEN", example="hf_…, a token that may write"),
        "namespace": env_str(f"{name}_NAMESPACE", example="your-organisation-there"),
    }


def env_object_store(name: str) -> dict[str, str | None]:
    """The bucket that NAME_BUCKET, NAME_ENDPOINT, NAME_PUBLIC_ENDPOINT, NAME_REGION, NAME_KEY and NAME_SECRET
    describe; None where the client's own default holds."""
    key, secret = read_value(f"{name}_KEY") or None, read_value(f"{name}_SECRET") or None
    if (key is None) != (secret is None):
        missing = f"{name}_SECRET" if secret is None else f"{name}_KEY"
        raise SettingError(missing, "is not set, though the other half of the key is", "text")
    return {
        "bucket": env_str(f"{name}_BUCKET", example="lora-hub"),
        "endpoint": env_optional_address(f"{name}_ENDPOINT", "http://storage:8333"),
        "public_endpoint": env_optional_address(f"{name}_PUBLIC_ENDPOINT", "https://files.example.org"),
        "region": env_str(f"{name}_REGION", "us-east-1"),
        "key": key,
        "secret": secret,
    }


def env_optional_address(name: str, example: str) -> str | None:
    if not read_value(name):
        return None
    return env_url(name, schemes=("http", "https"), example=example).geturl().rstrip("/")


def env_address(name: str) -> tuple[str, int] | None:
    """A host and a port to listen at; None if unset."""
    value = os.environ.get(name, "").strip()
    if not value:
        return None
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise SettingError(name, f"is “{value}”, not an address with a port", "0.0.0.0:9100")
    return host.strip("[]"), int(port)


def env_contact(name: str) -> str:
    """A mailto: or https:// address; an e-mail address becomes the former. Empty if unset."""
    value = read_value(name)
    if "@" in value and ":" not in value:
        value = f"mailto:{value}"
    if value and not value.startswith(("mailto:", "https://")):
        raise SettingError(
            name, "is neither an e-mail address nor an https:// address", "security@example.org"
        )
    return value


def env_email(name: str) -> dict[str, Any] | None:
    """Django's EMAIL_… settings from smtp:// (STARTTLS, port 587) or smtps:// (port 465); None if unset."""
    if not read_value(name):
        return None
    example = "smtp://user:password@mail.example.org:587"
    url = env_url(name, schemes=("smtp", "smtps"), example=example)
    if not url.hostname:
        raise SettingError(name, "names no mail server", example)
    encrypted = url.scheme == "smtps"
    return {
        "EMAIL_HOST": url.hostname,
        "EMAIL_PORT": url.port or (465 if encrypted else 587),
        "EMAIL_HOST_USER": unquote(url.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(url.password or ""),
        "EMAIL_USE_SSL": encrypted,
        "EMAIL_USE_TLS": not encrypted,
        "EMAIL_TIMEOUT": 10,
    }
