import threading
import time

import pytest

from limiter import Bucket, limited


def test_a_burst_up_to_the_capacity():
    bucket = Bucket(rate=20, capacity=3)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_tokens_come_back():
    bucket = Bucket(rate=20, capacity=2)
    assert bucket.take(2)
    time.sleep(0.06)
    assert bucket.take()
    assert not bucket.take()


def test_no_more_than_the_capacity():
    bucket = Bucket(rate=50, capacity=2)
    time.sleep(0.1)
    assert bucket.take(2)
    assert not bucket.take()


def test_the_time_to_wait():
    bucket = Bucket(rate=10, capacity=4)
    assert bucket.wait_time() == 0
    bucket.take(4)
    assert bucket.wait_time(2) == pytest.approx(0.2, abs=0.005)


def test_what_never_fits():
    with pytest.raises(ValueError, match="never fit"):
        Bucket(rate=10, capacity=4).wait_time(5)


def test_acquire_waits():
    bucket = Bucket(rate=20, capacity=1)
    start = time.monotonic()
    for _ in range(3):
        bucket.acquire()
    assert 0.095 < time.monotonic() - start < 0.13


def test_threads_share_a_bucket():
    bucket = Bucket(rate=0.001, capacity=100)
    taken = []

    def work():
        while bucket.take():
            taken.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 100


def test_limited():
    @limited(rate=20)
    def now():
        return time.monotonic()

    first, second, third = now(), now(), now()
    assert second - first == pytest.approx(0.05, abs=0.015)
    assert third - second == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("rate, capacity", [(0, 1), (1, 0), (-1, 1)])
def test_wrong_arguments(rate, capacity):
    with pytest.raises(ValueError, match="above 0"):
        Bucket(rate, capacity)
