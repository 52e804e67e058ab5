"""A user's error keeps its kind and words through what Ray makes of it."""

import pytest
import ray

from epilm.errors import CorpusError, EpilmError, GenomeError, user_error


def wrapped(inner: Exception) -> Exception:
    try:
        try:
            raise inner
        except Exception as error:
            raise RuntimeError("a task failed") from error
    except RuntimeError as outer:
        return outer


def test_the_error_inside_is_found():
    mine = CorpusError("shard x is corrupt")
    assert user_error(mine) is mine
    assert user_error(wrapped(wrapped(mine))) is mine


@pytest.mark.ray
def test_a_task_s_error_comes_without_the_worker_s_traceback(ray_local):
    @ray.remote(max_retries=0)
    def task():
        raise CorpusError("shard x is corrupt")

    with pytest.raises(CorpusError, match="ray::") as caught:
        ray.get(task.remote())
    found = user_error(caught.value)
    assert type(found) is CorpusError
    assert str(found) == "shard x is corrupt"


def test_the_error_is_read_where_only_text_arrives():
    found = user_error(RuntimeError("trace\nepilm.errors.GenomeError: chr1 is absent. Add it.\nRay advises"))
    assert type(found) is GenomeError
    assert str(found) == "chr1 is absent. Add it."


@pytest.mark.parametrize("error", [RuntimeError(), RuntimeError("ValueError: no"), wrapped(KeyError("x"))])
def test_our_own_bugs_are_no_user_errors(error):
    assert user_error(error) is None


def test_every_kind_is_a_value_error():
    assert issubclass(EpilmError, ValueError)
