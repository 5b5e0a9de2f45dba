"""Majority, TF-IDF and the ensemble: they learn, keep their promises, and save exactly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer

from hornbook.compare import linear_search
from hornbook.compare.predictor import Predictor, save_model
from hornbook.compare.sources import Source
from hornbook.compare.technique import Budget, Context, HeldOut, Member, Technique
from hornbook.compare.techniques import TECHNIQUES
from hornbook.compare.techniques import ensemble as ensemble_module
from hornbook.compare.techniques.ensemble import Ensemble
from hornbook.compare.techniques.majority import Majority
from hornbook.compare.techniques.tfidf_logreg import TfidfLogreg
from hornbook.compare.techniques.tfidf_svm import TfidfSvm
from hornbook.compare.tfidf import Block, Tfidf, count, inverse_frequencies, normalize, weigh
from hornbook.data.examples import Document, Labelled, Problem
from hornbook.errors import BudgetError, CheckpointError, DataError
from hornbook.tasks.decision import Decision

LABELS = ("grain", "money", "oil", "ship")
WORDS = {
    "grain": "wheat maize crop harvest tonnes bushel farmer soybean",
    "money": "dollar yen bank currency exchange rate deposit reserve",
    "oil": "crude barrel refinery opec petroleum pipeline drilling gasoline",
    "ship": "vessel port cargo tanker strike freight dock canal",
}
FILLER = ["the", "of", "and", "said", "in", "to", "a", "for", "year", "with", "would", "was"]
CLASSICAL = [Majority, TfidfLogreg, TfidfSvm]


def corpus(n: int, seed: int, *, multi_label: bool = True, titles: bool = True) -> Labelled:
    """Noisy stories: the words of their own labels, some of others', and filler."""
    rng = np.random.default_rng(seed)
    targets = np.zeros((n, 4), bool)
    targets[np.arange(n), rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])] = True
    if multi_label:
        targets |= rng.random((n, 4)) < 0.1
    documents = []
    for row in targets:
        words = [str(w) for w in rng.choice(FILLER, 12)]
        words += [str(rng.choice(WORDS[LABELS[rng.integers(4)]].split())) for _ in range(2)]
        for j in np.flatnonzero(row):
            words += [str(w) for w in rng.choice(WORDS[LABELS[j]].split(), 2)]
        rng.shuffle(words)
        documents.append(Document(" ".join(words), words[0].upper() if titles else ""))
    return Labelled(documents, targets)


def fitted(
    cls: type[Technique], *, multi_label: bool = True, seconds: float = 60, n: int = 240
) -> tuple[Technique, HeldOut, Labelled]:
    train, validation = (
        corpus(n, 0, multi_label=multi_label),
        corpus(60, 1, multi_label=multi_label),
    )
    technique = cls()
    context = Context(Problem(LABELS, multi_label), Budget(seconds))
    return technique, technique.fit(train, validation, context), train + validation


def micro_f1(predicted: np.ndarray, targets: np.ndarray) -> float:
    return float(2 * (predicted & targets).sum() / (predicted.sum() + targets.sum()))


def test_score(technique: Technique, held_out: HeldOut, whole: Labelled, multi: bool) -> float:
    targets = whole.targets[held_out.rows]
    decision = Decision.fit(held_out.scores, targets, multi_label=multi, seed=0)
    test = corpus(400, 2, multi_label=multi)
    return micro_f1(decision.predict(technique.scores(test.documents)), test.targets)


test_score.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("multi_label", [True, False])
def test_words_beat_majority(multi_label):
    floor = test_score(*fitted(Majority, multi_label=multi_label), multi_label)
    for cls in (TfidfLogreg, TfidfSvm):
        reached = test_score(*fitted(cls, multi_label=multi_label), multi_label)
        assert reached > floor + 0.15, cls.name


@pytest.mark.parametrize("cls", CLASSICAL)
def test_saved_and_opened_scores_are_the_same_bits(cls, tmp_path):
    technique, _, _ = fitted(cls)
    technique.save(tmp_path)
    documents = [*corpus(50, 3).documents, Document(""), Document("Zürich 日本語 ÀÉ", "!")]
    expected = technique.scores(documents)
    opened = cls.load(tmp_path)
    np.testing.assert_array_equal(opened.scores(documents), expected)
    assert expected.dtype == np.float32 and np.isfinite(expected).all()
    assert opened.scores([]).shape == (0, 4)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors"}
    # One at a time and all together: a text's scores are its own.
    alone = np.concatenate([opened.scores([document]) for document in documents[:5]])
    np.testing.assert_allclose(alone, expected[:5], atol=1e-6)


@pytest.mark.parametrize("cls", [TfidfLogreg, TfidfSvm])
def test_held_out_scores_know_nothing_of_their_rows(cls):
    """With labels drawn by lot there is nothing to learn: held-out scores can't rank them."""
    rng = np.random.default_rng(0)
    train, validation = corpus(300, 0), corpus(60, 1)
    whole = train + validation
    lot = Labelled(whole.documents, rng.random(whole.targets.shape) < 0.3)
    technique = cls()
    held_out = technique.fit(
        lot.take(range(300)), lot.take(range(300, 360)), Context(Problem(LABELS, True), Budget(60))
    )
    assert held_out.rows.tolist() == list(range(360))

    def margin(scores: np.ndarray) -> float:
        return float(scores[lot.targets].mean() - scores[~lot.targets].mean()) / scores.std()

    assert abs(margin(held_out.scores)) < 0.2
    assert margin(technique.scores(lot.documents)) > 0.6  # while the model itself has learnt them


@pytest.mark.parametrize("cls", [TfidfLogreg, TfidfSvm])
def test_held_out_scores_know_nothing_of_near_copies_of_their_rows(cls):
    """Three copies of each text, with a label drawn by lot: a copy must not tell it."""
    rng = np.random.default_rng(0)
    whole = corpus(120, 0)
    lot = rng.random(whole.targets.shape) < 0.3
    documents = [Document(d.text + f" copy {word}") for word in "xyz" for d in whole.documents]
    pool = Labelled(documents, np.tile(lot, (3, 1)), np.tile(np.arange(120), 3))
    rows = np.argsort(pool.groups, kind="stable")  # the copies of a text one after the other
    train, validation = pool.take(rows[:300]), pool.take(rows[300:])
    context = Context(Problem(LABELS, True), Budget(60))

    def margin(train: Labelled, validation: Labelled) -> float:
        scores = cls().fit(train, validation, context).scores
        targets = (train + validation).targets
        return float(scores[targets].mean() - scores[~targets].mean()) / scores.std()

    assert abs(margin(train, validation)) < 0.3
    blind = [Labelled(part.documents, part.targets) for part in (train, validation)]
    assert margin(*blind) > 0.6  # where the copies are not kept together


def test_majority_scores_are_shares(tmp_path):
    technique, held_out, whole = fitted(Majority)
    np.testing.assert_array_equal(held_out.rows, np.arange(240, 300))
    expected = whole.targets.mean(axis=0)
    np.testing.assert_allclose(technique.scores([Document("x")])[0], expected, rtol=1e-6)


@pytest.mark.parametrize("cls", [TfidfLogreg, TfidfSvm])
def test_too_small_a_budget_is_refused_with_an_estimate(cls):
    with pytest.raises(BudgetError, match="--budget"):
        fitted(cls, seconds=0.001)


def test_a_short_budget_holds_out_validation_alone(monkeypatch):
    """Fitting all labels is made to look like 30 s: two such fits are within 100 s, four not."""
    ticks = iter([0.0, 30.0])
    monkeypatch.setattr(linear_search, "monotonic", lambda: next(ticks, 30.0))
    monkeypatch.setattr(Budget, "remaining", lambda self: 100.0)
    _, held_out, _ = fitted(TfidfLogreg, seconds=100, n=200)
    assert held_out.rows.tolist() == list(range(200, 260))


@pytest.mark.parametrize("cls", [TfidfLogreg, TfidfSvm])
def test_texts_without_words_are_refused(cls):
    empty = Labelled([Document("")] * 20, np.eye(4, dtype=bool)[np.arange(20) % 4])
    with pytest.raises(DataError, match="20 texts"):
        cls().fit(
            empty.take(range(16)),
            empty.take(range(16, 20)),
            Context(Problem(LABELS, True), Budget(9)),
        )


@pytest.mark.parametrize("cls", [TfidfLogreg, TfidfSvm])
def test_labels_that_no_row_or_every_row_has_are_survived(cls):
    train, validation = corpus(90, 0), corpus(20, 1)
    for part in (train, validation):
        part.targets[:, 2], part.targets[:, 3] = False, True
    technique = cls()
    held_out = technique.fit(train, validation, Context(Problem(LABELS, True), Budget(60)))
    decision = Decision.fit(held_out.scores, (train + validation).targets, multi_label=True, seed=0)
    predicted = decision.predict(technique.scores(corpus(40, 2).documents))
    assert not predicted[:, 2].any() and predicted[:, 3].all()


def test_a_damaged_model_is_named(tmp_path):
    technique, _, _ = fitted(TfidfLogreg)
    technique.save(tmp_path)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        TfidfLogreg.load(tmp_path)


@pytest.mark.parametrize("damage", ["word lost", "word twice", "label lost", "rows lost", "idf"])
def test_parts_of_a_model_that_do_not_fit_are_named(tmp_path, damage):
    technique, _, _ = fitted(TfidfLogreg)
    technique.save(tmp_path)
    arrays = load_file(tmp_path / "weights.safetensors")
    features = json.loads((tmp_path / "features.json").read_text())
    if damage == "word lost":
        features["vocabularies"][0].pop()
    elif damage == "word twice":
        features["vocabularies"][0][0] = features["vocabularies"][0][1]
    elif damage == "label lost":
        arrays["offsets"] = arrays["offsets"][1:]
    elif damage == "rows lost":
        arrays["weights"] = np.ascontiguousarray(arrays["weights"][1:])
    else:
        arrays["idf.0"] = arrays["idf.0"][1:]
    save_file(arrays, tmp_path / "weights.safetensors")
    (tmp_path / "features.json").write_text(json.dumps(features))
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        TfidfLogreg.load(tmp_path)


def test_fold_features_are_those_of_the_fold_alone():
    """Counting all rows and weighing by some equals scikit-learn fitted to only these."""
    documents = corpus(80, 0).documents
    block = Block("text", "word", 1, 2, min_df=2)
    [counted] = count(block, documents)
    rows = np.arange(0, 80, 2)
    ours = weigh([block], [counted.counts], inverse_frequencies([counted], rows))
    theirs = TfidfVectorizer(
        ngram_range=(1, 2),
        min_df=2,
        sublinear_tf=True,
        preprocessor=normalize,
        token_pattern=r"(?u)\b\w+\b",
    ).fit([documents[i].text for i in rows])
    columns = [counted.vocabulary.index(w) for w in theirs.get_feature_names_out()]
    expected = theirs.transform([d.text for d in documents]).toarray()
    np.testing.assert_allclose(ours[:, columns].toarray(), expected, atol=1e-6)
    assert ours.nnz == (expected != 0).sum()  # and no other column has anything


def test_features_from_json_are_the_same():
    documents = corpus(60, 0).documents
    blocks = [
        Block("full", "word", 1, 1),
        Block("full", "char_wb", 3, 4),
        Block("title", "word", 1, 1),
    ]
    features = Tfidf.of([part for block in blocks for part in count(block, documents)])
    opened = Tfidf.from_json(features.to_json(), features.idf)
    difference = opened.transform(documents) - features.transform(documents)
    assert difference.nnz == 0


def study_with(tmp_path: Path, classes: list[type[Technique]]) -> dict[str, Member]:
    """Members saved as a study saves them, below tmp_path/study."""
    members = {}
    for cls in classes:
        technique, held_out, whole = fitted(cls)
        decision = Decision.fit(
            held_out.scores, whole.targets[held_out.rows], multi_label=True, seed=0
        )
        folder = tmp_path / "study" / "techniques" / cls.name / "repeat-0" / "model"
        save_model(folder, technique, decision, Source(cls.name, cls.name), Problem(LABELS, True))
        probabilities = decision.probabilities(held_out.scores)
        members[cls.name] = Member(cls.name, folder, held_out, probabilities)
    return members


def ensemble_of(
    members: dict[str, Member], reports: list | None = None
) -> tuple[Ensemble, HeldOut]:
    ensemble = Ensemble()
    note = [] if reports is None else reports
    context = Context(
        Problem(LABELS, True),
        Budget(60),
        report=lambda stage, score=None: note.append((stage, score)),
        members=members,
    )
    return ensemble, ensemble.fit(corpus(240, 0), corpus(60, 1), context)


def test_ensemble_is_never_worse_than_its_best_member_where_it_was_held_out(tmp_path):
    members = study_with(tmp_path, CLASSICAL)
    _, held_out = ensemble_of(members)
    assert held_out.rows.tolist() == list(range(240, 300))  # majority scored only these
    targets = (corpus(240, 0) + corpus(60, 1)).targets[held_out.rows]

    def judged(scores: np.ndarray) -> float:
        decision = Decision.fit(scores, targets, multi_label=True, seed=0)
        return decision.cross_validated_micro_f1

    alone = []
    for member in members.values():
        rows = np.isin(member.held_out.rows, held_out.rows)
        p = np.clip(member.probabilities[rows], 1e-6, 1 - 1e-6)
        alone.append(judged(np.log(p / (1 - p))))
    assert judged(held_out.scores) >= max(alone) - 1e-9


def test_ensemble_falls_back_on_its_best_member(tmp_path, monkeypatch):
    """When the mix does worse in cross-validation than a member, that member is all there is."""
    members = study_with(tmp_path, [Majority, TfidfSvm])
    noise = np.random.default_rng(0).normal(size=(60, 4))
    monkeypatch.setattr(ensemble_module, "_cross_fitted", lambda *_: (noise, np.ones(2)))
    reports: list[tuple[str, float | None]] = []
    ensemble, held_out = ensemble_of(members, reports)
    assert reports[-1][0] == "no gain from mixing: tfidf-svm alone"
    svm = Predictor.open(members["tfidf-svm"].model_folder)
    documents = corpus(30, 4).documents
    p = svm.calibrate(svm.scores(documents))
    np.testing.assert_allclose(ensemble.scores(documents), np.log(p / (1 - p)), rtol=1e-5)
    p = members["tfidf-svm"].probabilities[-60:]
    np.testing.assert_allclose(held_out.scores, np.log(p / (1 - p)), rtol=1e-5)


def test_ensemble_gives_no_weight_to_noise(tmp_path):
    members = study_with(tmp_path, [TfidfLogreg, TfidfSvm, Majority])
    noise = np.random.default_rng(0).random((60, 4))
    rows = members["majority"].held_out.rows
    members["majority"] = Member(
        "majority", members["majority"].model_folder, HeldOut(rows, noise), noise
    )
    ensemble, _ = ensemble_of(members)
    ensemble.save(tmp_path)
    assert "majority" not in (tmp_path / "ensemble.json").read_text()


def test_ensemble_moves_with_its_study(tmp_path):
    members = study_with(tmp_path, [TfidfLogreg, TfidfSvm])
    ensemble, held_out = ensemble_of(members)
    targets = (corpus(240, 0) + corpus(60, 1)).targets[held_out.rows]
    decision = Decision.fit(held_out.scores, targets, multi_label=True, seed=0)
    folder = tmp_path / "study" / "techniques" / "ensemble" / "repeat-0" / "model"
    save_model(folder, ensemble, decision, Source("ensemble", "ensemble"), Problem(LABELS, True))
    documents = corpus(30, 4).documents
    expected = ensemble.scores(documents)

    shutil.move(tmp_path / "study", tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / "techniques"
    opened = Predictor.open(moved / "ensemble" / "repeat-0" / "model")
    np.testing.assert_array_equal(opened.scores(documents), expected)

    shutil.rmtree(moved / "tfidf-svm")
    shutil.rmtree(moved / "tfidf-logreg")
    with pytest.raises(CheckpointError, match="ensemble needs the model of 'tfidf"):
        Predictor.open(moved / "ensemble" / "repeat-0" / "model")


def test_ensemble_needs_two(tmp_path):
    with pytest.raises(DataError, match="got 1"):
        ensemble_of(study_with(tmp_path, [TfidfLogreg]))


@pytest.mark.parametrize("name", ["majority", "tfidf-logreg", "tfidf-svm", "ensemble"])
def test_registered_under_their_names(name):
    cls = TECHNIQUES.load(name)
    assert cls.name == name and isinstance(cls(), Technique)
    assert cls.needs_members == (name == "ensemble")


def test_mixing_what_members_said_is_asking_them_again(tmp_path):
    """The worker mixes members' saved test probabilities; a user's texts go through the members."""
    members = study_with(tmp_path, [TfidfLogreg, TfidfSvm])
    ensemble, _ = ensemble_of(members)
    documents = corpus(30, 4).documents
    said = {}
    for name, member in members.items():
        predictor = Predictor.open(member.model_folder)
        said[name] = predictor.calibrate(predictor.scores(documents))
    asked = ensemble.scores(documents)
    np.testing.assert_array_equal(ensemble.mix(said, multi_label=True), asked)
    rounded = {name: p.astype(np.float32) for name, p in said.items()}
    np.testing.assert_allclose(ensemble.mix(rounded, multi_label=True), asked, atol=1e-2)
