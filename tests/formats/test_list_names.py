"""What the name of a list says of its images."""

import pytest

from formats.list_names import TEST, TRAINING, VALIDATION, folder_purpose, purpose


@pytest.mark.parametrize(("name", "expected"), [
    ("test.txt", TEST), ("test_img.txt", TEST), ("TEST_GT.TXT", TEST), ("test_split/test0_normal.txt", TEST),
    ("test_split/night.txt", TEST), ("label_data_test.json", TEST), ("test_label.json", TEST), ("my-test.txt", TEST),
    ("labelsTest.json", TEST), ("testing.txt", TEST), ("testset/a.txt", TEST), ("train_test.txt", TEST),
    ("val.txt", VALIDATION), ("val_gt.txt", VALIDATION), ("valid.txt", VALIDATION), ("Validation.txt", VALIDATION),
    ("label_data_val.json", VALIDATION), ("instances_val2017.json", VALIDATION), ("valid", VALIDATION),
    ("train.txt", TRAINING), ("trainval.txt", TRAINING), ("train_val_gt.txt", TRAINING),
    ("latest.txt", None), ("contest.txt", None), ("value.txt", None), ("label_data_0531.json", None), ("folder", None)])
def test_a_list_is_for_what_its_name_says(name, expected):
    assert purpose(name) == expected


@pytest.mark.parametrize(("name", "expected"), [
    ("test", TEST), ("Tests", TEST), ("val", VALIDATION), ("VALID", VALIDATION), ("validation", VALIDATION),
    ("train", TRAINING), ("test_drive", None), ("valley", None), ("drive1", None), ("", None)])
def test_a_folder_is_for_something_only_where_it_is_called_just_so(name, expected):
    assert folder_purpose(name) == expected
