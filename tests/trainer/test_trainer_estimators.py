# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""RA with every estimator of advantages: the trainer's stage against verl's estimator with the pseudo samples in it.

The stage runs as in training, inside verl's ``_compute_advantage``. Its batch comes from memory and not from
TransferQueue, which needs Ray.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from verl.protocol import DataProto
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories
from verl.utils import tensordict_utils as tu

from erpo.tracker import Outcome, PromptTracker, TrackerConfig, keys_array, on_grid
from erpo.trainer.checks import RA_ESTIMATORS, RA_WITHOUT_MEANING
from erpo.trainer.config import ErpoConfig, RAConfig
from erpo.trainer.early import UNFED_ESTIMATORS
from erpo.trainer.groups import Group
from erpo.trainer.trainer import ErpoTrainerSync

# An estimator and whether it divides by the standard deviation, which only grpo has as a setting.
ESTIMATORS = [(name, True) for name in RA_ESTIMATORS] + [("grpo", False)]
EACH_ESTIMATOR = pytest.mark.parametrize(("estimator", "by_std"), ESTIMATORS, ids=[f"{n}-{s}" for n, s in ESTIMATORS])
RIGHT, MIXED, WRONG, UNSCORED = Outcome.ALL_CORRECT, Outcome.MIXED, Outcome.ALL_WRONG, Outcome.INCOMPLETE

# Masks of the responses of a group: a zero is a tool's token. Each has four tokens of the model on average.
MASKS = [[1, 1], [1, 0, 0, 1, 1, 1], [1] * 6, [1] * 4]
GROUPS = {
    "right": (RIGHT, [1.0, 1.0, 1.0, 1.0]),
    "mixed": (MIXED, [1.0, 0.0, 0.0, 1.0]),
    "penalised": (RIGHT, [1.0, 0.9, 0.7, 1.0]),
    "wrong": (WRONG, [0.0, 0.0, 0.0, 0.0]),
    "unscored": (UNSCORED, [1.0, 1.0, 0.0, 1.0]),
}


class Batch:
    """A batch as verl fetches it, and what it writes back."""

    def __init__(self, groups=GROUPS, masks=MASKS, outputs=1, padding=1):
        self.keys, self.uids, mask_rows, reward_rows = [], [], [], []
        for uid, (_, rewards) in groups.items():
            for session, reward in enumerate(rewards):
                for index in range(outputs):
                    self.keys.append(f"{uid}_{session}_{index}")
                    self.uids.append(uid)
                    mask_rows.append(masks[(session + index) % len(masks)])
                    reward_rows.append(reward)
        for session in range(padding):  # verl's: one masked token without a reward
            self.keys.append(f"pad_{session}_0")
            self.uids.append("pad")
            mask_rows.append([0])
            reward_rows.append(0.0)
        self.rewards = np.array(reward_rows)
        scores = [torch.tensor([0.0] * (len(mask) - 1) + [r]) for mask, r in zip(mask_rows, reward_rows, strict=True)]
        self.fields = {
            "uid": self.uids,
            "response_mask": torch.nested.as_nested_tensor([torch.tensor(m) for m in mask_rows], layout=torch.jagged),
            "rm_scores": torch.nested.as_nested_tensor(scores, layout=torch.jagged),
        }
        self.written = None

    def add_kl(self):
        """Log-probs whose divergences differ from response to response."""
        ones = self.fields["rm_scores"] * 0
        self.fields["old_log_probs"] = ones - 1.0
        rows = [row - 1 - 0.1 * (i % 5) for i, row in enumerate(ones.unbind())]
        self.fields["ref_log_prob"] = torch.nested.as_nested_tensor(rows, layout=torch.jagged)

    def kv_batch_get(self, keys, partition_id, select_fields):
        assert keys == self.keys
        return tu.get_tensordict({name: self.fields[name] for name in select_fields if name in self.fields})

    def kv_batch_put(self, keys, partition_id, fields):
        self.written = {name: torch.nested.to_padded_tensor(values, 0.0) for name, values in fields.items()}


def group_of(uid, outcome, rewards, capped_visits=0):
    return Group(
        uid=uid,
        key=uid.encode().ljust(16),
        step=1,
        temperature=1.0,
        expected=len(rewards),
        accuracies=list(rewards),
        correct=0,
        lengths=[1] * len(rewards),
        truncated=0,
        outcome=outcome,
        problem="no score" if outcome == UNSCORED else None,
        capped_visits=capped_visits,
    )


def trainer_of(estimator, ra, groups=GROUPS, *, by_std=True, kl=False, capped_visits=0):
    self = object.__new__(ErpoTrainerSync)
    self.erpo = ErpoConfig(ra=ra)
    self.config = OmegaConf.create(
        {
            "algorithm": {
                "adv_estimator": estimator,
                "gamma": 1.0,
                "lam": 1.0,
                "norm_adv_by_std_in_grpo": by_std,
                "use_kl_in_reward": kl,
                "kl_penalty": "kl",
            },
            "actor_rollout_ref": {"rollout": {"n": 4}},
        }
    )
    self.kl_ctrl_in_reward = core_algos.FixedKLController(0.1)
    self.batch_groups = {uid: group_of(uid, *group, capped_visits=capped_visits) for uid, group in groups.items()}
    self.ra_skipped, self.said, self.said_now = 0, set(), []
    self.say = self.said_now.append
    return self


def advantages_of(self, batch, monkeypatch, compute=ErpoTrainerSync._compute_advantage):
    """Advantages that the trainer writes back, (rows, tokens), and the step's metrics."""
    monkeypatch.setattr(trainer_base, "tq", batch)
    metrics = {}
    compute(self, KVBatchMeta(keys=batch.keys, tags=[{} for _ in batch.keys], partition_id="train"), metrics)
    return batch.written["advantages"], metrics


def of_plain_verl(self, batch, monkeypatch):
    """The same without anything of ours."""
    return advantages_of(self, batch, monkeypatch, trainer_base.PPOTrainer._compute_advantage)[0]


ON, OFF = RAConfig(enable=True), RAConfig()


def rows_of(batch, *uids):
    return np.flatnonzero(np.isin(batch.uids, uids))


def of_first_token(advantages, batch, uid):
    return advantages[rows_of(batch, uid), 0].double().numpy()


def joined_by_definition(batch, rewards, ra, uids, lengths, estimator, by_std):
    """verl's V1 function, with all tokens, on the batch with the pseudo samples as further responses of the groups.

    Args:
        rewards: Token-level rewards of the batch, (rows, tokens).
        lengths: Tokens of the pseudo samples of each group in ``uids``.
    """
    mask = torch.nested.to_padded_tensor(batch.fields["response_mask"], 0)
    keys, names = list(batch.keys), list(batch.uids)
    rewards = rewards.double()
    for uid, length in zip(uids, lengths, strict=True):
        for pseudo in range(ra.count):
            keys.append(f"{uid}_pseudo{pseudo}_0")
            names.append(uid)
            row = torch.zeros(1, mask.shape[1])
            row[0, length - 1] = ra.pseudo_reward
            rewards = torch.cat([rewards, row.double()])
            mask = torch.cat([mask, (torch.arange(mask.shape[1]) < length).long().unsqueeze(0)])
    data = DataProto.from_dict(
        {"token_level_rewards": rewards, "response_mask": mask}, {"uid": np.array(names, dtype=object)}
    )
    found = compute_advantage_for_multi_trajectories(
        data, keys, adv_estimator=estimator, norm_adv_by_std_in_grpo=by_std, config=OmegaConf.create({"gamma": 1.0})
    )
    return found.batch["advantages"][: len(batch.keys)]


def test_tests_that_the_documentation_names_exist():
    root = Path(__file__).parents[2]
    named = set(re.findall(r"`(test_\w+)`", (root / "docs" / "estimators-and-losses.md").read_text()))
    files = [*Path(__file__).parent.glob("test_*.py"), root / "tests" / "environment" / "test_environment.py"]
    defined = {name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}
    assert len(named) > 15 and not named - defined


def test_every_estimator_of_verl_is_decided():
    decided = [*RA_ESTIMATORS, *RA_WITHOUT_MEANING, *UNFED_ESTIMATORS]
    assert sorted(decided) == sorted(core_algos.ADV_ESTIMATOR_REGISTRY)


@EACH_ESTIMATOR
@pytest.mark.parametrize("kl", [False, True], ids=["", "kl-in-reward"])
@pytest.mark.parametrize(("count", "pseudo_reward"), [(1, 0.0), (3, -1.0)])
def test_ra_is_verls_estimator_on_the_joined_batch_and_touches_no_other_group(
    estimator, by_std, kl, count, pseudo_reward, monkeypatch
):
    ra = RAConfig(enable=True, count=count, pseudo_reward=pseudo_reward)
    batch, untouched = Batch(), Batch()
    if kl:
        batch.add_kl()
        untouched.add_kl()
    self = trainer_of(estimator, ra, by_std=by_std, kl=kl)
    found, metrics = advantages_of(self, batch, monkeypatch)
    verls = of_plain_verl(self, untouched, monkeypatch)

    token_level = batch.written.get("token_level_rewards", torch.nested.to_padded_tensor(batch.fields["rm_scores"], 0))
    joined = joined_by_definition(batch, token_level, ra, ["right", "penalised"], [4, 4], estimator, by_std)
    by_ra, others = rows_of(batch, "right", "penalised"), rows_of(batch, "mixed", "wrong", "pad")
    torch.testing.assert_close(found[by_ra], joined[by_ra].float(), rtol=2e-6, atol=0)
    mask = torch.nested.to_padded_tensor(batch.fields["response_mask"], 0).bool()
    assert torch.equal(found[others][mask[others]], verls[others][mask[others]])
    assert not found[~mask].any() and not found[rows_of(batch, "unscored")].any()
    # What the test stands on: RA gives something where verl gives nothing.
    assert (of_first_token(found, batch, "right") > 0).all()
    assert kl or not of_first_token(verls, batch, "right").any()
    assert metrics["erpo/signal/frac_responses_with_gradient_ra"] == 8 / 20
    assert torch.equal(batch.written["advantages"], batch.written["returns"])


def closed_form(estimator, by_std, size, count, difference, batch, ra):
    """The advantage of each response of an all-correct group with equal rewards."""
    if estimator.startswith("grpo") and by_std:
        return np.sqrt(count * (size + count - 1) / (size * (size + count)))
    if estimator.startswith("rloo"):
        return count * difference / (size + count - 1)
    share = count * difference / (size + count)
    if estimator != "gpg":
        return share
    rewards = np.append(batch.rewards, [ra.pseudo_reward] * count)
    return share * len(rewards) / np.count_nonzero(rewards)


@EACH_ESTIMATOR
@pytest.mark.parametrize("size", [2, 8, 16])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("correct", "wrong"), [(1.0, 0.0), (1.0, -1.0), (0.9, 0.1)])
def test_closed_forms(estimator, by_std, size, count, correct, wrong, monkeypatch):
    ra = RAConfig(enable=True, count=count, pseudo_reward=wrong)
    groups = {"right": (RIGHT, [correct] * size), "mixed": (MIXED, [correct, wrong] * (size // 2))}
    batch = Batch(groups, masks=[[1], [1] * 2, [1, 1, 0, 1, 1], [1] * 16], padding=3)  # lengths with a broken mean
    found, _ = advantages_of(trainer_of(estimator, ra, groups, by_std=by_std), batch, monkeypatch)
    expected = closed_form(estimator, by_std, size, count, correct - wrong, batch, ra)
    np.testing.assert_allclose(of_first_token(found, batch, "right"), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [("grpo", 1 / 3), ("grpo_vectorized", 1 / 3), ("rloo", 1 / 8), ("rloo_vectorized", 1 / 8), ("opo", 1 / 9)],
)
def test_numbers_of_the_documentation(estimator, expected, monkeypatch):
    groups = {"right": (RIGHT, [1.0] * 8)}
    found, _ = advantages_of(trainer_of(estimator, ON, groups), batch := Batch(groups), monkeypatch)
    np.testing.assert_allclose(of_first_token(found, batch, "right"), expected, rtol=1e-5)


@EACH_ESTIMATOR
def test_scale_and_decay_are_factors(estimator, by_std, monkeypatch):
    ra = RAConfig(enable=True, scale=0.5, cap_decay=0.25)
    groups = {name: GROUPS[name] for name in ("penalised", "mixed")}
    full, _ = advantages_of(trainer_of(estimator, ON, groups, by_std=by_std), batch := Batch(groups), monkeypatch)
    less, _ = advantages_of(
        trainer_of(estimator, ra, groups, by_std=by_std, capped_visits=2), Batch(groups), monkeypatch
    )
    torch.testing.assert_close(less[:4], full[:4] * (0.5 * 0.25**2))
    assert torch.equal(less[4:], full[4:]) and batch.uids[4] == "mixed"


@EACH_ESTIMATOR
def test_a_group_with_a_reward_at_the_pseudo_reward_keeps_verls_advantages(estimator, by_std, monkeypatch):
    groups = {"cut": (RIGHT, [1.0, 1.0, 1.0, 0.0]), "right": GROUPS["right"]}
    self = trainer_of(estimator, ON, groups, by_std=by_std)
    found, _ = advantages_of(self, batch := Batch(groups), monkeypatch)
    verls = of_plain_verl(self, Batch(groups), monkeypatch)
    assert self.ra_skipped == 1 and len(self.said_now) == 1
    assert torch.equal(found[:4], verls[:4])
    assert (of_first_token(found, batch, "right") > 0).all()


def test_every_output_of_a_session_has_the_advantage_of_its_last_under_grpo(monkeypatch):
    groups = {"penalised": GROUPS["penalised"]}
    batch = Batch(groups, outputs=2)
    scores = list(batch.fields["rm_scores"].unbind())
    for row in range(0, 8, 2):  # verl reads the last output's alone
        scores[row] = scores[row] * 0 - 5
    batch.fields["rm_scores"] = torch.nested.as_nested_tensor(scores, layout=torch.jagged)
    found, _ = advantages_of(trainer_of("grpo", ON, groups), batch, monkeypatch)
    one, _ = advantages_of(trainer_of("grpo", ON, groups), single := Batch(groups), monkeypatch)
    expected = of_first_token(one, single, "penalised")
    np.testing.assert_allclose(of_first_token(found, batch, "penalised"), expected.repeat(2), rtol=1e-6)


def test_every_output_is_a_response_of_its_own_to_the_other_estimators(monkeypatch):
    groups = {"right": GROUPS["right"]}
    found, _ = advantages_of(trainer_of("rloo", ON, groups), batch := Batch(groups, outputs=2), monkeypatch)
    np.testing.assert_allclose(of_first_token(found, batch, "right"), 1 / 8, rtol=1e-6)


@EACH_ESTIMATOR
@pytest.mark.parametrize("ra", [ON, OFF], ids=["ra", "plain"])
def test_a_group_without_any_token_makes_nothing_nan(estimator, by_std, ra, monkeypatch):
    """verl's rejection of responses can mask a whole group, as its padding is."""
    groups = {"right": GROUPS["right"]}
    self = trainer_of(estimator, ra, groups, by_std=by_std)
    found, _ = advantages_of(self, Batch(groups, masks=[[0, 0]]), monkeypatch)
    assert torch.equal(found, torch.zeros(5, 2))
    assert of_plain_verl(self, Batch(groups, masks=[[0, 0]]), monkeypatch).isnan().any() == (estimator == "opo")


# ---- RA where a prompt stays all-correct at the cap ------------------------------------------------------------------


def test_ra_decays_with_the_all_correct_visits_at_the_cap(monkeypatch):
    """The prompt climbs 1.0, 1.1, 1.2 to the cap, stays there, is revived, turns all-wrong, and begins again at 1.0."""
    schedule = TrackerConfig.from_dict({"name": "linear", "linear": {"dt": 0.1, "t_max": 1.2}})
    self = trainer_of("grpo", RAConfig(enable=True, cap_decay=0.5))
    self.tracker = PromptTracker(schedule)
    keys = keys_array([key := b"k" * 16])
    seen = []
    for step, correct in enumerate([8, 8, 8, 8, 8, 5, 8, 0, 8], start=1):
        temperature = float(on_grid(self.tracker.temperatures_for(keys))[0])
        self.config.actor_rollout_ref.rollout.n = 8
        self.global_steps, self.groups, self.unreported, self.settled, self.batch_groups = step, {}, [], [], {}
        accuracies = [1.0] * correct + [0.0] * (8 - correct)
        tags = {
            f"u{step}_{session}_0": {
                "response_len": 3,
                "erpo": {
                    "prompt": key.hex(),
                    "temperature": temperature,
                    "accuracy": accuracy,
                    "problem": None,
                    "truncated": False,
                    "generated": 3,
                },
            }
            for session, accuracy in enumerate(accuracies)
        }
        self.observe({f"u{step}"}, tags)
        self._report()
        self.settle({f"u{step}"}, None)
        self.tracker.finish_batch()
        batch = Batch({f"u{step}": (RIGHT, accuracies)})
        found, _ = advantages_of(self, batch, monkeypatch)
        seen.append((round(temperature, 1), correct, round(float(found[0, 0]), 4)))
    assert seen == [
        (1.0, 8, 0.3333),
        (1.1, 8, 0.3333),
        (1.2, 8, 0.1667),
        (1.2, 8, 0.0833),
        (1.2, 8, 0.0417),
        (1.2, 5, 0.7246),  # verl's GRPO
        (1.2, 8, 0.0208),
        (1.2, 0, 0.0),
        (1.0, 8, 0.0208),  # the visits at the cap are not forgotten
    ]


# ---- Estimators for which RA is refused: the reasons that the refusals give ------------------------------------------


def plain(estimator, uids, rewards, **settings):
    """verl's estimator on responses of two tokens, (rows,)."""
    rewards = torch.tensor([[0.0, reward] for reward in rewards])
    tensors = {"token_level_rewards": rewards, "response_mask": torch.ones_like(rewards)}
    data = DataProto.from_dict(tensors, {"uid": np.array(uids, dtype=object)})
    config = OmegaConf.create({"gamma": 1.0, "norm_adv_by_std_in_grpo": True})
    return compute_advantage(data, adv_estimator=estimator, config=config, **settings).batch["advantages"][:, 0]


TWO = ["right"] * 4 + ["mixed"] * 4
REWARDS = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0]


def test_no_wrong_answer_changes_the_lead_of_grpo_passk():
    assert not plain("grpo_passk", [*TWO, "right"], [*REWARDS, 0.0])[:4].any()


def test_all_correct_groups_have_an_advantage_under_reinforce_plus_plus_already():
    assert (plain("reinforce_plus_plus", TWO, REWARDS)[:4] > 0.1).all()


def test_pseudo_samples_would_shift_all_advantages_of_reinforce_plus_plus_baseline():
    before = plain("reinforce_plus_plus_baseline", TWO, REWARDS)
    after = plain("reinforce_plus_plus_baseline", [*TWO, "right"], [*REWARDS, 0.0])
    assert (after[4:8] - before[4:8]).abs().min() > 0.01


@pytest.mark.parametrize(
    ("estimator", "error"),
    [
        ("remax", r"reward_baselines"),
        ("gdpo", r"gdpo_reward_keys"),
        ("optimal_token_baseline", "sum_pi_squared"),
        ("tir_optimal_token_baseline", "sum_pi_squared"),
        ("gae", "values"),  # without a critic
    ],
)
def test_verls_trainer_cannot_run_what_it_does_not_feed(estimator, error, monkeypatch):
    batch = Batch()
    batch.add_kl()
    with pytest.raises((AssertionError, TypeError, KeyError), match=error):
        advantages_of(trainer_of(estimator, OFF), batch, monkeypatch)


def test_gdpo_lacks_its_rewards_even_where_they_are_named(monkeypatch):
    self = trainer_of("gdpo", OFF)
    self.config.algorithm.gdpo_reward_keys = ["acc", "format"]
    with pytest.raises(KeyError, match="prompts"):
        advantages_of(self, Batch(), monkeypatch)


def test_verl_divides_by_the_std_under_grpo_vectorized_whatever_the_setting():
    off = plain("grpo_vectorized", TWO, REWARDS, norm_adv_by_std_in_grpo=False)
    assert torch.equal(off, plain("grpo_vectorized", TWO, REWARDS)) and off[4] > 0.8
