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


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("garbage", "is not JSON"),
        ("[]", "has no 'cluster' with lists of addresses"),
        ('{"cluster": 5}', "has no 'cluster'"),
        ('{"cluster": {"worker": "a:1"}}', "has no list of addresses for 'worker'"),
        ('{"cluster": {"worker": ["a:99999"]}}', "has the address 'a:99999' for 'worker', which is not host:port"),
        ('{"cluster": {"worker": ["not a host:1"]}}', "has the address 'not a host:1'"),
        ('{"cluster": {"worker": [["a:1"]]}}', "has the address ['a:1']"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "has the task type None, which is not in its cluster (worker)"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": 5}', "has the task type None"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker"}}', "has the task index None"),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
            "has the task index 2, and 2 of 'worker'",
        ),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": "a"}}', "has the task index 'a'"),
    ],
)
def test_a_cluster_that_cannot_be_is_told_before_tensorflow_sees_it(monkeypatch, config, words):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ODEvalError) as error:
        strategies.multi_worker_strategy(2)
    assert words in str(error.value)
