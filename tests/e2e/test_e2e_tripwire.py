# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""An agent loop that samples at a temperature of its own, whatever it is given: the run ends and says so."""

from textwrap import dedent

import pytest
from e2e_runs import RUN_TIMEOUT, small_run, start

from erpo.runs import read_groups

pytestmark = [pytest.mark.ray, pytest.mark.long]

STEPS = 3


def test_an_agent_loop_that_ignores_its_temperature_ends_the_run(untrained, tmp_path):
    (tmp_path / "deaf_agent.py").write_text(
        dedent(
            """
            from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

            class DeafAgentLoop(SingleTurnAgentLoop):
                async def run(self, sampling_params, **kwargs):
                    return await super().run({**sampling_params, "temperature": 1.0}, **kwargs)
            """
        )
    )
    (tmp_path / "agents.yaml").write_text("- {name: deaf_agent, _target_: deaf_agent.DeafAgentLoop}\n")
    agent = "actor_rollout_ref.rollout.agent"
    arguments = small_run(
        untrained,
        tmp_path / "run",
        "method=grpo_hot",
        f"{agent}.agent_loop_config_path={tmp_path}/agents.yaml",
        f"{agent}.default_agent_loop=deaf_agent",
        f"erpo.tripwire.steps={STEPS}",
        "trainer.total_training_steps=8",
    )
    run = start(tmp_path / "log", "recipe.erpo.main_erpo", arguments, PYTHONPATH=str(tmp_path))
    try:
        code = run.process.wait(RUN_TIMEOUT)
    finally:
        run.kill()
    errors = [line for line in run.log.read_text().splitlines() if line.startswith("error: ")]
    assert code == 1 and len(errors) == 1, run.tail()
    assert "The rollout did not follow the temperatures of raised prompts" in errors[0]
    assert f"over {STEPS} steps" in errors[0] and "pass on the sampling_params" in errors[0]
    # The step that tells is not trained on, and not recorded.
    assert read_groups(tmp_path / "run")["step"].max() == STEPS - 1
