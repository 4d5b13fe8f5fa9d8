import numpy as np
import pytest
from PIL import Image

from eesearch.core.errors import DataError
from eesearch.training.data import load_dataset
from eesearch.training.images import Asked, Frame, read_folder


def paint(file, shade=100, size=(6, 4), mode="RGB"):
    """Height and width of size."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size[::-1], shade if mode not in ("RGB", "RGBA") else (shade, 0, 7, 255)[: len(mode)]).save(file)
    return file


@pytest.fixture
def folder(tmp_path):
    """Two classes, told by red; five images each to train on, two to test on."""
    for split, count in (("train", 5), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                paint(tmp_path / split / name / f"{number}.png", 100 * label + number)
    return tmp_path


def refused(folder, *parts, **args):
    with pytest.raises(DataError) as caught:
        read_folder(folder, args)
    for part in parts:
        assert part in str(caught.value)


def test_folders_of_classes_become_arrays_in_order(folder):
    (folder / "train" / "cat" / "notes.txt").write_text("no image")
    (folder / "train" / "cat" / ".hidden.png").write_text("no image")
    arrays = read_folder(folder, {})
    assert arrays["class_names"] == ["cat", "dog"]
    assert arrays["x_train"].shape == (10, 3, 6, 4)
    assert arrays["x_train"].dtype == np.uint8
    assert arrays["x_train"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]
    assert (arrays["x_train"][:, 2] == 7).all()
    assert arrays["y_train"].tolist() == [0] * 5 + [1] * 5
    assert arrays["y_test"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("name", ["cal", "val", "validation"])
def test_a_calibration_split_bears_several_names(folder, name):
    (folder / "test").rename(folder / name)
    paint(folder / "test" / "cat" / "a.jpg")
    paint(folder / "test" / "dog" / "deeper" / "b.JPG")
    data = load_dataset(str(folder))
    assert (len(data.train), len(data.cal), len(data.test)) == (10, 4, 2)
    assert data.class_names == ("cat", "dog")


def test_classes_alone_give_a_stratified_share_to_test_always_the_same(folder):
    arrays = read_folder(folder / "train", {"test_share": 0.4})
    assert np.bincount(arrays["y_test"]).tolist() == [2, 2]
    assert np.bincount(arrays["y_train"]).tolist() == [3, 3]
    again = read_folder(folder / "train", {"test_share": 0.4})
    assert (again["x_test"] == arrays["x_test"]).all()
    reds = [*arrays["x_train"][:, 0, 0, 0], *arrays["x_test"][:, 0, 0, 0]]
    assert sorted(map(int, reds)) == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]


def test_images_are_brought_to_a_size_and_a_kind(folder):
    paint(folder / "train" / "cat" / "0.png", 50, size=(9, 9), mode="L")
    arrays = read_folder(folder, {"size": [3, 2], "mode": "RGB"})
    assert arrays["x_train"].shape == (10, 3, 3, 2)
    assert (arrays["x_train"][0] == 50).all()
    assert read_folder(folder, {"size": [3, 2], "mode": "L"})["x_test"].shape == (4, 1, 3, 2)


def test_kinds_follow_the_images(tmp_path):
    for split in ("train", "test"):
        paint(tmp_path / split / "a" / "0.png", 9, mode="L")
        paint(tmp_path / split / "b" / "0.png", 1, mode="1")
    arrays = read_folder(tmp_path, {})
    assert arrays["x_train"].shape == (2, 1, 6, 4)
    assert arrays["x_train"][:, 0, 0, 0].tolist() == [9, 255]


def test_colour_comes_in_many_modes(folder):
    paint(folder / "train" / "cat" / "0.png", 33, mode="RGBA")
    assert read_folder(folder, {})["x_train"][0, :, 0, 0].tolist() == [33, 0, 7]


def test_images_go_straight_into_one_array(folder, monkeypatch):
    made = []
    empty = np.empty
    monkeypatch.setattr(np, "empty", lambda *args, **kwargs: made.append(args) or empty(*args, **kwargs))
    read_folder(folder, {})
    assert [args for args in made if args[1:] == (np.uint8,)] == [
        ((10, 3, 6, 4), np.uint8),
        ((4, 3, 6, 4), np.uint8),
    ]


class TestRefuses:
    def test_different_sizes_without_one(self, folder):
        file = paint(folder / "test" / "dog" / "1.png", size=(8, 8))
        first = folder / "train" / "cat" / "0.png"
        refused(folder, "different sizes", f"got {file} with [8, 8], {first} with [6, 4]", "args: {size: [6, 4]}")

    def test_grey_among_colours_without_a_mode(self, folder):
        file = paint(folder / "train" / "dog" / "1.png", mode="L")
        refused(folder, "some images are grey and others in colour", f"{file} of mode L", "args: {mode: RGB}")

    def test_an_image_that_cannot_be_read(self, folder):
        file = folder / "train" / "dog" / "3.png"
        file.write_bytes(file.read_bytes()[:40])
        refused(folder, f"cannot read the image {file}", "Mend it or take it out of the folder.")
        file.write_text("no image")
        refused(folder, f"cannot read the image {file}", "UnidentifiedImageError")

    def test_an_empty_folder(self, tmp_path):
        refused(tmp_path, f"the folder {tmp_path} is empty: there are no images", "FOLDER/train/CLASS/IMAGE")

    def test_a_folder_without_classes(self, tmp_path):
        paint(tmp_path / "1.png")
        refused(tmp_path, "has no folders of classes", "got 1 images directly in it", "FOLDER/train/CLASS/IMAGE")

    def test_a_class_without_images(self, folder):
        (folder / "train" / "eel").mkdir()
        refused(folder, f"{folder / 'train' / 'eel'} holds no images", "Add images of that class")

    def test_a_class_of_test_that_train_lacks(self, folder):
        paint(folder / "test" / "eel" / "0.png")
        refused(folder, "has a class that train lacks", "got eel", "cat, dog")

    def test_classes_alone_without_a_share(self, folder):
        refused(folder / "train", "the data have no test split", "args: {test_share: 0.2}")
        refused(folder / "train", "test_share is no share", "got 2", test_share=2)
        refused(folder / "train", "cannot take a stratified test share", "Change `test_share`", test_share=0.01)

    def test_a_share_where_there_is_a_test_split(self, folder):
        refused(folder, "has a test split", "Leave test_share out", test_share=0.2)

    def test_a_folder_with_one_split(self, folder):
        (folder / "test").rename(folder / "val")
        refused(folder, "lacks train or test", "got train, val")

    def test_more_than_eight_bits(self, folder):
        Image.fromarray(np.full((6, 4), 40_000, np.uint16)).save(folder / "train" / "cat" / "0.png")
        refused(folder, "does not have 8 bits per value", "mode I;16", mode="L")

    @pytest.mark.parametrize("size", [32, [32], [0, 4], ["a", "b"], [True, True]])
    def test_what_is_no_size(self, folder, size):
        refused(folder, "size is no size of images", "[HEIGHT, WIDTH]", size=size)

    def test_what_is_no_mode_or_no_argument(self, folder):
        refused(folder, "mode is no kind of image", "'CMYK'", mode="CMYK")
        refused(folder, "got argument root", "expected size, mode, test_share", root="x")

    def test_what_is_not_there(self, folder):
        with pytest.raises(DataError, match=r"the data source is not there; got .*none; expected a .npz"):
            load_dataset(str(folder / "none"))
        with pytest.raises(DataError, match=r"is no folder of images; got .*0\.png"):
            load_dataset(str(folder / "train" / "cat" / "0.png"))


def test_a_frame_resizes_only_when_asked():
    image = Image.new("L", (4, 6), 8)
    assert Frame.of(image, "a", Asked()).shape == (1, 6, 4)
    assert Frame.of(image, "a", Asked((2, 3), "RGB")).pixels(image, "a").shape == (3, 2, 3)
