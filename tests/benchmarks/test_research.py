# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The research loop: its toys, model, policies, updates and studies."""

import random
import types

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.research import bases, study
from benchmarks.research.groups import Group, LoopConfig
from benchmarks.research.loop import _sampled, _updated, run
from benchmarks.research.model import ToyModel, _drawn, cut_tail, exact, generate
from benchmarks.research.policies import Arm, Policy, spread
from benchmarks.research.summary import headroom, summarize
from benchmarks.research.toy import (
    END,
    PAD,
    PLAIN,
    PROMPT_LENGTH,
    REAL_TOKENS,
    RESPONSE_LENGTH,
    TAIL,
    encode_prompts,
    encode_responses,
    score,
    unbroken_probability,
    warmup_tail_mass,
)
from erpo.tasks.arithmetic.reward import compute_score
from erpo.tasks.arithmetic.task import ALPHABET, distinct_problems
from erpo.tracker import Outcome

PROBLEMS = distinct_problems(5, 12)


@pytest.fixture
def model():
    """Untrained, but with logits that differ as a trained model's do."""
    made = ToyModel(TAIL.vocabulary, seed=0)
    with torch.no_grad():
        made.head.weight *= 5
    return made


@pytest.fixture(scope="module")
def learned():
    """A plain model that has seen the problems often enough to answer some."""
    made = ToyModel(PLAIN.vocabulary, seed=0)
    optimizer = torch.optim.AdamW(made.parameters(), lr=2e-3)
    for _ in range(60):
        bases._supervised_loss(made, PROBLEMS[:6], None).backward()
        optimizer.step()
        optimizer.zero_grad()
    return made


# ---- Toys


def test_the_scorer_is_the_tasks_own_where_no_tail_is_sampled():
    source = random.Random(0)
    rows, lengths = encode_responses(PROBLEMS), [len(problem.response) + 1 for problem in PROBLEMS]
    for row, length in zip(rows, lengths, strict=True):
        if source.random() < 0.6:
            row[source.randrange(length - 1)] = source.randrange(END)
    rows[0, lengths[0] - 1] = END
    accuracies, broken = score(rows, torch.tensor(lengths), PROBLEMS)
    texts = ["".join(ALPHABET[token] for token in row if token < END) for row in rows.tolist()]
    expected = [compute_score("", text, problem.answer)["acc"] for text, problem in zip(texts, PROBLEMS, strict=True)]
    assert accuracies.tolist() == expected and 0 < sum(expected) < len(expected) and not broken.any()


def test_a_token_of_the_tail_or_a_missing_end_makes_a_response_wrong():
    rows = encode_responses(PROBLEMS[:3])
    lengths = torch.tensor([len(problem.response) + 1 for problem in PROBLEMS[:3]])
    rows[0, 2] = REAL_TOKENS + 7
    rows[1, lengths[1] - 1] = 0
    accuracies, broken = score(rows, lengths, PROBLEMS[:3])
    assert accuracies.tolist() == [0, 0, 1] and broken.tolist() == [True, False, False]


def test_tail_distributions_are_distributions_of_the_tail_alone():
    table = TAIL.tail_distributions()
    assert torch.allclose(table.sum(1), torch.ones(REAL_TOKENS)) and not table[:, :REAL_TOKENS].any()
    assert not torch.equal(table[0], table[1])


def test_chance_that_the_tail_breaks_nothing_is_that_of_a_model_with_this_tail():
    """By the logits of such a model: the right token, and the tail with its mass at T = 1."""
    responses = encode_responses(PROBLEMS[:1])
    length = len(PROBLEMS[0].response) + 1
    masses = warmup_tail_mass(responses)[0, :length].double()
    shares = TAIL.tail_distributions()[0, REAL_TOKENS:].double()
    for temperature in (1.0, 1.3):
        logits = torch.cat([(1 - masses)[:, None], masses[:, None] * shares], 1).log() / temperature
        expected = torch.softmax(logits, 1)[:, 0].prod().item()
        found = unbroken_probability(np.array([temperature]), np.array([length]))
        assert found == pytest.approx([expected], rel=1e-6)


# ---- Model


def test_the_cache_gives_the_states_that_training_uses(model):
    """Log-probs of sampled tokens, step by step with a cache against all at once with shared prompts."""
    responses, lengths = generate(
        model, encode_prompts(PROBLEMS[:4]), np.full(4, 3), np.linspace(0.7, 1.5, 4), torch.Generator().manual_seed(0)
    )
    group = torch.arange(4).repeat_interleave(3)
    shared = model.response_states(encode_prompts(PROBLEMS[:4]), group, responses)
    tokens = torch.cat([encode_prompts(PROBLEMS[:4])[group], responses[:, :-1]], 1)
    at_once = model.hidden(tokens)[:, PROMPT_LENGTH - 1 :]
    inside = torch.arange(RESPONSE_LENGTH) < lengths[:, None]
    torch.testing.assert_close(shared[inside], at_once[inside], atol=1e-5, rtol=0)
    cache = [(torch.zeros(12, 4, tokens.shape[1], 32), torch.zeros(12, 4, tokens.shape[1], 32)) for _ in range(2)]
    steps = [model.hidden(tokens[:, :PROMPT_LENGTH], cache)[:, -1:]]
    steps += [model.hidden(tokens[:, [at]], cache, at) for at in range(PROMPT_LENGTH, tokens.shape[1])]
    torch.testing.assert_close(torch.cat(steps, 1)[inside], at_once[inside], atol=1e-5, rtol=0)


def test_tokens_are_drawn_by_their_probabilities():
    """An even grid of draws meets every token as often as its probability says, the tail's included."""
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(1)) * 2
    draws = (torch.arange(20_000) + 0.5) / 20_000
    counts = torch.bincount(_drawn(logits.expand(len(draws), -1), draws), minlength=40)
    torch.testing.assert_close(counts / len(draws), torch.softmax(logits[0], 0), atol=1.5e-4, rtol=0)


def test_responses_stop_at_their_end(model):
    with torch.no_grad():
        model.head.weight[END] = 0.5
    responses, lengths = generate(
        model, encode_prompts(PROBLEMS), np.full(12, 4), np.ones(12), torch.Generator().manual_seed(1)
    )
    assert len(set(lengths.tolist())) > 3
    for row, length in zip(responses.tolist(), lengths.tolist(), strict=True):
        assert (row[length - 1] == END or length == RESPONSE_LENGTH) and set(row[length:]) <= {PAD}
        assert END not in row[: length - 1]


def test_exact_probabilities_are_the_frequencies_of_sampling(learned):
    found = exact(learned, PROBLEMS[:6], (1.0, 1.5))
    assert 0.02 < found.right.mean() < 0.98
    for column, temperature in enumerate((1.0, 1.5)):
        responses, _ = generate(
            learned,
            encode_prompts(PROBLEMS[:6]),
            np.full(6, 500),
            np.full(6, temperature),
            torch.Generator().manual_seed(3),
        )
        worked = encode_responses(PROBLEMS[:6]).repeat_interleave(500, 0)
        shares = (responses == worked).all(1).double().view(6, 500).mean(1)
        assert shares.numpy() == pytest.approx(found.right[:, column], abs=0.09)
    assert found.tail_free == pytest.approx(found.right[:, 0]) and not found.tail_mass.any()


def test_exact_probabilities_keep_the_order_of_the_problems(model):
    together = exact(model, PROBLEMS, (1.0,))
    alone = [exact(model, [problem], (1.0,)) for problem in PROBLEMS]
    assert together.tail_mass[:, 0] == pytest.approx([found.tail_mass[0, 0] for found in alone], rel=1e-4)
    assert np.log(together.tail_free) == pytest.approx([np.log(found.tail_free[0]) for found in alone], rel=1e-4)


def test_a_cut_tail_is_cut_by_the_most_probable_token():
    logits = torch.tensor([[0.0, -1.0, -3.0, -5.0]])
    assert cut_tail(logits, 0.0) is logits
    assert cut_tail(logits, np.exp(-2.0)).isinf().tolist() == [[False, False, True, True]]
    assert cut_tail(logits, np.exp(-2.0), torch.tensor([3])).isinf().tolist() == [[False, False, True, False]]


# ---- Policies


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.integers(2, 24))
def test_responses_are_spread_within_bounds(shares, n):
    sizes = spread(np.array(shares), n * len(shares))
    assert sizes.min() >= 2 and sizes.max() <= 24
    if max(shares) < 12 * min(shares):
        assert sizes.sum() == n * len(shares)
    order = np.argsort(shares)
    assert (np.diff(sizes[order]) >= -1).all()


def test_oracles_decide_by_the_models_own_accuracy(learned):
    rows = np.arange(len(PROBLEMS))
    policy = Policy(Arm("oracle", oracle_accuracy=0.5, oracle_sizes=True), learned, PROBLEMS, LoopConfig())
    temperatures = policy.temperatures(rows, 0.0)
    at_each = exact(learned, PROBLEMS, tuple(np.round(np.arange(0.7, 1.81, 0.1), 1))).right
    chosen = exact(learned, PROBLEMS, tuple(sorted(set(temperatures)))).right[
        rows, np.searchsorted(sorted(set(temperatures)), temperatures)
    ]
    assert np.abs(chosen - 0.5) == pytest.approx(np.abs(at_each - 0.5).min(1), abs=1e-6)
    sizes = policy.sizes(rows, temperatures)
    assert sizes.sum() == 8 * len(rows) and sizes[np.argmin(np.abs(chosen - 0.5))] == sizes.max()
    selecting = Policy(Arm("oracle", oracle_selection=True), learned, PROBLEMS, LoopConfig())
    right = exact(learned, PROBLEMS).right[:, 0]
    chance = np.maximum(0.1, 1 - right**8 - (1 - right) ** 8)
    source = random.Random(0)
    accepted = np.mean([[selecting.accepts(row, source) for row in rows] for _ in range(100)], axis=0)
    assert accepted == pytest.approx(chance, abs=0.2)


def test_a_schedule_of_the_product_and_heat_for_all(learned):
    linear = {"name": "linear", "linear": {"t_base": 1.0, "dt": 0.25, "t_max": 2.0}}
    policy = Policy(Arm("linear", schedule=linear), learned, PROBLEMS, LoopConfig())
    group = Group(3, 1.0, torch.zeros(2, 4), torch.tensor([4, 4]), np.ones(2), np.zeros(2, bool), Outcome.ALL_CORRECT)
    policy.observe([group], step=1)
    policy.finish_step(1)
    assert policy.temperatures(np.array([2, 3]), 0.5).tolist() == [1.0, 1.25]
    rising = Policy(Arm("rise", heat=(1.0, 1.5)), learned, PROBLEMS, LoopConfig())
    assert [rising.temperatures(np.arange(2), spent).tolist() for spent in (0.0, 0.5)] == [[1.0] * 2, [1.25] * 2]


def test_a_model_of_all_visits_gives_temperatures_after_the_step(learned):
    policy = Policy(Arm("fitted", predicted_accuracy=0.5, bounds=(0.7, 1.4)), learned, PROBLEMS, LoopConfig())
    rows = np.arange(len(PROBLEMS))
    for prompt, right in ((3, np.ones(8)), (4, np.zeros(8))):
        outcome = Outcome.ALL_CORRECT if right.all() else Outcome.ALL_WRONG
        group = Group(prompt, 1.0, torch.zeros(8, 4), torch.full((8,), 4), right, np.zeros(8, bool), outcome)
        policy.observe([group], step=1)
    assert policy.temperatures(rows, 0.1).tolist() == [1.0] * len(rows)
    policy.finish_step(1)
    heat = policy.temperatures(rows, 0.1)
    assert 1.1 < heat[3] <= 1.4 and 0.7 <= heat[4] < 0.9
    # The others are told apart by their lengths alone.
    others = {(PROBLEMS[row].operations, heat[row]) for row in rows if row not in (3, 4)}
    assert len(others) == len({operations for operations, _ in others}) > 2


# ---- The loop


def sampled(model, arm, n=4, config=None):
    prompts = np.arange(6)
    return _sampled(
        model,
        encode_prompts(PROBLEMS),
        PROBLEMS,
        prompts,
        np.linspace(1.0, 3.0, 6),
        np.full(6, n),
        torch.Generator().manual_seed(0),
        arm.min_p,
        config or LoopConfig(),
    )


def test_advantages_of_a_group():
    def group(*accuracies, outcome):
        of = np.array(accuracies, dtype=float)
        return Group(0, 1.0, torch.zeros(len(of), 4), torch.ones(len(of)), of, np.zeros(len(of), bool), outcome)

    mixed = group(1, 0, 0, 1, outcome=Outcome.MIXED)
    assert mixed.advantages(ra=True) == pytest.approx(np.array([1, -1, -1, 1]) * 0.8660, abs=1e-3)
    correct = group(*[1] * 8, outcome=Outcome.ALL_CORRECT)
    assert correct.advantages(ra=True) == pytest.approx([1 / 3] * 8, abs=1e-5) and correct.advantages(ra=False) is None
    assert group(*[0] * 8, outcome=Outcome.ALL_WRONG).advantages(ra=True) is None


@pytest.mark.parametrize("min_p", [0.0, 0.02])
def test_the_gradient_is_that_of_the_plain_formula(learned, min_p):
    """Row by row, without shared prompts, parts, padding or skipped groups."""
    arm = Arm("arm", ra=True, min_p=min_p)
    groups = sampled(learned, arm)
    assert {Outcome.MIXED, Outcome.ALL_CORRECT} <= {group.outcome for group in groups}
    model = ToyModel(PLAIN.vocabulary, seed=0)
    model.load_state_dict(learned.state_dict())
    loss = torch.zeros(())
    for group in groups:
        advantages = group.advantages(ra=True)
        for row, length in enumerate(group.lengths.tolist()):
            tokens = torch.cat([encode_prompts([PROBLEMS[group.prompt]])[0], group.responses[row, :length]])
            logits = model.head(model.hidden(tokens[None, :-1])[0, PROMPT_LENGTH - 1 :]) / group.temperature
            if min_p:
                logits = torch.where(logits < logits.amax(1, keepdim=True) + np.log(min_p), -torch.inf, logits)
            log_probs = torch.log_softmax(logits, 1)[torch.arange(length), group.responses[row, :length]]
            loss = loss - log_probs.sum() * (0.0 if advantages is None else advantages[row])
    (loss / sum(int(group.lengths.sum()) for group in groups)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    found: list[torch.Tensor] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: found.extend(p.grad.clone() for p in model.parameters()) or None)
    assert _updated(model, optimizer, encode_prompts(PROBLEMS), groups, arm, ramp=1.0) == 1
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-4)


def test_heat_that_cannot_be_unlearned_breaks_responses_by_chance(learned):
    whole = sampled(learned, Arm("grpo"), n=24)
    broken = sampled(learned, Arm("grpo"), n=24, config=LoopConfig(unlearnable=True))
    assert all(torch.equal(one.responses, other.responses) for one, other in zip(whole, broken, strict=True))
    assert broken[-1].broken.mean() > broken[0].broken.mean()
    assert all(not group.accuracies[group.broken].any() for group in broken)
    assert all((one.accuracies >= other.accuracies).all() for one, other in zip(whole, broken, strict=True))


def test_a_run_spends_its_budget_and_trains_on_what_it_did_not_drop(learned):
    config = LoopConfig(prompts=4, n=4, budget=3000, evaluations=2)
    made = {}
    for arm in (Arm("grpo"), Arm("drops all", drop=(Outcome.MIXED, Outcome.ALL_WRONG, Outcome.ALL_CORRECT))):
        model = ToyModel(PLAIN.vocabulary, seed=0)
        model.load_state_dict(learned.state_dict())
        rows = run(arm, model, PROBLEMS, PROBLEMS, config, seed=0)
        made[arm.name] = model.state_dict()
        assert [row["point"] for row in rows] == [0, 1, 2] and rows[-1]["tokens"] >= 3000
        assert sum(row.get("groups", 0) for row in rows) >= rows[-1]["steps"] * 4
        assert rows[1]["all_correct"] + rows[1]["mixed"] + rows[1]["all_wrong"] == pytest.approx(1)
    assert not torch.equal(made["grpo"]["head.weight"], learned.state_dict()["head.weight"])
    assert torch.equal(made["drops all"]["head.weight"], learned.state_dict()["head.weight"])


# ---- Studies


def test_no_prompt_serves_two_purposes():
    prompts = bases.pools()
    of_runs = [problem.prompt for seed in range(bases.SEEDS) for problem in bases.candidates(prompts, seed)]
    tests = [problem.prompt for base in range(bases.BASES) for problem in bases.test_set(prompts, base)]
    strong = [problem.prompt for problem in prompts.train[: bases.BASES * bases.STRONG_PROMPTS]]
    everything = of_runs + tests + strong
    assert len(set(everything)) == len(everything) == bases.SEEDS * 768 + 6 * 512 + 6 * 1024
    assert set(everything) <= prompts.prompts


def test_a_solved_pool_has_its_shares():
    regime = study.Regime("solved", "plain", pool=8, solved=0.75, config=LoopConfig())
    model = ToyModel(PLAIN.vocabulary, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(150):
        bases._supervised_loss(model, PROBLEMS[:6], None).backward()
        optimizer.step()
        optimizer.zero_grad()
    right = exact(model, PROBLEMS).right[:, 0]
    assert (right[:6] ** 8 > study._SOLVED).all() and (right[6:] < study._LEAST).all()
    with pytest.raises(ValueError, match="only 6 solved and 0 hard prompts in 12"):
        regime.train(PROBLEMS, model)


@pytest.mark.parametrize(
    ("hard", "chosen"),
    [
        pytest.param([0.3, 0.01, 0.4, 0.1], [0.3, 0.4], id="the-first-of-those-that-are-hard"),
        pytest.param([0.8, 0.01, 0.3, 0.7, 0.9], [0.3, 0.7], id="or-the-least-probable"),
    ],
)
def test_hard_prompts_of_a_solved_pool(monkeypatch, hard, chosen):
    right = np.array([0.99] * 6 + hard)
    monkeypatch.setattr(study, "exact", lambda model, prompts: types.SimpleNamespace(right=right[:, None]))
    regime = study.Regime("solved", "plain", pool=8, solved=0.75, config=LoopConfig())
    assert [right[row] for row in regime.train(range(len(right)), None)] == [0.99] * 6 + chosen


@pytest.mark.parametrize("name", study.STUDIES)
def test_cases_of_a_study_are_paired_and_balanced(name):
    cases = study.STUDIES[name]
    assert len({(case.regime, case.arm.name, case.seed) for case in cases}) == len(cases)
    seeds = study.TUNING_SEEDS if "tuning" in name else study.FINAL_SEEDS
    assert {case.seed for case in cases} <= set(seeds)
    for regime in {case.regime for case in cases}:
        of_regime = [case for case in cases if case.regime == regime]
        names = {case.arm.name for case in of_regime}
        assert len(of_regime) == len(names) * len({case.seed for case in of_regime})
        assert len({case.base for case in of_regime}) >= 2
    assert not set(study.TUNING_SEEDS) & set(study.FINAL_SEEDS)


def rows_of_a_study(arms, seeds):
    shares = dict.fromkeys(("all_correct", "all_wrong"), 0.25) | {"temperature": 1.1, "groups": 10, "tail_free": 0.5}
    rows = [
        {"arm": arm, "seed": seed, "point": point, "tokens": 1000 * point, "accuracy": accuracy, "mixed": 0.5}
        for arm, gain in arms.items()
        for seed in seeds
        for point, accuracy in enumerate((0.9, 0.3 + seed / 10, 0.5 + seed / 10 + gain * (1 + seed)))
    ]
    return pd.DataFrame(rows).assign(**shares, greedy=0.6, pass_at_8=0.8)


def test_summary_of_a_study_pairs_by_seed():
    table = summarize(rows_of_a_study({"grpo": 0.0, "hot": 0.1}, (0, 1)), ["grpo"]).set_index("arm")
    assert table.index.tolist() == ["hot", "grpo"]
    assert table.loc["grpo", "over the run; end"] == "0.450; 0.550"
    # Ends differ by 10 and 20 points, averages of two evaluations by half of it.
    assert table.loc["hot", "at the end - grpo"] == "+15.0 ± 63.5"
    assert table.loc["hot", "over the run - grpo"] == "+7.5 ± 31.8"
    assert table.loc["hot", "mixed per 1,000 tokens"] == "5.00"
    # By base model first: seeds 0 and 2 (10 and 30 points), 1 and 3 (20 and 40).
    by_base = summarize(rows_of_a_study({"grpo": 0.0, "hot": 0.1}, range(4)), ["grpo"], bases=2).set_index("arm")
    assert by_base.loc["hot", "at the end - grpo"] == "+25.0 ± 63.5"


def test_headroom_is_against_the_best_constant_on_seeds_that_all_arms_have():
    whole = rows_of_a_study({"grpo": -0.1, "constant 1.3": 0.0, "rise 1.0 to 1.4": 0.1}, (0, 1, 2))
    unfinished = whole[(whole["seed"] < 2) | (whole["arm"] == "grpo")].assign(regime="tail")
    table = headroom(unfinished, "at the end")
    assert table.to_dict("records") == [
        {"regime": "tail, 2 seeds", "best constant": "1.3: 0.550", "grpo": "-15.0 ± 63.5", "rise": "+15.0 ± 63.5"}
    ]
