"""Fits the constants of `app/retrieval/fusion.py` on the development sets, and prints them.

python -m bench.calibrate --data ../shared/eval --keep /tmp/q

Asks the sets of `bench.quality` through the real product and reads the evidence of each candidate
from the trace, and how closely it follows the question's wording from its text. The weights are
those with the best mean reciprocal rank. The probability of a chunk
and that of a question are logistic regressions (Newton's method with a little ridge), in which
every question weighs the same. Questions without an answer are those of SQuAD 2.0, the questions of
one set in the library of another, and, in other languages, questions whose passage is left out.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from app.retrieval.fusion import KNOWN_LANGUAGE
from app.retrieval.pipeline import COMPARED_CANDIDATES
from app.retrieval.wording import analyze_wording, measure_closeness
from bench.product import require_data, running_product
from bench.quality.asking import Goal, found_of
from bench.quality.library import CONNECTIONS, Library, Session, chunks_of, open_library
from bench.quality.running import resolve
from bench.quality.sets import FILES, Corpus, Question, QuestionSet, read_corpora

SETS = ("financebench", "squad", "squad2", "cranfield", "xquad")
# Of a question's candidates, those that could come up.
DEPTH = 20
WRONGLY_REFUSED = 0.05
RIDGE = 1e-2
# By which the pipeline chooses whose wording is compared.
_WITHOUT_WORDING = np.array([KNOWN_LANGUAGE.similarity, KNOWN_LANGUAGE.fulltext, 0.0])

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A question's best candidates: rows of similarity, fulltext and wording, and which are
    relevant."""

    rows: Floats
    is_relevant: NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/eval"))
    parser.add_argument("--every", type=int, default=4, help="every n-th question of SQuAD, XQuAD")
    parser.add_argument("--keep", type=Path, required=True, help="as of bench.quality")
    options = parser.parse_args()
    require_data(options.data, *sorted({file for name in SETS for file in FILES[name]}))
    options.keep.mkdir(parents=True, exist_ok=True)
    corpora = {c.name: c for c in read_corpora(options.data, SETS, every=options.every)}
    settings = {
        "DATA_DIR": str((options.keep / "data").resolve()),
        "LOG_LEVEL": "WARNING",
        "ACCESS_TOKEN_EXPIRE_MINUTES": "1440",
    }
    with running_product(**settings) as product:
        asker = Asker(product.client, options.keep / "libraries.json")
        english, strange = asker.ask_english(corpora)
        print_constants("KNOWN_LANGUAGE", english, strange, threshold_on=["squad"])
        other, left_out = asker.ask_other_languages(corpora)
        print_constants(
            "OTHER_LANGUAGE", other, left_out, threshold_on=list(other), knows_language=False
        )


@dataclass(frozen=True, slots=True)
class Asker:
    client: httpx2.Client
    kept: Path
    texts: dict[str, dict[str, str]] = field(default_factory=dict)

    def ask_english(
        self, corpora: dict[str, Corpus]
    ) -> tuple[dict[str, list[Evidence]], dict[str, list[Evidence]]]:
        """Return the evidence by set: of questions with an answer, and of those without."""
        answered: dict[str, list[Evidence]] = {}
        strange: dict[str, list[Evidence]] = {}
        for name in ("financebench", "squad", "cranfield"):
            session, library = open_library(self.client, corpora[name], self.kept)
            for asked in corpora[name].sets:
                group = strange if asked.name == "squad2" else answered
                group[asked.name] = self._ask(session, library, asked)
            for other in ("financebench", "squad", "cranfield"):
                if other != name:
                    foreign = corpora[other].sets[-1 if other == "financebench" else 0]
                    some = QuestionSet(
                        foreign.name, foreign.questions[:: 1 + len(foreign.questions) // 200]
                    )
                    strange[f"{other} in {name}"] = self._ask(session, library, some)
        return answered, strange

    def ask_other_languages(
        self, corpora: dict[str, Corpus]
    ) -> tuple[dict[str, list[Evidence]], dict[str, list[Evidence]]]:
        answered: dict[str, list[Evidence]] = {}
        left_out: dict[str, list[Evidence]] = {}
        for name in sorted(name for name in corpora if name.startswith("xquad/")):
            session, library = open_library(self.client, corpora[name], self.kept)
            asked = corpora[name].sets[0]
            answered[name] = self._ask(session, library, asked)
            left_out[f"{name} without it"] = self._ask(session, library, asked, leave_out=True)
        return answered, left_out

    def _read_texts(self, session: Session, library: Library) -> dict[str, str]:
        """Return the texts of all chunks by their ids: a trace has none."""
        if library.email not in self.texts:
            documents = sorted(set(library.documents.values()))
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                chunks = pool.map(lambda one: list(chunks_of(session, one)), documents)
                self.texts[library.email] = {
                    c["chunk_id"]: c["text"] for one in chunks for c in one
                }
        return self.texts[library.email]

    def _ask(
        self, session: Session, library: Library, asked: QuestionSet, *, leave_out: bool = False
    ) -> list[Evidence]:
        def ask(question: Question) -> Evidence:
            goals = [resolve(target, library.documents, {}) for target in question.targets]
            within = [library.documents[question.within]] if question.within else []
            if leave_out:
                wrong = {goal.document_id for goal in goals}
                within = [i for i in library.documents.values() if i not in wrong]
            body = {"query": question.text, "document_ids": within, "explain": True}
            response = session.call("POST", "/api/v1/search", json=body)
            return _read_evidence(response["trace"], texts, goals)

        texts = self._read_texts(session, library)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return list(pool.map(ask, asked.questions))


def _read_evidence(
    trace: Mapping[str, Any], texts: Mapping[str, str], goals: Sequence[Goal]
) -> Evidence:
    candidates = trace["candidates"]
    rows = np.zeros((len(candidates), 3))
    rows[:, :2] = np.array([(c["similarity"], c["fulltext"]) for c in candidates]).reshape(-1, 2)
    compared = np.argsort(-rows @ _WITHOUT_WORDING, kind="stable")[:COMPARED_CANDIDATES]
    wording = analyze_wording(trace["queries"][0], tuple(trace["phrases"]))
    rows[compared, 2] = measure_closeness(
        wording, [texts[candidates[place]["chunk_id"]] for place in compared]
    )
    met = [any(goal.is_met_by(found_of(one)) for goal in goals) for one in candidates]
    return Evidence(rows, np.array(met, dtype=bool))


def print_constants(
    name: str,
    answered: dict[str, list[Evidence]],
    strange: dict[str, list[Evidence]],
    *,
    threshold_on: Sequence[str],
    knows_language: bool = True,
) -> None:
    """Fit and print one Calibration, and how good it is on each set."""
    weights = fit_weights(answered, with_wording=knows_language)
    relevance = _fit_groups(answered, lambda e: _relevance_rows(e, weights))
    best = {group: [_best(e, weights) for e in asked] for group, asked in answered.items()}
    worst = {group: [_best(e, weights) for e in asked] for group, asked in strange.items()}
    features, labels, importance = _stack((best, 1.0), (worst, 0.0))
    if not knows_language:  # cosines differ by language, not by what is asked
        features[:, 1] = 0.0
    answering = fit(features, labels, importance)
    # No set pays for the others: the least threshold that any of them asks for.
    threshold = min(
        float(np.quantile([_logistic(row @ answering) for row in best[group]], WRONGLY_REFUSED))
        for group in threshold_on
    )
    print("{}: similarity {:.3f}, fulltext {:.3f}, wording {:.3f}".format(name, *weights))
    print(f"  relevance {np.round(relevance, 3).tolist()}")
    print(f"  answerability {np.round(answering, 3).tolist()}, at least {threshold:.3f}")
    for group, rows in (best | worst).items():
        refused = np.mean([_logistic(row @ answering) < threshold for row in rows])
        print(f"  {group}: {len(rows)} questions, {refused:.3f} refused", flush=True)


def fit_weights(answered: dict[str, list[Evidence]], *, with_wording: bool) -> Floats:
    """Return the weights of similarity, fulltext and wording, of which the largest is 1.

    Those with the best mean reciprocal rank, averaged over the sets.
    """
    ratios = np.geomspace(0.1, 10, 41)
    of_wording = np.linspace(0.0, 1.0, 11) if with_wording else [0.0]
    grid = [np.array([1.0, fulltext, wording]) for fulltext in ratios for wording in of_wording]
    best = max(grid, key=lambda one: np.mean([_mrr(e, one) for e in answered.values()]))
    weights: Floats = best / best.max()
    return weights


def _mrr(asked: list[Evidence], weights: Floats) -> float:
    total = 0.0
    for evidence in asked:
        order = np.argsort(-(evidence.rows @ weights), kind="stable")
        hits = np.flatnonzero(evidence.is_relevant[order][:10])
        total += 1 / (hits[0] + 1) if len(hits) else 0.0
    return total / len(asked)


def _relevance_rows(evidence: Evidence, weights: Floats) -> tuple[Floats, Floats]:
    """Return intercept, sum and lead of each of the best candidates, and whether it is relevant."""
    sums = evidence.rows @ weights
    order = np.argsort(-sums)[:DEPTH]
    best = sums[order]
    others = np.where(np.arange(len(best)) == 0, best[1] if len(best) > 1 else 0.0, best[0])
    return _with_intercept(np.c_[best, best - others]), evidence.is_relevant[order].astype(float)


def _best(evidence: Evidence, weights: Floats) -> Floats:
    """Return intercept, similarity and fulltext of the best candidate; without one, of nothing."""
    if not len(evidence.rows):
        return np.array([1.0, 0.0, 0.0])
    best: Floats = np.r_[1.0, evidence.rows[np.argmax(evidence.rows @ weights), :2]]
    return best


def _fit_groups(
    groups: dict[str, list[Evidence]], rows_of: Callable[[Evidence], tuple[Floats, Floats]]
) -> Floats:
    features, labels, weights = [], [], []
    for asked in groups.values():
        rows = [rows_of(evidence) for evidence in asked if len(evidence.rows)]
        features += [row for row, _ in rows]
        labels += [label for _, label in rows]
        weights += [np.full(len(label), 1 / len(label)) for _, label in rows]
    return fit(np.vstack(features), np.concatenate(labels), np.concatenate(weights))


def _stack(*sides: tuple[dict[str, list[Floats]], float]) -> tuple[Floats, Floats, Floats]:
    """Return features, labels and weights: both sides weigh the same, and each question in one."""
    features, labels, weights = [], [], []
    for groups, label in sides:
        rows = np.vstack([row for group in groups.values() for row in group])
        features.append(rows)
        labels.append(np.full(len(rows), label))
        weights.append(np.full(len(rows), 1 / len(rows)))
    return np.vstack(features), np.concatenate(labels), np.concatenate(weights)


def fit(features: Floats, labels: Floats, weights: Floats) -> Floats:
    """Return the coefficients of a weighted logistic regression; the first column is constant."""
    weights = weights * len(labels) / weights.sum()
    coefficients = np.zeros(features.shape[1])
    for _ in range(50):
        odds = _logistic(features @ coefficients)
        gradient = features.T @ (weights * (odds - labels)) + RIDGE * coefficients
        curvature = (features * (weights * odds * (1 - odds))[:, np.newaxis]).T @ features
        coefficients -= np.linalg.solve(curvature + RIDGE * np.eye(len(coefficients)), gradient)
    result: Floats = coefficients
    return result


def _with_intercept(rows: Floats) -> Floats:
    result: Floats = np.c_[np.ones(len(rows)), rows]
    return result


def _logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))


if __name__ == "__main__":
    main()
