"""What the name of a list says of its images: whether they are a test, or validate."""

import re

TEST, VALIDATION, TRAINING = "test", "validation", "training"
_VALIDATION = re.compile(r"(x|cross|e)?val(s|id|idation|idate)?(set|list|data|split|part|imgs?|images?|gt|labels?)?")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def purpose(name: str) -> str | None:
    """TEST, VALIDATION or TRAINING by the words in the path of a list, in any case of letters; None without one.

    test_img.txt, test_split/test0_normal.txt, label_data_test.json, labelsTest.json and testing.txt are tests;
    latest.txt is none. A list that says test and something else is a test; one that says train and val trains.
    """
    words = [word for word in re.split(r"[^a-z]+", _CAMEL.sub(" ", name).lower()) if word]
    if any(word.startswith("test") for word in words):
        return TEST
    if any(word.startswith("train") for word in words):
        return TRAINING
    return VALIDATION if any(map(_VALIDATION.fullmatch, words)) else None


def folder_purpose(name: str) -> str | None:
    """The purpose of a folder of images that is called just so: train, val, valid, validation, test, or in plural."""
    word = name.lower().removesuffix("s")
    return {"train": TRAINING, "training": TRAINING, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION,
            "test": TEST, "testing": TEST}.get(word)
