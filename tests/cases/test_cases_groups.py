# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Groups as they come in the field: unscored responses, penalties, several outputs, refills; one row a case."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl.experimental.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics
from verl.protocol import DataProto
from verl.trainer.ppo.v1 import replay_buffer as verls

from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, keys_array
from erpo.trainer.agent_loop import ErpoAgentLoopWorker
from erpo.trainer.config import AccuracyConfig, ErpoConfig, GroupsConfig, RAConfig
from erpo.trainer.groups import Group, read_groups
from erpo.trainer.replay_buffer import observe_groups
from erpo.trainer.stages.base import TrainerStage
from erpo.trainer.trainer import ErpoTrainerSync

KEY = b"k" * 16
TENTHS = sum([0.1] * 10)  # 0.9999999999999999


# ---- one response ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "reward", "reported", "accuracy", "problem"),
    [
        pytest.param(None, 1.0, {"acc": 0.0}, 0.0, None, id="acc-goes-before-the-reward"),
        pytest.param(None, 0.5, {}, 0.5, None, id="reward-where-there-is-no-acc"),
        pytest.param(None, 0.5, None, 0.5, None, id="a-scorer-that-returns-a-number"),
        pytest.param("reward", 0.5, {"acc": 1.0}, 0.5, None, id="the-reward-by-name"),
        pytest.param(None, 1.0, {"acc": True}, 1.0, None, id="a-boolean"),
        pytest.param(None, 1.0, {"acc": None}, None, "returned None as 'acc'", id="a-judge-that-timed-out"),
        pytest.param(None, 1.0, {"acc": float("nan")}, None, "'acc' nan", id="nan"),
        pytest.param(None, 1.0, {"acc": float("inf")}, None, "'acc' inf", id="infinite"),
        pytest.param(None, 1.0, {"acc": "yes"}, None, "returned 'yes' as 'acc'", id="text"),
        pytest.param(None, None, {}, None, "returned None as 'reward'", id="no-reward"),
        pytest.param("strict", 1.0, {"acc": 1.0}, None, "no 'strict', only ['acc', 'reward']", id="unknown-metric"),
    ],
)
def test_accuracy_of_a_response(metric, reward, reported, accuracy, problem):
    found, why = AccuracyConfig(metric=metric).measure(reward, reported)
    assert found == accuracy
    assert why is None if problem is None else problem in why


def output(tokens, mask=None, reward=1.0, **extra):
    return AgentLoopOutput(
        prompt_ids=[1],
        response_ids=tokens,
        response_mask=mask or [1] * len(tokens),
        reward_score=reward,
        metrics=AgentLoopMetrics(),
        extra_fields={"reward_extra_info": {"acc": 1.0}, **extra},
    )


def describe(outputs):
    worker = object.__new__(ErpoAgentLoopWorker)
    worker.config = OmegaConf.create({"actor_rollout_ref": {"rollout": {"temperature": 1.0, "response_length": 4}}})
    worker.tokenizer = SimpleNamespace(eos_token_id=9)
    worker._accuracy = AccuracyConfig()
    return worker._describe(outputs, {"prompt_key": KEY.hex(), "rollout_temperature": torch.tensor(1.25)})


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        pytest.param([output([5, 9])], {"generated": 2, "truncated": False, "temperature": 1.25}, id="short"),
        pytest.param([output([5, 5, 5, 5])], {"generated": 4, "truncated": True}, id="cut-at-the-limit"),
        pytest.param([output([5, 5, 5, 9])], {"generated": 4, "truncated": False}, id="ends-at-the-limit"),
        pytest.param([output([5, 7, 7, 9], [1, 0, 0, 1])], {"generated": 2}, id="tool-output-is-not-generated"),
        pytest.param([output([5, 5, 5]), output([5, 9])], {"generated": 5}, id="every-output-of-a-session-counts"),
        pytest.param(
            [output([5], reward=0.0, unscored="the reward is nan")],
            {"accuracy": None, "problem": "the reward is nan", "reward": 0.0},
            id="a-reward-that-was-nan",
        ),
    ],
)
def test_what_the_worker_says_of_a_response(outputs, expected):
    said = describe(outputs)
    assert {name: said[name] for name in expected} == expected


# ---- one group ------------------------------------------------------------------------------------------------------


def tags_of(accuracies, uid="u", **changes):
    one = {"prompt": KEY.hex(), "temperature": 1.25, "reward": 1.0, "problem": None, "truncated": False, "generated": 3}
    return {
        f"{uid}_{session}_0": {"response_len": 3, "erpo": {**one, "accuracy": value, **changes}}
        for session, value in enumerate(accuracies)
    }


@pytest.mark.parametrize(
    ("threshold", "accuracies", "outcome", "correct"),
    [
        pytest.param(0.5, [1.0, 1.0], Outcome.ALL_CORRECT, 2, id="all-correct"),
        pytest.param(1.0, [TENTHS, TENTHS], Outcome.ALL_CORRECT, 2, id="ten-tenths-reach-one"),
        pytest.param(0.5, [0.5 - 5e-7, 0.5 - 5e-7], Outcome.ALL_CORRECT, 2, id="rounding-at-the-threshold"),
        pytest.param(1.0, [0.6, 0.6], Outcome.ALL_WRONG, 0, id="partial-credit-is-wrong"),
        pytest.param(0.5, [1.0, None], Outcome.INCOMPLETE, 1, id="one-response-unscored"),
        pytest.param(0.5, [None, None], Outcome.INCOMPLETE, 0, id="no-response-scored"),
        pytest.param(0.5, [1.0], Outcome.INCOMPLETE, 1, id="an-agent-loop-that-returned-nothing"),
    ],
)
def test_kind_and_correct_responses_of_a_group_agree(threshold, accuracies, outcome, correct):
    (group,) = read_groups({"u"}, tags_of(accuracies), AccuracyConfig(threshold=threshold), n=2, step=1)
    assert (group.outcome, group.correct, group.temperature, group.key) == (outcome, correct, 1.25, KEY)
    assert (group.log_row(None)["accuracy"] is None) == (set(accuracies) == {None})


def test_the_last_output_of_a_session_is_the_one_that_is_scored():
    tags = tags_of([0.0, 1.0])
    tags = {"u_0_0": {"response_len": 9}, "u_0_1": tags["u_0_0"], "u_1_0": tags["u_1_0"]}
    (group,) = read_groups({"u"}, tags, AccuracyConfig(), n=2, step=1)
    assert group.trajectory_keys == ["u_0_1", "u_1_0"]


def test_groups_of_another_origin_are_refused_by_what_to_do():
    tags = {**tags_of([1.0, 1.0], "ours"), "theirs_0_0": {"response_len": 3}, "theirs_1_0": {"response_len": 3}}
    with pytest.raises(ValueError, match="remove the folder transfer_queue"):
        read_groups({"ours", "theirs"}, tags, AccuracyConfig(), n=2, step=1)


@pytest.mark.parametrize("name", ["band", "predictive"])
def test_schedules_see_the_same_accuracy_as_the_kind(name):
    def temperature_after(accuracy):
        tracker = PromptTracker(TrackerConfig.from_dict({"name": name}))
        keys = keys_array([KEY])
        (group,) = read_groups({"u"}, tags_of([accuracy] * 4), AccuracyConfig(threshold=1.0), n=4, step=1)
        for step in range(1, 6):
            tracker.observe(
                GroupOutcomes(
                    keys=keys,
                    outcomes=np.array([group.outcome]),
                    accuracies=np.array([group.correct / 4]),
                    sizes=np.array([4]),
                    temperatures=tracker.temperatures_for(keys),
                    steps=np.array([step]),
                )
            )
        return tracker.temperatures_for(keys)[0]

    assert temperature_after(TENTHS) == temperature_after(1.0) > 1.0


def test_a_batch_that_is_observed_in_parts_moves_the_global_offset_once():
    def offset(parts):
        tracker = PromptTracker(TrackerConfig.from_dict({"name": "predictive"}))
        for part in parts:
            keys = keys_array([bytes([number]) * 16 for number in part])
            count = len(part)
            outcomes = GroupOutcomes(
                keys=keys,
                outcomes=np.full(count, Outcome.ALL_CORRECT),
                accuracies=np.ones(count),
                sizes=np.full(count, 8),
                temperatures=np.ones(count),
                steps=np.ones(count, dtype=int),
            )
            tracker.observe(outcomes, more_to_come=True)
        tracker.finish_batch()
        return tracker.state_dict()["meta"]["scalars"]["global_offset"]

    assert offset([[1, 2], [3, 4]]) == offset([[1, 2, 3, 4]]) != 0


# ---- RA -------------------------------------------------------------------------------------------------------------


def trainer(method="ra", **settings):
    """A trainer without Ray: the stages' own state, and verl's settings that they read."""
    self = object.__new__(ErpoTrainerSync)
    self.erpo = ErpoConfig(method=method, **settings)
    self.batch_groups, self.groups, self.settled, self.said, self.sentences = {}, {}, [], set(), []
    self.ra_skipped, self.failed, self.stopped_refilling, self.next_refill_report, self.global_steps = 0, 0, None, 1, 3
    self.totals = SimpleNamespace(tokens=0)
    self.say = self.sentences.append
    return self


def reactivated(rewards, pseudo_reward=0.0, accuracies=None, kl=0.0):
    self = trainer(ra=RAConfig(enable=True, pseudo_reward=pseudo_reward))
    n = len(rewards)
    tags = tags_of(accuracies or [1.0] * n)
    self.batch_groups = {group.uid: group for group in read_groups({"u"}, tags, AccuracyConfig(), n, 1)}
    keys = [*tags, "padding_0_0"]
    token_level = torch.zeros(n + 1, 2)
    token_level[:n, 1] = torch.tensor(rewards) - torch.as_tensor(kl)
    data = DataProto.from_dict(
        {
            "token_level_rewards": token_level,
            "response_mask": torch.tensor([[1, 1]] * n + [[0, 0]]),
            "advantages": torch.full((n + 1, 2), 7.0),
            "returns": torch.full((n + 1, 2), 7.0),
        }
    )
    rows = self._reactivate(data, keys, adv_estimator="grpo")
    self._silence_unscored(data, keys)
    return self, rows, data.batch["advantages"][:n, 0]


def test_ra_of_equal_rewards():
    _, rows, advantages = reactivated([1.0] * 8)
    assert rows == set(range(8))
    torch.testing.assert_close(advantages, torch.full((8,), 1 / 3), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("rewards", "pseudo_reward", "skipped"),
    [
        pytest.param([1, 1, 1, 0], 0.0, 1, id="overlong-penalty-of-a-0/1-scorer"),
        pytest.param([1, 1, 1, -1], -1.0, 1, id="penalty-factor-2-of-a-dapo-scorer"),
        pytest.param([1, 1, 1, 0], -1.0, 0, id="penalty-that-leaves-it-above-a-wrong-answer"),
        pytest.param([0, 0, 0, 0], 0.0, 1, id="format-penalty-of-a-whole-group"),
    ],
)
def test_a_penalty_down_to_the_pseudo_reward_does_not_end_the_run(rewards, pseudo_reward, skipped):
    self, rows, advantages = reactivated([float(reward) for reward in rewards], pseudo_reward)
    assert self.ra_skipped == skipped
    assert rows == (set() if skipped else set(range(4)))
    assert (advantages == 7).all() == bool(skipped)  # verl's own are kept
    assert len(self.sentences) == skipped


def test_ra_keeps_the_kl_term_in_the_reward():
    kl = [0.01, 0.05, 0.02, 0.15]
    _, _, advantages = reactivated([1.0] * 4, kl=torch.tensor(kl))
    joined = np.append(1 - np.array(kl), 0.0)
    expected = (joined[:4] - joined.mean()) / joined.std(ddof=1)
    np.testing.assert_allclose(advantages, expected, rtol=1e-4)


def test_a_group_with_an_unscored_response_gets_no_advantage():
    self = trainer()
    tags = tags_of([1.0, 1.0])
    tags["u_1_0"]["erpo"] |= {"accuracy": None, "problem": "the reward function returned None as 'acc'"}
    self.batch_groups = {group.uid: group for group in read_groups({"u"}, tags, AccuracyConfig(), 2, 1)}
    ones = torch.ones(3, 2)
    data = DataProto.from_dict({"response_mask": ones, "advantages": ones.clone(), "returns": ones.clone()})
    self._silence_unscored(data, [*tags, "other_0_0"])
    assert data.batch["advantages"].tolist() == [[0, 0], [0, 0], [1, 1]]


@pytest.mark.parametrize(("unscored", "stops"), [(5, False), (6, True)])
def test_too_many_unscored_groups_end_the_run_with_the_reason(unscored, stops):
    self = trainer()
    group = read_groups({"u"}, tags_of([None], problem="no 'strict'"), AccuracyConfig(), 1, 1)
    good = read_groups({"u"}, tags_of([1.0]), AccuracyConfig(), 1, 1)
    groups = group * unscored + good * (10 - unscored)
    if stops:
        with pytest.raises(
            ValueError, match=r"step 3 6 of 10 groups .* more than .*max_unscored=0.5: no 'strict'; fix"
        ):
            self._stop_if_unscored(groups)
    else:
        self._stop_if_unscored(groups)


# ---- refills --------------------------------------------------------------------------------------------------------


class Rollout:
    """TransferQueue's two calls that the replay buffer makes, over groups that finish `delay` polls after dispatch."""

    def __init__(self, kinds, delay=1):
        self.kinds, self.delay = kinds, delay
        self.uids = itertools.count()
        self.store, self.age, self.generated = {}, {}, 0

    def generate(self, count):
        for _ in range(count):
            uid = f"g{next(self.uids)}"
            self.store[uid] = {"is_prompt": True, "status": "running", "global_steps": 1}
            self.age[uid] = 0
            self.generated += 1

    def kv_list(self, partition_id=None):
        for uid in list(self.age):
            self.age[uid] += 1
            # Groups of a batch finish one after the other.
            if self.age[uid] > self.delay + int(uid[1:]) % 4:
                del self.age[uid]
                self.store[uid]["status"] = "finished"
                self.store.update(tags_of(next(self.kinds), uid))
        return {"train": {key: dict(tag) for key, tag in self.store.items()}}

    def kv_clear(self, partition_id, keys):
        for key in keys:
            self.store.pop(key, None)


WRONG, MIXED, RIGHT = [0.0, 0.0], [0.0, 1.0], [1.0, 1.0]


def sample(monkeypatch, kinds, batch_size=16, drop=("all_wrong",), budget=None, **groups_config):
    rollout = Rollout(iter(kinds))
    monkeypatch.setattr(verls, "tq", rollout)
    settings = GroupsConfig(drop=drop, **groups_config)
    self = trainer(groups=settings, token_budget=budget)
    self.config = OmegaConf.create({"actor_rollout_ref": {"rollout": {"n": 2}}})
    buffer = verls.ReplayBuffer(
        "sync",
        OmegaConf.create({}),
        1,
        "drop",
        OmegaConf.create({}),
        refill_fn=rollout.generate,
        filter_groups_metric="acc",
        train_batch_size=batch_size,
        gen_batch_size=1,
    )
    self.unreported = []
    observe_groups(buffer, self, self.groups, settings, 1e-5, watchdog=None)
    rollout.generate(batch_size)
    batch, _ = buffer.sample(1, "train", batch_size)
    reasons = [reason for _, reason in self.settled]
    assert len({key.split("_")[0] for key in batch.keys}) == batch_size
    return self, rollout, {reason: reasons.count(reason) for reason in (None, "filtered", "surplus")}


def some_wrong(period=4):
    return itertools.cycle([WRONG] + [MIXED] * (period - 1))


def test_an_exact_refill_generates_what_was_dropped_and_wastes_nothing(monkeypatch):
    _, rollout, counts = sample(monkeypatch, some_wrong())
    assert counts["surplus"] == 0 and counts["filtered"] > 0
    assert rollout.generated == 16 + counts["filtered"]


def test_verls_factor_of_two_is_a_setting_and_wastes(monkeypatch):
    _, rollout, counts = sample(monkeypatch, some_wrong(), refill_factor=2.0)
    assert counts["surplus"] > 0
    assert rollout.generated == 16 + counts["filtered"] + counts["surplus"]


def test_a_step_of_prompts_that_the_model_cannot_solve_ends(monkeypatch):
    self, rollout, counts = sample(monkeypatch, itertools.repeat(WRONG), refill_limit=2.0)
    assert counts == {None: 16, "filtered": 32, "surplus": 0}
    assert rollout.generated == 48
    assert self.stopped_refilling == "erpo.groups.refill_limit=2 batches"
    assert "step 3 is refilling: " in self.sentences[0] and " groups dropped for a batch of 16" in self.sentences[0]
    assert (
        self.sentences[-1] == "step 3 keeps all further groups after dropping 32 (erpo.groups.refill_limit=2 batches)"
    )


def test_the_token_budget_holds_within_a_step(monkeypatch):
    # A group has six tokens: ten dropped ones make the budget.
    self, _, counts = sample(monkeypatch, itertools.repeat(WRONG), budget=60)
    assert counts["filtered"] < 32 and self.stopped_refilling == "erpo.token_budget=60"


@pytest.mark.parametrize("drop", [(), ("all_wrong",), ("all_correct", "all_wrong")], ids=["grpo", "erpo", "dapo"])
def test_only_the_kinds_of_the_method_are_dropped(monkeypatch, drop):
    kinds = itertools.cycle([WRONG, MIXED, RIGHT, MIXED])
    self, _, _ = sample(monkeypatch, kinds, drop=drop)
    dropped = {group.outcome for group, reason in self.settled if reason == "filtered"}
    assert dropped == {Outcome[name.upper()] for name in drop}


def test_groups_without_a_score_are_dropped_where_the_method_drops(monkeypatch):
    kinds = itertools.cycle([[1.0, None], MIXED])
    self, _, counts = sample(monkeypatch, kinds)
    assert {group.outcome for group, reason in self.settled if reason is None} == {Outcome.MIXED}
    assert counts["filtered"] > 0


def test_a_group_is_saved_with_a_checkpoint_and_comes_back():
    (group,) = read_groups({"u"}, tags_of([1.0, None], problem="p"), AccuracyConfig(), 2, 1)
    assert Group.from_json(group.to_json()) == group


def test_a_sentence_is_said_once():
    self = trainer()
    for _ in range(2):
        TrainerStage.say_once(self, "the same")
    assert self.sentences == ["the same"]
