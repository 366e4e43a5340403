"""The container files: valid, consistent with the settings, confined; no container is started.

Compose is read as `docker compose` would: variables filled in, overrides merged. The pull script
and the health checks run for real.
"""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from ruamel.yaml import YAML

from app.config import Settings
from app.core.jobs import JobName, queue_of
from app.core.redis import WORKER_HEARTBEAT_KEY
from tests.tools import find_tool

ROOT = Path(__file__).parents[2]
BASE = ROOT / "docker-compose.yml"
OVERRIDES = sorted((ROOT / "docker").glob("compose.*.yml"))
REQUIRED = {"SECRET_KEY": "9f2c4e6a8b0d1f3a5c7e9b1d3f5a7c9e1b3d5f7a", "POSTGRES_PASSWORD": "0a1b2c"}
MODELS = {
    "EMBEDDING_MODEL": "openai/text-embedding-3-small",
    "DEFAULT_MODEL": "openai/gpt-4.1-mini",
}
WORKERS = ("worker", "ocr-worker")
OURS = ("api", *WORKERS, "migrate")
ONE_SHOT = {"migrate", "ollama-pull"}
# Read by libraries, not by Settings.
OTHER_VARIABLES = {"PROMETHEUS_MULTIPROC_DIR"}
# Lists that an override replaces; all others are appended to (the compose specification's rule).
REPLACED = {"command", "entrypoint", "test"}
_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\})"
)


def fill_in(value: Any, variables: Mapping[str, str]) -> Any:
    """Return `value` with its variables filled in. Raises KeyError if a required one is empty."""

    def replace(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        found = variables.get(match["name"], "")
        if not found and match["kind"] == "?":
            raise KeyError(match["name"], match["text"])
        return found or (match["text"] if match["kind"] == "-" else "")

    if isinstance(value, str):
        return _VARIABLE.sub(replace, value)
    if isinstance(value, dict):
        return {key: fill_in(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_in(item, variables) for item in value]
    return value


def merge(base: Any, over: Any, key: str = "") -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        both = {name: merge(base[name], over[name], name) for name in base.keys() & over.keys()}
        return {**base, **over, **both}
    if isinstance(base, list) and isinstance(over, list) and key not in REPLACED:
        return [*base, *over]
    return over


def load(*overrides: Path, **variables: str) -> dict[str, Any]:
    """Return the project that compose would run with these overrides and variables."""
    project: Any = {}
    for path in (BASE, *overrides):
        raw = YAML(typ="safe").load(path.read_text())
        project = merge(project, fill_in(raw, {**REQUIRED, **variables}))
    assert isinstance(project, dict)
    return project


def services(*overrides: Path, **variables: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = load(*overrides, **variables)["services"]
    return found


def stages() -> list[list[tuple[str, str]]]:
    """Return the Dockerfile's instructions as (name, arguments), by stage; first what precedes."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: list[list[tuple[str, str]]] = [[]]
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, arguments = line.strip().partition(" ")
            if name == "FROM":
                found.append([])
            found[-1].append((name, arguments.strip()))
    return found


@pytest.mark.parametrize("path", [BASE, *OVERRIDES], ids=lambda path: path.name)
def test_each_compose_file_obeys_the_schema(path: Path) -> None:
    check_schema(path)


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda path: path.name)
def test_the_merged_project_obeys_the_schema(override: Path, tmp_path: Path) -> None:
    merged = tmp_path / "compose.json"
    merged.write_text(json.dumps(load(override, **MODELS)))
    check_schema(merged)


def check_schema(path: Path) -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    result = subprocess.run(
        [program, "--builtin-schema", "vendor.compose-spec", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_secret_stops_compose_with_the_remedy(name: str) -> None:
    with pytest.raises(KeyError, match="openssl rand -hex 32"):
        load(**{name: ""})


@pytest.mark.parametrize("override", [None, *OVERRIDES])
@pytest.mark.parametrize("service", OURS)
def test_our_services_set_only_variables_that_exist_to_values_that_work(
    service: str, override: Path | None
) -> None:
    overrides = [override] if override else []
    environment = services(*overrides, **MODELS)[service]["environment"]
    settings = {name.upper() for name in Settings.model_fields}
    assert set(environment) - OTHER_VARIABLES <= settings
    values = {name.lower(): value for name, value in environment.items() if value}
    assert Settings.model_validate(values).data_dir == Path("/data")


def test_production_is_the_default_and_only_developing_turns_it_off() -> None:
    for service in OURS:
        assert services()[service]["environment"]["ENVIRONMENT"] == "production"
        developed = services(ROOT / "docker" / "compose.dev.yml")[service]["environment"]
        assert developed["ENVIRONMENT"] == "local"


def test_without_further_settings_the_models_are_the_containers_own() -> None:
    for service in ("api", *WORKERS):
        environment = services()[service]["environment"]
        assert environment["EMBEDDING_MODEL"] == "ollama/nomic-embed-text"
        assert environment["DEFAULT_MODEL"] == "ollama/llama3.2"


def test_models_from_elsewhere_start_no_ollama() -> None:
    project = services(ROOT / "docker" / "compose.models.yml", **MODELS)
    unwanted = {
        name for name, service in project.items() if "ollama" in service.get("profiles", [])
    }
    assert unwanted == {"ollama", "ollama-pull"}
    for service in set(project) - unwanted:
        for name, condition in project[service].get("depends_on", {}).items():
            assert name not in unwanted or condition["required"] is False


@pytest.mark.parametrize("service", services())
def test_what_runs_long_is_watched_and_restarted_and_what_runs_once_is_not(service: str) -> None:
    definition = services()[service]
    if service in ONE_SHOT:
        assert definition["healthcheck"] == {"disable": True}
        assert definition["restart"] == "no"
    else:
        assert definition["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert definition["restart"] == "unless-stopped"


@pytest.mark.parametrize("service", services())
def test_nothing_waits_for_what_cannot_happen(service: str) -> None:
    for name, dependency in services()[service].get("depends_on", {}).items():
        expected = "service_completed_successfully" if name in ONE_SHOT else "service_healthy"
        assert dependency["condition"] == expected


@pytest.mark.parametrize("service", services())
def test_every_image_is_pinned_or_built_here(service: str) -> None:
    definition = services()[service]
    if service in OURS:
        assert definition["pull_policy"] == "build"
    else:
        assert re.search(r":v?\d+\.\d+\.\d+[\w.-]*$", definition["image"])


@pytest.mark.parametrize("service", services())
def test_every_container_is_confined(service: str) -> None:
    definition = services()[service]
    assert definition["cap_drop"] == ["ALL"]
    assert definition["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in definition
    assert not any("docker.sock" in volume for volume in definition.get("volumes", []))
    # Ollama's image is not ours to say so.
    assert definition.get("read_only") or service.startswith("ollama")


def test_only_the_proxy_faces_the_network() -> None:
    published = {name: service.get("ports", []) for name, service in services().items()}
    assert {name for name, ports in published.items() if ports} == {"api", "nginx", "prometheus"}
    for name in ("api", "prometheus"):
        assert all(port.startswith("127.0.0.1:") for port in published[name])


def test_databases_are_cut_off_and_keep_their_data() -> None:
    project = load()
    assert project["networks"]["storage"] == {"internal": True}
    for name, folder in (("postgres", "/var/lib/postgresql"), ("redis", "/data")):
        service = project["services"][name]
        assert service["networks"] == ["storage"]
        assert service["volumes"] == [f"{name}:{folder}"]
        assert name in project["volumes"]


def test_the_api_and_the_workers_share_the_uploaded_files() -> None:
    for service in ("api", *WORKERS):
        assert "data:/data" in services()[service]["volumes"]


def test_the_last_user_of_the_image_is_a_number_and_not_root() -> None:
    users = [arguments for name, arguments in stages()[-1] if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_the_base_image_is_pinned_and_the_packages_are_hashed() -> None:
    preamble, build, final = stages()
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+\.\d+-slim-\w+", preamble[0][1])
    assert build[0] == ("FROM", "${PYTHON_IMAGE} AS build")
    assert final[0] == ("FROM", "${PYTHON_IMAGE}")
    assert any("--require-hashes -r requirements.txt" in arguments for _, arguments in build)


@pytest.mark.parametrize(
    ("languages", "packages"),
    [
        ("eng", "tesseract-ocr-eng"),
        ("eng+chi_sim", "tesseract-ocr-eng tesseract-ocr-chi-sim"),
        ("none", None),
    ],
)
def test_the_image_gets_the_language_packs_of_the_setting(
    languages: str, packages: str | None, tmp_path: Path
) -> None:
    command = next(
        arguments for name, arguments in stages()[-1] if name == "RUN" and "apt-get" in arguments
    )
    program = tmp_path / "apt-get"
    program.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/log"\n')
    program.chmod(0o755)
    environment = {"OCR_LANGUAGES": languages, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    kept = command.replace("rm -rf /var/lib/apt/lists/*", "true")
    subprocess.run(["/bin/sh", "-c", kept], env=environment, check=True)
    log = tmp_path / "log"
    called = log.read_text().splitlines() if log.exists() else []
    install = f"install --yes --no-install-recommends tesseract-ocr {packages}"
    assert called == (["update", install] if packages else [])


def test_compose_builds_the_image_with_the_languages_that_the_workers_read() -> None:
    for service in OURS:
        assert services()[service]["build"]["args"] == {"OCR_LANGUAGES": "eng"}
        build = services(OCR_LANGUAGES="eng+deu")[service]["build"]
        assert build["args"] == {"OCR_LANGUAGES": "eng+deu"}


def test_one_worker_or_another_takes_each_queue() -> None:
    queues = [services()[name]["environment"]["WORKER_QUEUES"].split(",") for name in WORKERS]
    taken = sorted(queue for names in queues for queue in names)
    assert taken == sorted({queue_of(job) for job in JobName})


def test_the_builder_is_sent_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    copied = {arguments.split()[0] for name, arguments in stages()[1] if name == "COPY"}
    assert patterns[0] == "*"
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == copied
    assert all((ROOT / path).exists() for path in copied)


def test_health_checks_call_the_script_of_the_image() -> None:
    image = next(arguments for name, arguments in stages()[-1] if name == "HEALTHCHECK")
    assert '["python", "healthcheck.py", "api"]' in image
    for service in ("api", *WORKERS):
        test = services()[service]["healthcheck"]["test"]
        assert test == ["CMD", "python", "healthcheck.py", service]


def check_health(what: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "docker" / "healthcheck.py", what],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


class _Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/health", "/metrics") else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class _Failing(_Answering):
    def do_GET(self) -> None:
        self.send_response(500)
        self.end_headers()


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), request.param) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield str(server.server_port)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("port", [_Answering], indirect=True)
def test_an_api_that_answers_is_well(port: str) -> None:
    assert check_health("api", PORT=port).returncode == 0


@pytest.mark.parametrize("port", [_Failing], indirect=True)
def test_an_api_that_answers_with_an_error_is_not(port: str) -> None:
    result = check_health("api", PORT=port)
    assert (result.returncode, result.stderr) == (1, "answered 500\n")


def test_an_api_that_does_not_listen_is_not() -> None:
    result = check_health("api", PORT="1")
    assert (result.returncode, result.stderr) == (1, "no answer: ConnectionRefusedError\n")


@pytest.mark.parametrize("port", [_Answering], indirect=True)
def test_a_worker_that_shows_its_metrics_is_well(port: str) -> None:
    assert check_health("ocr-worker", WORKER_METRICS_PORT=port).returncode == 0
    assert check_health("ocr-worker", WORKER_METRICS_PORT="1").returncode == 1


def test_a_worker_is_well_while_its_heart_beats(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.delete(WORKER_HEARTBEAT_KEY)
        silent = check_health("worker", REDIS_URL=redis_url)
        redis.set(WORKER_HEARTBEAT_KEY, "1", ex=60)
        beating = check_health("worker", REDIS_URL=redis_url)
        redis.delete(WORKER_HEARTBEAT_KEY)
    assert (silent.returncode, silent.stderr) == (1, "no heartbeat\n")
    assert beating.returncode == 0, beating.stderr


def test_a_worker_without_redis_is_not_well() -> None:
    result = check_health("worker", REDIS_URL="redis://127.0.0.1:1/0")
    assert (result.returncode, result.stderr) == (1, "no Redis: ConnectionError\n")


@pytest.mark.parametrize(
    ("variables", "present", "pulled"),
    [
        ({}, "", ["nomic-embed-text", "llama3.2"]),
        ({}, "llama3.2", ["nomic-embed-text"]),
        ({"DEFAULT_MODEL": "ollama/qwen3:8b"}, "nomic-embed-text", ["qwen3:8b"]),
        (MODELS, "", []),
    ],
)
def test_the_models_that_are_named_and_not_there_are_pulled(
    tmp_path: Path, variables: dict[str, str], present: str, pulled: list[str]
) -> None:
    log = run_pull(tmp_path, variables, present=present)
    assert log == [f"pull {model}" for model in pulled]


def test_a_failed_pull_fails_the_container(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_pull(tmp_path, {"DEFAULT_MODEL": "ollama/broken"}, present="")


def run_pull(folder: Path, variables: Mapping[str, str], *, present: str) -> list[str]:
    """Run the container's script with a recording `ollama`; return what it pulled."""
    log = folder / "log"
    log.touch()
    program = folder / "ollama"
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = show ] && {{ [ "$2" = "{present}" ]; exit; }}\n'
        f'echo "$@" >> "{log}"\n'
        '[ "$2" != broken ]\n'
    )
    program.chmod(0o755)
    service = services(**variables)["ollama-pull"]
    environment = {**service["environment"], "PATH": f"{folder}:{os.environ['PATH']}"}
    command = [*service["entrypoint"], *service["command"]]
    subprocess.run(command, env=environment, check=True)
    return log.read_text().splitlines()


def test_the_reloading_api_has_options_that_uvicorn_knows() -> None:
    command = services(ROOT / "docker" / "compose.dev.yml")["api"]["command"]
    usage = subprocess.run(
        [sys.executable, "-m", "uvicorn", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert command[0] == "app.main:create_app"
    assert all(option.partition("=")[0] in usage for option in command[1:])


def test_prometheus_asks_where_the_processes_answer() -> None:
    jobs = YAML(typ="safe").load((ROOT / "docker" / "prometheus.yml").read_text())["scrape_configs"]
    asked = {
        name: str(place["port"])
        for job in jobs
        for place in job["dns_sd_configs"]
        for name in place["names"]
    }
    environments = {name: services()[name]["environment"] for name in ("api", *WORKERS)}
    assert asked == {
        "api": environments["api"]["PORT"],
        **{name: environments[name]["WORKER_METRICS_PORT"] for name in WORKERS},
    }
    for name in WORKERS:
        assert environments[name]["PROMETHEUS_MULTIPROC_DIR"] in services()[name]["tmpfs"]


def test_the_proxy_lets_the_largest_upload_through_and_keeps_tokens_out_of_its_log() -> None:
    config = (ROOT / "docker" / "nginx.conf").read_text()
    sizes = [int(size) for size in re.findall(r"client_max_body_size (\d+)m;", config)]
    assert max(sizes) > Settings.model_fields["max_upload_mb"].default
    large = re.findall(r"location ~ (\S+) \{\n +# MAX_UPLOAD_MB", config)[0]
    for path in ("documents/upload", "documents/1f/content", "uploads/1f"):
        assert re.match(large, f"/api/v1/{path}")
    for path in ("documents", "documents/1f/retry", "uploads"):
        assert not re.match(large, f"/api/v1/{path}")
    log_format = re.findall(r"log_format no_query (.+?);", config, flags=re.DOTALL)[0]
    assert not re.search(r"\$(request(_uri)?|args|query_string|http_referer)\b", log_format)
    assert "location /metrics {\n            return 404;" in config


def test_nginx_takes_its_file(tmp_path: Path) -> None:
    nginx = find_tool("nginx", "nginx-light")
    config = (ROOT / "docker" / "nginx.conf").read_text().replace("/tmp/", f"{tmp_path}/")  # noqa: S108
    (tmp_path / "nginx.conf").write_text(config)
    result = subprocess.run(
        [nginx, "-t", "-c", tmp_path / "nginx.conf"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
