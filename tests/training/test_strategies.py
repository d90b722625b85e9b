"""On which machines to train."""

import pytest

from od_eval import ODEvalError
from od_eval.training import strategies


def test_workers_that_the_environment_does_not_list_are_missed(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ODEvalError, match="TF_CONFIG lists 0 workers"):
        strategies.multi_worker_strategy(2)
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ODEvalError, match="TF_CONFIG is not JSON"):
        strategies.multi_worker_strategy(2)
