"""What all environments share. Every name read here is explained in docs/operating.md."""

from pathlib import Path

from hub_site.common.machine_addresses import MACHINE_ADDRESSES
from hub_site.logs import FORMATTERS
from hub_site.settings.env import (
    env_address,
    env_broker,
    env_choice,
    env_contact,
    env_database,
    env_email,
    env_hub,
    env_int,
    env_list,
    env_object_store,
    env_path,
    env_secret,
    env_str,
    env_url,
)

BASE_DIR = Path(__file__).resolve().parents[2]

# Where things are ------------------------------------------------------

HUB_DATA = env_path("HUB_DATA", BASE_DIR / "var")
HUB_STORE = env_choice("HUB_STORE", "disk", ("disk", "hub", "s3"))
HUB_STORE_REMOTE = env_hub("HUB_STORE") if HUB_STORE == "hub" else None
HUB_STORE_OBJECTS = env_object_store("HUB_STORE") if HUB_STORE == "s3" else None
HUB_STORE_CACHE_MB = env_int("HUB_STORE_CACHE_MB", 0)
HUB_IMPORT_ENDPOINT = env_url(
    "HUB_IMPORT_ENDPOINT",
    "https://huggingface.co",
    schemes=("http", "https"),
    example="https://huggingface.co",
).geturl()
HUB_IMPORT_TOKEN = env_str("HUB_IMPORT_TOKEN", "")
HUB_IMPORT_REPOSITORIES_MAX = env_int("HUB_IMPORT_REPOSITORIES_MAX", 1000, least=1)
HUB_IMPORTS_UNFINISHED_MAX = env_int("HUB_IMPORTS_UNFINISHED_MAX", 3, least=1)
HUB_BASE_MAX_MB = env_int("HUB_BASE_MAX_MB", 20_000, least=1)
HUB_DEMO_BUNDLE = env_path("HUB_DEMO_BUNDLE", BASE_DIR / "demo" / "bundle")
HUB_ENGLISH_BUNDLE = env_path("HUB_ENGLISH_BUNDLE", BASE_DIR / "demo" / "english" / "bundle")
HUB_HOST = env_str("HUB_HOST", "127.0.0.1")
HUB_PORT = env_int("HUB_PORT", 8000, least=1, most=65535)
HUB_PUBLIC_URL = env_url(
    "HUB_PUBLIC_URL",
    f"http://{HUB_HOST}:{HUB_PORT}",
    schemes=("http", "https"),
    example="https://hub.example.org",
)
PUBLIC_ADDRESS = HUB_PUBLIC_URL.geturl().rstrip("/")
IS_HTTPS = HUB_PUBLIC_URL.scheme == "https"

# Machines ask as localhost, whatever else is allowed (hub_site.common.machine_addresses).
ALLOWED_HOSTS = [
    "localhost",
    *env_list("HUB_ALLOWED_HOSTS", [HUB_PUBLIC_URL.hostname or "localhost", "127.0.0.1", "[::1]"]),
]
CSRF_TRUSTED_ORIGINS = [f"{HUB_PUBLIC_URL.scheme}://{HUB_PUBLIC_URL.netloc}"]

# Who looks after it: where a worker tells how it is, and what Prometheus reads the metrics with.
HUB_HEALTH_ADDRESS = env_address("HUB_HEALTH_ADDRESS")
HUB_METRICS_TOKEN = env_secret("HUB_METRICS_TOKEN") if env_str("HUB_METRICS_TOKEN", "") else ""

# What may be asked of it ------------------------------------------------------

HUB_UPLOAD_MAX_MB = env_int("HUB_UPLOAD_MAX_MB", 2048, least=1)
# Hub clients send files up to this size inside the commit, larger ones ahead of it by LFS.
HUB_REGULAR_UPLOAD_MAX_MB = env_int("HUB_REGULAR_UPLOAD_MAX_MB", 512, least=1)
# What all visitors together may be sending at once, and how long a body may take before its speed counts.
HUB_UPLOADS_IN_FLIGHT_MB = env_int("HUB_UPLOADS_IN_FLIGHT_MB", 4096, least=1)
# What stays free on the disk for work that runs; below it uploads and new jobs are refused.
HUB_DISK_SPARE_MB = env_int("HUB_DISK_SPARE_MB", 500, least=0)
# Of one owner, a person or an organization; 0: as much as they like.
HUB_STORAGE_OF_OWNER_MB = env_int("HUB_STORAGE_OF_OWNER_MB", 50_000)
HUB_REPOSITORIES_OF_OWNER = env_int("HUB_REPOSITORIES_OF_OWNER", 5000)
HUB_UPLOADS_AN_HOUR = env_int("HUB_UPLOADS_AN_HOUR", 600)
# A class, or an office, is behind one address.
HUB_SIGNUPS_AN_HOUR = env_int("HUB_SIGNUPS_AN_HOUR", 20, least=1)
HUB_BODY_GRACE_S = env_int("HUB_BODY_GRACE_S", 20, least=1)
# One address may hold open so many connections: an office is behind one, a browser opens six. 0: any number.
HUB_CONNECTIONS_OF_ADDRESS_MAX = env_int("HUB_CONNECTIONS_OF_ADDRESS_MAX", 200)
# For so long a page that was rendered for a stranger is given to others, unless the audit recorded something.
HUB_PAGES_KEPT_S = env_int("HUB_PAGES_KEPT_S", 30)
HUB_THREADS = env_int("HUB_THREADS", 2, least=1, most=256)
HUB_STREAMS_MAX = env_int("HUB_STREAMS_MAX", 1000, least=0)
HUB_STREAMS_OF_OWNER_MAX = env_int("HUB_STREAMS_OF_OWNER_MAX", 20, least=0)
HUB_COMPOSE_DEADLINE_S = env_int("HUB_COMPOSE_DEADLINE_S", 1800, least=10)
# Choice and search of a balanced job on a large base; a worker makes as many candidates as fit into it.
HUB_COMPOSE_SEARCH_S = env_int("HUB_COMPOSE_SEARCH_S", 600, least=10)
HUB_COMPOSE_MEMORY_MB = env_int("HUB_COMPOSE_MEMORY_MB", 4096, least=256)
# Places of a compose worker, of which one is kept for quick jobs: those estimated to take at most so long.
HUB_COMPOSE_SLOTS = env_int("HUB_COMPOSE_SLOTS", 2, least=2, most=64)
HUB_COMPOSE_QUICK_S = env_int("HUB_COMPOSE_QUICK_S", 60, least=1)
HUB_COMPOSE_CUDA = env_choice("HUB_COMPOSE_CUDA", "auto", ("auto", "yes", "no"))
HUB_COMPOSITIONS_UNFINISHED_MAX = env_int("HUB_COMPOSITIONS_UNFINISHED_MAX", 5, least=1)
HUB_CPU_MINUTES_A_DAY = env_int("HUB_CPU_MINUTES_A_DAY", 720)  # of one account; 0: as many as it likes
# Whether the site makes the example report that its home page leads to, once for each release.
HUB_EXAMPLE_REPORT = env_choice("HUB_EXAMPLE_REPORT", "yes", ("yes", "no"))
# Of all visitors without an account from one address; 0: only who is signed in composes.
HUB_VISITORS_COMPOSE_A_DAY = env_int("HUB_VISITORS_COMPOSE_A_DAY", 10)
HUB_TRY_BASES = env_int("HUB_TRY_BASES", 2, least=1, most=64)
HUB_TRY_MEMORY_MB = env_int("HUB_TRY_MEMORY_MB", 4096, least=256)
HUB_TRY_ANSWER_S = env_int("HUB_TRY_ANSWER_S", 20, least=1)
HUB_TRY_WAITING_MAX = env_int("HUB_TRY_WAITING_MAX", 12, least=1)
HUB_TRY_PER_MINUTE = env_int("HUB_TRY_PER_MINUTE", 30, least=1)
HUB_TRY_VISITORS_PER_MINUTE = env_int("HUB_TRY_VISITORS_PER_MINUTE", 6)  # 0: only who is signed in

# Beside the store: the system's own folder may be small, or memory. Django does not start without it.
FILE_UPLOAD_TEMP_DIR = HUB_DATA / "uploads"
FILE_UPLOAD_HANDLERS = [
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "hub_site.common.upload_handler.CleanUploadHandler",
]
HUB_DATA.mkdir(mode=0o711, parents=True, exist_ok=True)
FILE_UPLOAD_TEMP_DIR.mkdir(mode=0o700, exist_ok=True)

DATA_UPLOAD_MAX_MEMORY_SIZE = 12 * 1024 * 1024  # forms with examples as rows; files do not count
DATA_UPLOAD_MAX_NUMBER_FIELDS = 4000

# The parts ------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "allauth.usersessions",
    "csp",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "hub_site.accounts",
    "hub_site.jobs",
    "hub_site.audit",
    "hub_site.notifications",
    "hub_site.pages",
    "hub_site.moderation",
    "hub_site.operations",
    "modules_registry",
    "modules_registry.importing",
    "composer",
    "composer.playground",
]

MIDDLEWARE = [
    "hub_site.request_metrics.RequestMetricsMiddleware",
    "hub_site.common.machine_addresses.MachineAddressesMiddleware",
    "hub_site.common.streaming.StreamingMiddleware",
    "hub_site.common.waiting_requests.WaitingRequestsMiddleware",
    "hub_site.common.security_headers.SecurityHeadersMiddleware",
    "hub_site.common.compression.CompressionMiddleware",
    "hub_site.error_answers.ApiErrorsMiddleware",
    "hub_site.error_answers.AddressMiddleware",
    "hub_site.common.etags.JsonEtagMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "hub_site.site_fault_answers.SiteFaultMiddleware",
    "hub_site.error_answers.RefusalMiddleware",
    "hub_site.common.api_inputs.KnownParametersMiddleware",
]

ROOT_URLCONF = "hub_site.urls"
ASGI_APPLICATION = "hub_site.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "hub_site.accounts.context_processors.mail",
                "hub_site.accounts.context_processors.disk",
                "hub_site.jobs.context_processors.worker_requests",
                "hub_site.notifications.context_processors.unread_notifications",
            ],
            # Every page writes figures, and tells its address.
            "builtins": [
                "hub_site.common.figures",
                "hub_site.common.form_fields",
                "hub_site.common.site_address",
            ],
        },
    }
]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = env_path("HUB_STATIC", HUB_DATA / "static")
STATICFILES_DIRS = [BASE_DIR / "static"]

DATABASES = {
    "default": env_database(
        "DATABASE_URL",
        pool_size=env_int("HUB_DATABASE_POOL", 0, most=500),
        statement_timeout_s=env_int("HUB_STATEMENT_TIMEOUT_S", 0, most=3600),
    )
}

CACHES = {
    "default": {
        "BACKEND": "hub_site.common.shared_cache.SharedCache",  # limits hold for all web processes together
        "LOCATION": "shared_cache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    },
    "process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "fragments": {  # of pages, some kilobytes each
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "fragments",
        "OPTIONS": {"MAX_ENTRIES": 4000},
    },
}

# Accounts ------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
SESSION_COOKIE_HTTPONLY = True

MAIL_SERVER = env_email("HUB_EMAIL_URL")
DEFAULT_FROM_EMAIL = env_str("HUB_EMAIL_FROM", f"LoRA Hub <noreply@{HUB_PUBLIC_URL.hostname}>")
HUB_SECURITY_CONTACT = env_contact("HUB_SECURITY_CONTACT")
SERVER_EMAIL = DEFAULT_FROM_EMAIL
if MAIL_SERVER:
    globals().update(MAIL_SERVER)
else:
    # Without a mail server a mail is kept where only the operator can read it.
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = HUB_DATA / "mail"

ACCOUNT_ADAPTER = "hub_site.accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {
    "login": "hub_site.accounts.forms.LoginForm",
    "signup": "hub_site.accounts.forms.SignupForm",
    "reset_password": "hub_site.accounts.forms.ResetPasswordForm",
    "reset_password_from_key": "hub_site.accounts.forms.ResetPasswordKeyForm",
    "change_password": "hub_site.accounts.forms.ChangePasswordForm",
    "add_email": "hub_site.accounts.forms.AddEmailForm",
}
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email*" if MAIL_SERVER else "email", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory" if MAIL_SERVER else "none"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_RATE_LIMITS: dict[str, str] | bool = {
    "login_failed": "10/5m/ip,5/5m/key",
    "reauthenticate": "10/m/user",  # passwords tried to confirm something
    "signup": f"{HUB_SIGNUPS_AN_HOUR}/h/ip",
    "reset_password": "20/h/ip,5/h/key",
}
ACCOUNT_DEFAULT_HTTP_PROTOCOL = HUB_PUBLIC_URL.scheme
# The server in front of Django has already put the visitor's address in REMOTE_ADDR (HUB_TRUSTED_PROXIES).
ALLAUTH_TRUSTED_PROXY_COUNT = 0

# Safety in the browser ------------------------------------------------------

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "manifest-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SECURE_SSL_REDIRECT = IS_HTTPS
SECURE_REDIRECT_EXEMPT = [f"^{path.lstrip('/')}$" for path in MACHINE_ADDRESSES]  # asked without TLS
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = IS_HTTPS

# The API ------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "hub_site.accounts.authentication.BearerToken",
        "hub_site.accounts.authentication.SignedInSession",
    ],
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.IsAuthenticatedOrReadOnly",
        "hub_site.accounts.authentication.TokenScope",
    ],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [
        "hub_site.common.json_bodies.JsonBodyParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "EXCEPTION_HANDLER": "hub_site.common.api_errors.answer_error",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "LoRA Hub API",
    "DESCRIPTION": "Find, publish and download LoRA modules; compose them for a task.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "OwnerKindEnum": "hub_site.accounts.models.Namespace.Kind",
        "BaseKindEnum": "modules_registry.models.BaseModel.Kind",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "hub_site.common.api_schema.describe_headers",
        "hub_site.common.api_schema.add_examples",
    ],
    "PATH_CONVERTER_OVERRIDES": {
        "namespace": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,96}$"},
        "repo": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,96}$"},
    },
}

# The queue ------------------------------------------------------

CELERY_BROKER_URL = env_broker("CELERY_BROKER_URL")
# Celery prefers the variable of the environment to CELERY_BROKER_URL here, and that may lack the password.
CELERY_BROKER_READ_URL = CELERY_BROKER_WRITE_URL = CELERY_BROKER_URL
HUB_STORE_SWEEP_INTERVAL_S = env_int("HUB_STORE_SWEEP_INTERVAL_S", 3600, least=1)
HUB_STORE_LOOK_INTERVAL_S = env_int("HUB_STORE_LOOK_INTERVAL_S", 300, least=1)
SWEEP_INTERVAL_S = env_int("HUB_SWEEP_INTERVAL_S", 15, least=1)
# Beside the tasks modules of INSTALLED_APPS.
CELERY_IMPORTS = ["composer.run.tasks", "composer.share.tasks", "hub_site.jobs.roles"]
CELERY_BEAT_SCHEDULE = {
    "sweep-compositions": {"task": "composer.tasks.sweep", "schedule": SWEEP_INTERVAL_S},
    "sweep-repositories": {"task": "modules_registry.tasks.sweep_repositories", "schedule": SWEEP_INTERVAL_S},
    "look-for-repositories": {
        "task": "modules_registry.tasks.look_for_repositories",
        "schedule": HUB_STORE_LOOK_INTERVAL_S,
    },
    "sweep-files": {"task": "modules_registry.tasks.sweep_files", "schedule": HUB_STORE_SWEEP_INTERVAL_S},
    "index-modules": {"task": "modules_registry.tasks.index_modules", "schedule": SWEEP_INTERVAL_S},
    "count-facet-values": {"task": "modules_registry.tasks.count_facet_values", "schedule": 60},
    "count-search-words": {"task": "modules_registry.tasks.count_search_words", "schedule": 3600},
}
CELERY_BEAT_SCHEDULE["keep-example"] = {"task": "composer.tasks.keep_example", "schedule": SWEEP_INTERVAL_S}
CELERY_BEAT_SCHEDULE["sweep-tryouts"] = {
    "task": "composer.trying.tasks.sweep_tryouts",
    "schedule": SWEEP_INTERVAL_S,
}
CELERY_BEAT_SCHEDULE["forget-old-requests"] = {
    "task": "hub_site.operations.tasks.forget_old_requests",
    "schedule": 3600,
}
CELERY_BEAT_SCHEDULE["mail-notifications"] = {
    "task": "hub_site.jobs.tasks.mail_notifications",
    "schedule": SWEEP_INTERVAL_S,
}
CELERY_BEAT_SCHEDULE["forget-notifications"] = {
    "task": "hub_site.jobs.tasks.forget_notifications",
    "schedule": 24 * 3600,
}
CELERY_BEAT_SCHEDULE["sweep-imports"] = {
    "task": "modules_registry.importing.tasks.sweep_imports",
    "schedule": SWEEP_INTERVAL_S,
}
CELERY_BEAT_SCHEDULE["sweep-measurements"] = {
    "task": "modules_registry.tasks.sweep_measurements",
    "schedule": SWEEP_INTERVAL_S,
}
CELERY_TASK_ROUTES = {
    "modules_registry.importing.tasks.run_import": {"queue": "transfer"},
    "modules_registry.importing.tasks.run_base_import": {"queue": "transfer"},
    "modules_registry.tasks.sync_repository": {"queue": "transfer"},
    "modules_registry.tasks.look_for_repositories": {"queue": "transfer"},
    "modules_registry.tasks.sweep_files": {"queue": "transfer"},
    "composer.tasks.wake_worker": {"queue": "compose"},
    "composer.trying.tasks.run_tryout": {"queue": "try"},
}

# Logs: one line per event ------------------------------------------------------

HUB_LOG_FORMAT = env_choice("HUB_LOG_FORMAT", "line", tuple(FORMATTERS))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"chosen": {"()": FORMATTERS[HUB_LOG_FORMAT]}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "chosen"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        # Its own handlers write another format; ours is at the root.
        "uvicorn": {"handlers": [], "propagate": True},
        "uvicorn.access": {"handlers": [], "propagate": False},
        "uvicorn.error": {"handlers": []},
        "httpx2": {"level": "WARNING"},  # a line for every request to the Hub is too much
    },
}
