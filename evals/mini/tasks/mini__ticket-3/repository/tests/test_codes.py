import random

import pytest

from ticket import MAX_NUMBER, BadCode, decode, encode
from ticket.codes import ALPHABET


@pytest.mark.parametrize("number", [0, 1, 31, 32, 1729, 10**6, MAX_NUMBER])
def test_there_and_back(number):
    assert decode(encode(number)) == number


def test_there_and_back_for_many():
    numbers = random.Random(7).sample(range(MAX_NUMBER + 1), 5000)
    assert [decode(encode(number)) for number in numbers] == numbers


def test_no_two_numbers_share_a_code():
    numbers = random.Random(11).sample(range(MAX_NUMBER + 1), 5000)
    assert len({encode(number) for number in numbers}) == len(numbers)


def test_how_people_write_it():
    assert decode(" 1p-1v ") == decode("ipiv") == decode("LPLV") == 1729


def test_a_wrong_character_is_noticed():
    code = encode(123456789)
    for place in range(len(code) - 1):
        for character in ALPHABET:
            if character != code[place]:
                with pytest.raises(BadCode):
                    decode(code[:place] + character + code[place + 1 :])


def test_swapped_neighbours_are_noticed():
    code = encode(987654321)
    for place in range(len(code) - 2):
        swapped = code[:place] + code[place + 1] + code[place] + code[place + 2 :]
        if swapped != code:
            with pytest.raises(BadCode):
                decode(swapped)


@pytest.mark.parametrize("code", ["", "7", "ABU!", "--"])
def test_what_is_no_code(code):
    with pytest.raises(BadCode):
        decode(code)


@pytest.mark.parametrize("number", [-1, MAX_NUMBER + 1])
def test_what_is_no_ticket_number(number):
    with pytest.raises(ValueError, match="ticket number"):
        encode(number)
