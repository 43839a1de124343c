"""Which images train and which validate, rule by rule."""

import pytest
from layouts import culane, sample, tusimple

from formats import registry, splits
from formats.base import DataError
from formats.sample_index import SampleIndex


@pytest.mark.parametrize("rule", ["sometimes", "0.0", "nowhere.txt"])
def test_unknown_rule_is_answered_by_the_lists_of_the_data_set(tmp_path, rule):
    with pytest.raises(DataError, match=r"expected auto, all, .*test\.txt"):
        splits.split(registry.list_samples(culane(tmp_path)), rule)


def test_by_clip_and_by_fraction(tmp_path):
    samples = registry.list_samples(tusimple(tmp_path, [f"clips/{n}/20.jpg" for n in range(10, 20)]))
    assert [len(part) for part in splits.split(samples, "clip>=17")] == [7, 3]
    assert [len(part) for part in splits.split(samples, "0.2")] == [8, 2]
    assert [len(part) for part in splits.split(samples, "all")] == [0, 10]


@pytest.mark.parametrize(("images", "held_back"), [(2, 1), (7, 1), (8, 2), (12, 3), (20, 5), (44, 5), (66, 7)])
def test_of_few_images_more_than_a_tenth_validates(images, held_back):
    samples = SampleIndex(sample(f"{i:02}.jpg", ("images",), format="folder") for i in range(images))
    train, val = splits.split(samples, "auto")
    assert (len(train), len(val)) == (images - held_back, held_back) and list(val.names())[-1] == f"{images - 1:02}.jpg"
    assert len(splits.split(samples, "0.1")[1]) == max(1, round(images / 10))


def test_clips_may_be_times_in_nanoseconds_and_those_of_tests_need_no_number():
    clips = [f"clips/0601/{n}/20.jpg" for n in (1495058717560363854, 1495058717560363855)]
    samples = SampleIndex([sample(clip, ("label_data_0601.json",)) for clip in clips]
                          + [sample("clips/0530/1492626047222176976_0/20.jpg", ("test_label.json",))])
    train, val = splits.split(samples, "clip>=1495058717560363855")
    assert (list(train.names()), list(val.names())) == (clips[:1], clips[1:])


def test_clips_need_folders_that_are_numbers(tmp_path):
    with pytest.raises(DataError, match=r"drive/a\.jpg: its folder 'drive' is not a number"):
        splits.split(registry.list_samples(culane(tmp_path)), "clip>=1")


def test_every_rule_divides_as_plain_lists_would():
    lists = [("train.txt",), ("val.txt",), ("test.txt", "test_split/test0_normal.txt"), ("train.txt", "val.txt")]
    samples = [sample(f"drive{n * 7 % 5}/{n * 13 % 20:02}/x.jpg", lists[n % 4]) for n in range(20)]

    def parts(rule, training=True):
        return tuple(map(list, splits.split(SampleIndex(samples), rule, training)))

    assert parts("all") == ([], samples) and parts("none") == (samples, [])
    untested = [s for s in samples if "test.txt" not in s.lists]
    by_name = sorted(untested, key=lambda s: s.name)
    assert parts("0.2") == (by_name[:12], by_name[12:])
    assert parts("auto") == parts("auto", False) == (
        [s for s in untested if "val.txt" not in s.lists], [s for s in untested if "val.txt" in s.lists])
    assert parts("clip>=7") == ([s for s in untested if int(s.image.parent.name) < 7],
                                [s for s in samples if int(s.image.parent.name) >= 7])
    tested = [s for s in samples if "test.txt" in s.lists]
    assert parts("test0_normal.txt") == parts("test.txt") == (untested, tested)
    assert tuple(map(list, splits.split(SampleIndex(tested), "auto", False))) == ([], tested)
    assert tuple(map(list, splits.split(SampleIndex(tested), "auto"))) == (sorted(tested)[:-1], sorted(tested)[-1:])
    with pytest.raises(DataError, match=r"one of the lists test\.txt, test_split/test0_normal\.txt$"):
        splits.split(SampleIndex(samples).take([2, 6]), "train.txt")
